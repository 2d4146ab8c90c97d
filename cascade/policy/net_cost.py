"""What a ladder saves, net: the teacher's calls that it spares less all that it spends. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Prices:
    """What things cost, in dollars.

    Attributes
    ----------
    teacher_call : float
        One answer of the teacher, its retries included.
    cpu_hour : float
        One core for an hour.
    retraining : float
        One retraining.
    decisions_per_retraining : float
        Over how many decisions it is spread.
    audit_share : float
        Share of the settled answers that the teacher is asked about as well, in [0, 1].
    """

    teacher_call: float
    cpu_hour: float
    retraining: float
    decisions_per_retraining: float
    audit_share: float


@dataclass(frozen=True, slots=True)
class NetCost:
    """Dollars a decision.

    Attributes
    ----------
    spared : float
        Teacher calls that are not made.
    drafts : float
        Local answers that settled.
    failed_drafts : float
        Local answers that did not: the teacher, or the next rung, was asked all the same.
    audits, retraining : float
    """

    spared: float
    drafts: float
    failed_drafts: float
    audits: float
    retraining: float

    @property
    def spent(self) -> float:
        """All that the ladder spends besides the teacher's answers to callers."""
        return self.drafts + self.failed_drafts + self.audits + self.retraining

    @property
    def net(self) -> float:
        """What is saved against always asking the teacher; negative where the ladder costs more."""
        return self.spared - self.spent

    def to_json(self) -> dict[str, Any]:
        """Give all figures as JSON values."""
        return {**asdict(self), "spent": self.spent, "net": self.net}


def net_cost(
    settled: Sequence[float],
    ran: Sequence[float],
    rung_ms: Sequence[float],
    prices: Prices,
    rung_usd: Sequence[float] = (),
) -> NetCost:
    """Give what a ladder saves and spends on a decision.

    Parameters
    ----------
    settled : sequence of n_rungs floats in [0, 1]
        Share of all decisions that each local rung settles.
    ran : sequence of n_rungs floats in [0, 1]
        Share of all decisions that each local rung runs for.
    rung_ms : sequence of n_rungs floats
        Milliseconds of one core that one run takes.
    prices : Prices
    rung_usd : sequence of n_rungs floats, optional
        What one run costs besides, where the rung is a chat model.

    Examples
    --------
    Half is settled for next to nothing, so half of the teacher's price is saved, less 2 % of audits:

    >>> prices = Prices(0.001, 0.05, retraining=0.0, decisions_per_retraining=1, audit_share=0.02)
    >>> round(net_cost([0.5], [1.0], [1.0], prices).net, 6)
    0.00049
    """
    per_ms = prices.cpu_hour / 3_600_000
    share = sum(settled)
    each = [ms * per_ms + usd for ms, usd in zip(rung_ms, rung_usd or [0.0] * len(rung_ms), strict=True)]
    return NetCost(
        spared=share * prices.teacher_call,
        drafts=sum(s * usd for s, usd in zip(settled, each, strict=True)),
        failed_drafts=sum((r - s) * usd for r, s, usd in zip(ran, settled, each, strict=True)),
        audits=share * prices.audit_share * prices.teacher_call,
        retraining=prices.retraining / prices.decisions_per_retraining,
    )


def too_dear(cost: NetCost, prices: Prices) -> str:
    """Say why everything is left to the teacher; empty where the ladder pays, or no price says otherwise.

    A teacher without a price is no ground for a verdict: who runs it may want the latency.

    Examples
    --------
    >>> prices = Prices(1e-5, 0.05, retraining=0.02, decisions_per_retraining=1000, audit_share=0.02)
    >>> too_dear(net_cost([0.5], [1.0], [1.0], prices), prices)
    'per 1,000 decisions it spares $0.005 of teacher calls and spends $0.02011'
    """
    if prices.teacher_call <= 0 or cost.net > 0:
        return ""
    return (
        f"per 1,000 decisions it spares ${1000 * cost.spared:.4g} of teacher calls and spends "
        f"${1000 * cost.spent:.4g}"
    )


def price_of_wrong(wrong_answer: float | None, teacher_call: float, bar: float) -> float:
    """Give what a wrong answer costs: as configured, or as the bar implies.

    At a bar of a, an answer with P(right) = a is just worth settling: the call it spares weighs as much as
    the harm that it does with chance 1 - a.

    Examples
    --------
    >>> round(price_of_wrong(None, 0.001, 0.95), 6)
    0.02
    """
    return wrong_answer if wrong_answer is not None else teacher_call / (1 - bar)
