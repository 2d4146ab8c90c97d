"""The small file in which the workers of a machine keep what tenants asked and spent.

Every worker maps it into its memory. A slot belongs to one tenant and is guarded by a lock on its bytes,
which the kernel takes back from a worker that dies. The file outlives a restart, and so does what was spent
today.

Where there are no keys, names of tenants come from callers, and there may be any number of them. A slot that
says no more than a new one would, of a tenant that may ask its whole burst again and has spent nothing today,
becomes another's. Where all are in use, those who come share one.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import mmap
import os
import struct
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_SLOT = struct.Struct("<32sdddd")  # the tenant's hash, and the fields of `Slot`
_SLOTS = 16_384
_PROBES = 64
_NOBODY = bytes(32)
_DAY = 86_400

_log = logging.getLogger(__name__)


class Held(Exception):
    """Another process is changing the slot, or hangs while it does."""


@dataclass(slots=True)
class Slot:
    """What is kept of a tenant.

    Attributes
    ----------
    tokens, since : float
        Decisions that it may still ask for, and when (Unix time) it was so; `since` is 0 before the first.
    usd, day : float
        What it has spent on that day (UTC, counted from 1970).
    """

    tokens: float = 0.0
    since: float = 0.0
    usd: float = 0.0
    day: float = 0.0


class TenantFile:
    """The file.

    Parameters
    ----------
    path : Path
        Made where it is missing. Where it cannot be used, a table in this process's memory takes its place.
    refill_seconds : float
        After how long without a decision any tenant may ask its whole burst again.
    named : iterable of str
        Tenants that keep a slot of their own, whoever else comes.
    """

    def __init__(self, path: Path, refill_seconds: float = 0.0, named: Iterable[str] = ()) -> None:
        self.path = path
        self._refill_seconds = refill_seconds
        self._named = {_digest(tenant) for tenant in named}
        self._complained = False
        self._one = threading.Lock()  # the locks on bytes are a process's, not a thread's
        self._at: dict[str, tuple[int, bytes]] = {}
        self._file: int | None = None
        size = _SLOTS * _SLOT.size
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.ftruncate(self._file, size)
            self._table = mmap.mmap(self._file, size)
        except OSError as error:
            _log.error("limits of tenants hold for each worker apart: %s cannot be used: %s", path, error)
            self._file, self._table = None, mmap.mmap(-1, size)
        with suppress(Held), self._locked(_SLOTS * _SLOT.size, 1):  # by a worker that begins likewise
            for digest in self._named:
                self._take(digest)

    def read(self, tenant: str) -> Slot:
        """Give what is kept of a tenant, without waiting for anyone; for event loops, too.

        While another process writes, a field may be of before and the next of after.
        """
        at, digest = self._at.get(tenant) or (0, _digest(tenant))
        if self._table[at : at + 32] != digest:
            at, is_own = self._find(digest)
            if not is_own:
                return Slot()
            self._remember(tenant, at, digest)
        return Slot(*_SLOT.unpack_from(self._table, at)[1:])

    @contextmanager
    def change(self, tenant: str) -> Iterator[Slot]:
        """Hold a tenant's slot, and write it at the end. May wait for the disk, but for no other process.

        Raises
        ------
        Held
        """
        with self._one:
            at, digest = self._at.get(tenant) or (0, _digest(tenant))
            if self._table[at : at + 32] != digest:
                with self._locked(_SLOTS * _SLOT.size, 1):
                    at = self._take(digest)
                self._remember(tenant, at, digest)
            with self._locked(at, _SLOT.size):
                name, *values = _SLOT.unpack_from(self._table, at)
                if name != digest and at != _shared():  # it has become another's in the meantime
                    raise Held
                slot = Slot(*values)
                yield slot
                _SLOT.pack_into(self._table, at, name, slot.tokens, slot.since, slot.usd, slot.day)

    def close(self) -> None:
        """Let go of the file."""
        with self._one:
            self._table.close()
            if self._file is not None:
                os.close(self._file)
                self._file = None

    def _take(self, digest: bytes) -> int:
        """Give a tenant's slot, its own from now on if there is one left. Under the table's lock."""
        at, is_own = self._find(digest)
        if not is_own:
            with self._locked(at, _SLOT.size):
                if not self._is_free(at):  # its tenant has come back in the meantime
                    raise Held
                _SLOT.pack_into(self._table, at, digest, 0.0, 0.0, 0.0, 0.0)
        elif at == _shared() and not self._complained:
            self._complained = True
            _log.warning(
                "%s: more tenants at a time than have room there; further ones share one limit", self.path
            )
        return at

    def _remember(self, tenant: str, at: int, digest: bytes) -> None:
        if at == _shared():  # until another one is free
            return
        if len(self._at) >= _SLOTS:
            self._at = {}
        self._at[tenant] = at, digest

    def _find(self, digest: bytes) -> tuple[int, bool]:
        """Give a tenant's slot, else a free one, else the shared one, and whether it is the tenant's."""
        first = int.from_bytes(digest[:4], "little") % _SLOTS
        free: int | None = None
        for probe in range(_PROBES):
            at = (first + probe) % _SLOTS * _SLOT.size
            if at == _shared():
                continue
            name = self._table[at : at + 32]
            if name == digest:
                return at, True
            if free is None and self._is_free(at):
                free = at
            if name == _NOBODY:  # nor is the tenant further on: a slot is never given back to nobody
                break
        return (_shared(), True) if free is None else (free, False)

    def _is_free(self, at: int) -> bool:
        """Whether a slot is nobody's, or says no more of its tenant than a new one would."""
        name, _, since, usd, day = _SLOT.unpack_from(self._table, at)
        if name == _NOBODY:
            return True
        now = time.time()
        idle = since + self._refill_seconds <= now and not (usd and day == now // _DAY)
        return idle and name not in self._named

    @contextmanager
    def _locked(self, at: int, size: int) -> Iterator[None]:
        if self._file is None:
            yield
            return
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, size, at)
        except OSError:
            raise Held from None
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN, size, at)


def _shared() -> int:
    """Give the place of the slot of those who have none of their own: the last one."""
    return (_SLOTS - 1) * _SLOT.size


def _digest(tenant: str) -> bytes:
    return hashlib.sha256(tenant.encode("utf-8", "replace")).digest()
