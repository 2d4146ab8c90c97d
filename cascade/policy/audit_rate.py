"""How large a share of the settled answers is audited now.

High after a change, because little is known then; falling towards a floor as audits come in; high again while
the audits look bad; capped by what is left of the day's money. The rate is computed from the past only, and
the same for all answers of a bundle at a moment, so the guard's weights are 1 (see
`cascade.policy.eprocess`).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class AuditSettings:
    """How much is audited.

    Attributes
    ----------
    start, floor : float
        The rate right after a change, and the one it falls to, in (0, 1].
    half : int
        Audits after which the rate has fallen to half of `start`.
    daily_usd : float or None
        Money that a node's audits may cost in a day; None: no cap.
    """

    start: float = 0.5
    floor: float = 0.01
    half: int = 200
    daily_usd: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.floor <= self.start <= 1:
            raise ValueError(f"0 < floor <= start <= 1 must hold, not {self.floor} and {self.start}")
        if self.half < 1:
            raise ValueError(f"half must be at least 1, not {self.half}")
        if self.daily_usd is not None and self.daily_usd < 0:
            raise ValueError(f"daily_usd must not be negative: {self.daily_usd}")


@dataclass(frozen=True, slots=True)
class AuditRate:
    """The rate in [0, 1], and why it is what it is."""

    rate: float
    reason: str


def audit_rate(
    settings: AuditSettings,
    audits_since_change: int,
    suspicious: bool = False,
    spent_usd: float = 0.0,
    usd_per_audit: float = 0.0,
    settled_until_midnight: float = 0.0,
) -> AuditRate:
    """Give the share of settled answers to audit now.

    Parameters
    ----------
    settings : AuditSettings
    audits_since_change : int
        Audits since the bundle, its share of the traffic, or the bar last changed.
    suspicious : bool
        Whether the evidence against the bar is above `GuardSettings.suspicious`.
    spent_usd : float
        What the node's audits have cost today.
    usd_per_audit : float
        What one costs on average; 0 where unknown, and then the cap cannot bind before money is spent.
    settled_until_midnight : float
        Answers expected to be settled in the rest of the day. The money left is spread over them, so that the
        afternoon is not left without audits.

    Examples
    --------
    >>> audit_rate(AuditSettings(), 0).rate
    0.5
    >>> audit_rate(AuditSettings(), 200).rate
    0.25
    >>> audit_rate(AuditSettings(daily_usd=1.0), 0, spent_usd=1.0)
    AuditRate(rate=0.0, reason="the day's $1.00 for audits are spent")
    """
    if suspicious:
        rate, reason = settings.start, "the audits look bad"
    else:
        falling = settings.start * settings.half / (settings.half + max(audits_since_change, 0))
        rate, reason = (
            (falling, f"{audits_since_change:,} audits since the last change")
            if falling > settings.floor
            else (settings.floor, "nothing has changed for long")
        )
    if settings.daily_usd is None:
        return AuditRate(rate, reason)
    left = settings.daily_usd - spent_usd
    if left <= 0 or left < usd_per_audit:
        return AuditRate(0.0, f"the day's ${settings.daily_usd:.2f} for audits are spent")
    affordable = left / (usd_per_audit * max(settled_until_midnight, 1.0)) if usd_per_audit > 0 else 1.0
    if affordable < rate:
        return AuditRate(affordable, f"${left:.2f} are left for today's audits")
    return AuditRate(rate, reason)
