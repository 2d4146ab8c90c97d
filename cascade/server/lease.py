"""What one worker holds of one tenant's limits: decisions in hand, money not written yet, those who wait."""

from __future__ import annotations

import math
import time
from concurrent.futures import Future

from cascade.config.security import TenantConfig
from cascade.errors import Overloaded
from cascade.server.tenant_file import Slot

AHEAD_SHARE, AHEAD_SECONDS = 1 / 32, 0.05
"""What a worker takes ahead: at most that share of the burst, and what the rate gives in so many seconds."""

ROUNDING = 1e-6


class QuotaExceeded(Overloaded):
    """A tenant asked or spent more than it may."""

    reason = "QUOTA_EXCEEDED"


class Lease:
    """A tenant that this worker counts for.

    Attributes
    ----------
    in_hand : float
        Decisions that were taken from the file and not asked for yet.
    unpaid : float
        Dollars that were spent and are not in the file yet.
    waiters : list of (int, Future)
        Who waits for how many decisions.
    stuck : float, optional
        Since when (monotonic) the slot cannot be had.
    own : (float, float), optional
        While this worker counts for itself: tokens, and since when.
    """

    __slots__ = (
        "ahead", "burst", "in_hand", "own", "rate", "stuck", "tenant", "unpaid", "used", "waiters",
    )  # fmt: skip

    def __init__(self, tenant: str, limits: TenantConfig) -> None:
        self.tenant = tenant
        self.rate = limits.requests_per_second or 0.0
        self.burst = float(limits.burst or max(1, math.ceil(self.rate)))
        self.ahead = float(math.floor(min(self.burst * AHEAD_SHARE, self.rate * AHEAD_SECONDS)))
        self.in_hand = self.unpaid = 0.0
        self.waiters: list[tuple[int, Future[None]]] = []
        self.used = True
        self.stuck: float | None = None
        self.own: tuple[float, float] | None = None

    def tokens(self, tokens: float, since: float, now: float) -> float:
        """Give how many decisions there are now, of what there was."""
        return self.burst if not since else min(self.burst, tokens + max(0.0, now - since) * self.rate)

    def refusal(self, n: int, have: float) -> QuotaExceeded | None:
        """Say why n decisions are too many; None where they are not."""
        wait = (n - have) / self.rate
        if wait <= ROUNDING:
            return None
        return QuotaExceeded(f"this tenant may ask {self.rate:g} decisions a second", retry_after=wait)


def share_out(
    lease: Lease, slot: Slot, in_hand: float, waiters: list[tuple[int, Future[None]]]
) -> tuple[float, list[tuple[Future[None], QuotaExceeded | None]]]:
    """Give those who wait what there is, in their order; gives what is in hand then, and who is told what."""
    now = time.time()
    pot = in_hand + lease.tokens(slot.tokens, slot.since, now)
    answers: list[tuple[Future[None], QuotaExceeded | None]] = []
    for n, counted in waiters:
        if counted.cancelled():  # its caller went away
            continue
        refused = lease.refusal(n, pot)
        if refused is None:
            pot -= n
        answers.append((counted, refused))
    in_hand = min(lease.ahead, float(math.floor(max(0.0, pot)))) if lease.used else 0.0
    slot.tokens, slot.since = min(lease.burst, pot - in_hand), now
    return in_hand, answers


def tell(answers: list[tuple[Future[None], QuotaExceeded | None]]) -> None:
    """Tell those who waited that they are counted, or why not."""
    for counted, refused in answers:
        if not counted.set_running_or_notify_cancel():
            continue
        if refused is None:
            counted.set_result(None)
        else:
            counted.set_exception(refused)
