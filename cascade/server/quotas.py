"""What tenants may ask and spend, counted together by all workers of a machine.

The counts are in a file that the workers share (`TenantFile`). No event loop ever waits for that file or for
another worker's lock on it: one thread does all that is to be done there, and takes some of a busy tenant's
decisions ahead, so that counting one of them is a subtraction in memory.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path

from cascade.config.security import TenantConfig
from cascade.server.lease import ROUNDING, Lease, QuotaExceeded, share_out, tell
from cascade.server.tenant_file import Held, Slot, TenantFile
from cascade.waiting import waiting

DEFAULT = "default"
"""The name under `tenants` that stands for all tenants that are not named."""

PATIENCE = 0.05
"""After how many seconds without a tenant's slot this worker counts for itself."""

_PASS_SECONDS = 1.0
_TRY_SECONDS = 0.002
_DAY = 86_400

_log = logging.getLogger(__name__)


class Quotas:
    """Rates and spending of tenants. May be used by many threads and event loops.

    Over all workers a tenant gets no more than its burst and its rate, and what each worker that it asks may
    hold in hand (`AHEAD_SHARE`, `AHEAD_SECONDS` of `cascade.server.lease`); what some hold and do not need is
    back in the file after two seconds. Where the slot of a tenant cannot be had, because a worker hangs that
    holds it, the limits hold for each worker apart until it can.

    Parameters
    ----------
    tenants : mapping of str to TenantConfig
    path : Path
        The shared file; made where it is missing. Counting in memory only, where it cannot be used.
    """

    def __init__(self, tenants: Mapping[str, TenantConfig], path: Path) -> None:
        self._tenants = tenants
        rated = [Lease("", limits) for limits in tenants.values() if limits.requests_per_second]
        refill_seconds = max((lease.burst / lease.rate for lease in rated), default=0.0)
        self._file = TenantFile(path, refill_seconds, set(tenants) - {DEFAULT})
        self._lock = threading.Lock()  # held for memory only, never while the file is touched
        self._leases: dict[str, Lease] = {}
        self._due: dict[str, Lease] = {}  # of which there is something to do in the file
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._closed = False

    def limits(self, tenant: str) -> TenantConfig | None:
        """Give what is configured for a tenant."""
        return self._tenants.get(tenant) or self._tenants.get(DEFAULT)

    def take(self, tenant: str, n: int = 1) -> None:
        """Count n decisions asked for. For threads that may wait a moment.

        Raises
        ------
        QuotaExceeded
            They are more than the tenant may ask now. Nothing is counted then.
        """
        counted = self.begin_take(tenant, n)
        if counted is not None:
            with waiting():
                counted.result()

    def begin_take(self, tenant: str, n: int = 1) -> Future[None] | None:
        """Count n decisions asked for, without waiting. For event loops.

        Returns
        -------
        Future or None
            None where they are counted. Else they will be within moments, or the future raises QuotaExceeded.

        Raises
        ------
        QuotaExceeded
            They are more than the tenant may ask now. Nothing is counted then.
        """
        limits = self.limits(tenant)
        if limits is None or limits.requests_per_second is None or self._closed:
            return None
        with self._lock:
            lease = self._lease(tenant, limits)
            lease.used = True
            if n <= lease.in_hand + ROUNDING:
                lease.in_hand -= n
                if lease.in_hand < lease.ahead / 2 and tenant not in self._due:
                    self._do(lease)
                return None
            own = lease.own is not None
            in_hand = lease.in_hand
        if n > lease.burst:
            raise QuotaExceeded(
                f"{n} decisions at once are more than this tenant may ever ask at once ({lease.burst:g})"
            )
        if own:
            refused = self._take_own(lease, n)
        else:
            # A look that may be a moment old, so that who asks too much costs no more than that.
            kept, now = self._file.read(tenant), time.time()
            refused = lease.refusal(n, in_hand + lease.tokens(kept.tokens, kept.since, now))
            if kept.since > now:  # the clock was set back; only who is counted has it written that it is now
                refused = None
        if refused is not None:
            raise refused
        if own:
            return None
        counted: Future[None] = Future()
        with self._lock:
            lease.waiters.append((n, counted))
            self._do(lease)
        return counted

    def check_spending(self, tenant: str) -> None:
        """Say whether the teacher may be paid for a tenant. Does not wait.

        Raises
        ------
        QuotaExceeded
            Today's limit (UTC) is used up; it holds when the next day begins.
        """
        limits = self.limits(tenant)
        if limits is None or limits.usd_per_day is None or self._closed:
            return
        now = time.time()
        if self.spent(tenant) >= limits.usd_per_day:
            raise QuotaExceeded(
                f"this tenant has used up its ${limits.usd_per_day:g} for today; only local answers are left",
                retry_after=_DAY - now % _DAY,
            )

    def spent(self, tenant: str) -> float:
        """Give the dollars that a tenant has spent today (UTC)."""
        lease = self._leases.get(tenant)
        unpaid = lease.unpaid if lease is not None else 0.0
        kept = self._file.read(tenant)
        return unpaid + (kept.usd if kept.day == time.time() // _DAY else 0.0)

    def spend(self, tenant: str, usd: float) -> None:
        """Count what was paid for a tenant; the other workers know of it within moments. Does not wait."""
        limits = self.limits(tenant)
        if not usd or limits is None or limits.usd_per_day is None or self._closed:
            return
        with self._lock:
            lease = self._lease(tenant, limits)
            lease.unpaid += usd
            self._do(lease)

    def close(self) -> None:
        """Write what is not in the file yet, give back what is in hand, and let go of the file."""
        with self._lock:
            self._closed = True
            thread = self._thread
        self._wake.set()
        if thread is not None:
            thread.join(10)
        for lease in self._leases.values():
            lease.used = False
            end = time.monotonic() + PATIENCE
            while not self._settle(lease) and time.monotonic() < end:
                time.sleep(_TRY_SECONDS)
        self._file.close()

    def _lease(self, tenant: str, limits: TenantConfig) -> Lease:
        # Under the lock.
        lease = self._leases.get(tenant)
        if lease is None:
            lease = self._leases[tenant] = Lease(tenant, limits)
        return lease

    def _do(self, lease: Lease) -> None:
        # Under the lock: have the thread look after a tenant.
        self._due[lease.tenant] = lease
        self._wake.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="cascade-quotas", daemon=True)
            self._thread.start()

    def _take_own(self, lease: Lease, n: int) -> QuotaExceeded | None:
        """Count by this worker's own count; say why that refuses, where it does."""
        now = time.time()
        with self._lock:
            if lease.own is None:  # the slot can be had again: only a moment ago it could not
                return None
            have = lease.tokens(*lease.own, now)
            refused = lease.refusal(n, have)
            lease.own = (have if refused else have - n), now
        return refused

    # What follows runs in the thread.

    def _work(self) -> None:
        next_pass = time.monotonic() + _PASS_SECONDS
        pause: float | None = _PASS_SECONDS
        while True:
            self._wake.wait(pause)
            self._wake.clear()
            with self._lock:
                if self._closed:
                    return
                due, self._due = list(self._due.values()), {}
            stuck = [lease for lease in due if not self._settle_safely(lease)]
            now = time.monotonic()
            if now >= next_pass:
                next_pass = now + _PASS_SECONDS
                self._pass()
            with self._lock:
                self._due |= {lease.tenant: lease for lease in stuck}
                pause = next_pass - now if self._leases else None
            if stuck:
                alone = all(lease.own is not None for lease in stuck)
                pause = PATIENCE if alone else _TRY_SECONDS

    def _pass(self) -> None:
        """Have what tenants that ask no more left in hand given back, and forget them then."""
        with self._lock:
            for tenant, lease in list(self._leases.items()):
                if lease.used:
                    lease.used = False
                elif lease.in_hand:
                    self._do(lease)
                elif not (lease.waiters or lease.unpaid or lease.own):
                    del self._leases[tenant]

    def _settle_safely(self, lease: Lease) -> bool:
        try:
            return self._settle(lease)
        except Exception:  # the thread lives on for the other tenants
            _log.exception("the limits of a tenant could not be counted")
            return True

    def _settle(self, lease: Lease) -> bool:
        """Do what is to be done in a tenant's slot; False where it cannot be had."""
        waiters: list[tuple[int, Future[None]]] = []
        answers: list[tuple[Future[None], QuotaExceeded | None]] = []
        try:
            with self._file.change(lease.tenant) as slot:
                # All else that wants decisions of this tenant waits for these moments.
                with self._lock:
                    waiters, lease.waiters = lease.waiters, []
                    in_hand, lease.in_hand = lease.in_hand, 0.0
                    unpaid = lease.unpaid
                self._pay(slot, unpaid)
                if lease.rate:
                    in_hand, answers = share_out(lease, slot, in_hand, waiters)
        except Held:
            self._wait_longer(lease)
            return False
        except Exception:
            tell([(counted, None) for _, counted in waiters])  # a bug of ours refuses nobody
            raise
        with self._lock:
            lease.in_hand += in_hand
            lease.unpaid -= unpaid
            found_again, lease.stuck, lease.own = lease.own is not None, None, None
        if found_again:
            _log.warning("the limits of tenants hold for all workers together again")
        tell(answers)
        return True

    def _pay(self, slot: Slot, usd: float) -> None:
        if usd:
            today = float(time.time() // _DAY)
            slot.usd = usd + (slot.usd if slot.day == today else 0.0)
            slot.day = today

    def _wait_longer(self, lease: Lease) -> None:
        """Where a slot was waited for long enough, let this worker count for itself."""
        now = time.monotonic()
        if lease.stuck is None:
            lease.stuck = now
        if now - lease.stuck < PATIENCE:
            return
        if lease.own is None:
            _log.error(
                "limits of tenants hold for each worker apart: another process holds its lock on %s for "
                "more than %g s", self._file.path, PATIENCE,
            )  # fmt: skip
            kept, wall = self._file.read(lease.tenant), time.time()
            with self._lock:
                have = lease.in_hand + lease.tokens(kept.tokens, kept.since, wall)
                lease.in_hand, lease.own = 0.0, (min(lease.burst, have), wall)
        with self._lock:
            waiters, lease.waiters = lease.waiters, []
        tell([(counted, self._take_own(lease, n)) for n, counted in waiters])
