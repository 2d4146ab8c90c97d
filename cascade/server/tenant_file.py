"""The small file in which the workers of a machine keep what tenants asked and spent.

Every worker maps it into its memory. A slot belongs to one tenant and is guarded by a lock on its bytes,
which the kernel takes back from a worker that dies. The file outlives a restart, and so does what was spent
today.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import mmap
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_SLOT = struct.Struct("<32sdddd")  # the tenant's hash, and the fields of `Slot`
_SLOTS = 16_384
_PROBES = 64

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
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._one = threading.Lock()  # the locks on bytes are a process's, not a thread's
        self._at: dict[str, int] = {}
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

    def read(self, tenant: str) -> Slot:
        """Give what is kept of a tenant, without waiting for anyone; for event loops, too.

        While another process writes, a field may be of before and the next of after.
        """
        at = self._at.get(tenant)
        if at is None:
            at, name = self._find(tenant)
            if not any(name):
                return Slot()
            self._remember(tenant, at)
        return Slot(*_SLOT.unpack_from(self._table, at)[1:])

    @contextmanager
    def change(self, tenant: str) -> Iterator[Slot]:
        """Hold a tenant's slot, and write it at the end. May wait for the disk, but for no other process.

        Raises
        ------
        Held
        """
        with self._one:
            at = self._at.get(tenant)
            if at is None:
                at = self._take(tenant)
            with self._locked(at, _SLOT.size):
                name, *values = _SLOT.unpack_from(self._table, at)
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

    def _take(self, tenant: str) -> int:
        with self._locked(_SLOTS * _SLOT.size, 1):
            at, name = self._find(tenant)
            if not any(name):
                self._table[at : at + 32] = _digest(tenant)
        self._remember(tenant, at)
        return at

    def _remember(self, tenant: str, at: int) -> None:
        if len(self._at) >= _SLOTS:  # names come from callers where there are no keys
            self._at = {}
        self._at[tenant] = at

    def _find(self, tenant: str) -> tuple[int, bytes]:
        """Give a tenant's slot, or a free one for it, and whose it is."""
        digest = _digest(tenant)
        first = int.from_bytes(digest[:4], "little") % _SLOTS
        for probe in range(_PROBES):
            at = (first + probe) % _SLOTS * _SLOT.size
            name = self._table[at : at + 32]
            if name == digest or not any(name):
                return at, name
        # A full neighbourhood: such tenants share one slot rather than have none.
        return first * _SLOT.size, digest

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


def _digest(tenant: str) -> bytes:
    return hashlib.sha256(tenant.encode("utf-8", "replace")).digest()
