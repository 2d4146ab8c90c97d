"""What tenants may ask and spend, counted together by all workers of a machine.

The counts are in a small file that every worker maps into its memory; a slot belongs to one tenant and is
guarded by a lock on its bytes, which the kernel takes back from a worker that dies. The file outlives a
restart, and so does what was spent today.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import math
import mmap
import os
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from cascade.config.security import TenantConfig
from cascade.errors import Overloaded

DEFAULT = "default"
"""The name under `tenants` that stands for all tenants that are not named."""

_SLOT = struct.Struct("<32sdddd")  # the tenant's hash; tokens and since when; dollars and their day
_SLOTS = 16_384
_PROBES = 64
_DAY = 86_400

_log = logging.getLogger(__name__)


class QuotaExceeded(Overloaded):
    """A tenant asked or spent more than it may."""

    reason = "QUOTA_EXCEEDED"


class Quotas:
    """Rates and spending of tenants.

    Parameters
    ----------
    tenants : mapping of str to TenantConfig
    path : Path
        The shared file; made where it is missing. Counting in memory only, where it cannot be used.
    """

    def __init__(self, tenants: Mapping[str, TenantConfig], path: Path) -> None:
        self._tenants = tenants
        self._lock = threading.Lock()
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

    def limits(self, tenant: str) -> TenantConfig | None:
        """Give what is configured for a tenant."""
        return self._tenants.get(tenant) or self._tenants.get(DEFAULT)

    def take(self, tenant: str, n: int = 1) -> None:
        """Count n decisions asked for.

        Raises
        ------
        QuotaExceeded
            They are more than the tenant may ask now. Nothing is counted then.
        """
        limits = self.limits(tenant)
        if limits is None or limits.requests_per_second is None:
            return
        rate = limits.requests_per_second
        burst = float(limits.burst or max(1, math.ceil(rate)))
        if n > burst:
            raise QuotaExceeded(
                f"{n} decisions at once are more than this tenant may ever ask at once ({burst:g})"
            )
        with self._slot(tenant) as at:
            name, tokens, since, usd, day = _SLOT.unpack_from(self._table, at)
            now = time.time()
            tokens = burst if not since else min(burst, tokens + max(0.0, now - since) * rate)
            wait = (n - tokens) / rate
            if wait <= 1e-6:  # rounding
                _SLOT.pack_into(self._table, at, name, tokens - n, now, usd, day)
        if wait > 1e-6:
            raise QuotaExceeded(f"this tenant may ask {rate:g} decisions a second", retry_after=wait)

    def check_spending(self, tenant: str) -> None:
        """Say whether the teacher may be paid for a tenant.

        Raises
        ------
        QuotaExceeded
            Today's limit (UTC) is used up; it holds when the next day begins.
        """
        limits = self.limits(tenant)
        if limits is None or limits.usd_per_day is None:
            return
        now = time.time()
        if self.spent(tenant) >= limits.usd_per_day:
            raise QuotaExceeded(
                f"this tenant has used up its ${limits.usd_per_day:g} for today; only local answers are left",
                retry_after=_DAY - now % _DAY,
            )

    def spent(self, tenant: str) -> float:
        """Give the dollars that a tenant has spent today (UTC)."""
        with self._slot(tenant) as at:
            *_, usd, day = _SLOT.unpack_from(self._table, at)
        return float(usd) if day == time.time() // _DAY else 0.0

    def spend(self, tenant: str, usd: float) -> None:
        """Count what was paid for a tenant."""
        limits = self.limits(tenant)
        if not usd or limits is None or limits.usd_per_day is None:
            return
        with self._slot(tenant) as at:
            name, tokens, since, before, day = _SLOT.unpack_from(self._table, at)
            today = float(time.time() // _DAY)
            total = usd + (before if day == today else 0.0)
            _SLOT.pack_into(self._table, at, name, tokens, since, total, today)

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._table.close()
            if self._file is not None:
                os.close(self._file)
                self._file = None

    @contextmanager
    def _slot(self, tenant: str) -> Iterator[int]:
        """Hold a tenant's slot; gives its offset."""
        with self._lock:
            at = self._at.get(tenant)
            if at is None:
                at = self._at[tenant] = self._find(tenant)
                if len(self._at) > _SLOTS:  # names come from callers where there are no keys
                    self._at = {tenant: at}
            with self._locked(at, _SLOT.size):
                yield at

    def _find(self, tenant: str) -> int:
        digest = hashlib.sha256(tenant.encode("utf-8", "replace")).digest()
        first = int.from_bytes(digest[:4], "little") % _SLOTS
        with self._locked(_SLOTS * _SLOT.size, 1):
            for probe in range(_PROBES):
                at = (first + probe) % _SLOTS * _SLOT.size
                name = self._table[at : at + 32]
                if name == digest:
                    return at
                if not any(name):
                    self._table[at : at + 32] = digest
                    return at
        return first * _SLOT.size  # a full neighbourhood: such tenants share one slot rather than have none

    @contextmanager
    def _locked(self, at: int, size: int) -> Iterator[None]:
        if self._file is None:
            yield
            return
        fcntl.lockf(self._file, fcntl.LOCK_EX, size, at)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN, size, at)
