"""The guard: decides from audits and reported outcomes whether a bundle goes on, waits, or is pulled back.

It asks two questions about "agreement with the teacher >= bar", for each node and bundle, over all that is
settled locally and over each certified slice.

*Is it broken?* For all and for each slice a betting test (`cascade.policy.eprocess`) gathers evidence that
disagreement is above 1 - bar. The evidence is averaged, half for all and half shared by the slices (all of it
for "all" where there are no slices). An average of e-processes is one too, so slices cost no further error:
if agreement keeps the bar overall and in each slice the slice's, and be it exactly at the bar, the chance
that the average *ever* reaches 1 / (share of delta) is at most that share. Averaging beats splitting delta:
whatever a split would reject, the average rejects. Audits get 4/5 of delta, reported outcomes 1/5, which
together is delta over the bundle's whole life.

*Is it good enough for more traffic?* A second test, begun anew at each step of the rollout, gathers evidence
that disagreement is below 1 - bar + margin. A candidate exactly at the bar cannot be told from one a hair
below, so each step has a margin, a multiple of 1 - bar, that shrinks as the share grows. The chance to leave
a step while agreement is below bar - margin is at most `promote_delta`.

**What is promised about what.** The null is: at every moment, given the past, an answer settled then
disagrees with a chance of at most 1 - bar. The audit's draw must be independent of the answer given its
logged propensity.

**Order.** Records carry the sequence number under which they were committed. A record whose number is not
above the last one taken changes nothing. So workers that read the log in that order, or one that reads it
again after a crash, reach the same state, whatever the records' clocks say. The state remembers the highest
evidence so far, hence it does not matter either how often somebody looks at it.

**Reported outcomes** are not a random sample: people report what went wrong. So every settled answer that
nobody reported on counts as right. That can only lower the evidence, whoever reports, what, and how late: the
wealth of a fixed stake depends on counts only and grows with the wrong ones. Reports therefore can pull a
bundle back, but never promote it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from cascade.policy.guard_settings import ALL, MARGINS, GuardSettings
from cascade.policy.guard_state import AuditRecord, GuardState, Tally, new_guard, observe

__all__ = [
    "ALL", "MARGINS", "Action", "AuditRecord", "GuardSettings", "GuardState", "Raised", "ReportedBlock",
    "Tally", "Verdict", "decide", "new_guard", "observe", "reported_evidence",
]  # fmt: skip


class Action(StrEnum):
    """What the guard wants."""

    HOLD = "hold"
    PROMOTE = "promote"
    ROLL_BACK = "roll back"


@dataclass(frozen=True, slots=True)
class ReportedBlock:
    """Counts of a stretch of decisions that a bundle settled, in the order they were settled.

    Attributes
    ----------
    settled : int
        Decisions settled locally.
    wrong : int
        Those of them that at least one report calls wrong; the last report on a decision counts.
    """

    settled: int
    wrong: int

    def __post_init__(self) -> None:
        if not 0 <= self.wrong <= self.settled:
            raise ValueError(f"0 <= wrong <= settled must hold, not {self.wrong} of {self.settled}")


def reported_evidence(settings: GuardSettings, blocks: Sequence[ReportedBlock]) -> float:
    """Give the evidence against the bar in reported outcomes; what nobody reported on counts as right.

    Parameters
    ----------
    settings : GuardSettings
    blocks : sequence of ReportedBlock
        All that the bundle settled in its life, cut into stretches (say, of 500 decisions), oldest first; a
        report belongs to its decision's block, whenever it came. A change is found from the block on where it
        happened.
    """
    test = settings.broken[ALL]
    wealth = test.start()
    for block in blocks:
        wealth = test.bet_counts(wealth, block.wrong, block.settled)
    return float(test.evidence(wealth))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the guard decides.

    Attributes
    ----------
    action : Action
    reason : str
        One sentence.
    trigger : str
        What decided: "audits", "outcomes", or an alarm's name.
    evidence : float
        The evidence against the bar.
    needed : float
        The evidence at which a bundle is rolled back.
    """

    action: Action
    reason: str
    trigger: str
    evidence: float
    needed: float


@dataclass(frozen=True, slots=True)
class Raised:
    """An alarm that is raised: see `cascade.policy.alarms`."""

    name: str
    reason: str
    action: Action


def decide(
    settings: GuardSettings,
    state: GuardState,
    step: int,
    reported: Sequence[ReportedBlock] = (),
    raised: Sequence[Raised] = (),
) -> Verdict:
    """Decide what becomes of the bundle.

    Rolling back comes before holding, and holding before promoting.

    Parameters
    ----------
    settings : GuardSettings
    state : GuardState
        After all audits so far.
    step : int
        The rollout's step now; the last one cannot be left.
    reported : sequence of ReportedBlock
        See `reported_evidence`.
    raised : sequence of Raised
        Alarms that are raised now.
    """
    needed, evidence = settings.audits_needed, max(state.evidence, 0.0)
    if state.peak >= needed:
        return Verdict(Action.ROLL_BACK, _broken(settings, state), "audits", state.peak, needed)
    if reported and (by_reports := reported_evidence(settings, reported)) >= settings.outcomes_needed:
        settled, wrong = sum(b.settled for b in reported), sum(b.wrong for b in reported)
        reason = (
            f"{wrong:,} of {settled:,} settled answers were reported wrong, which {_rarity(by_reports)} "
            f"if {settings.bar:.4g} of them were right"
        )
        return Verdict(Action.ROLL_BACK, reason, "outcomes", by_reports, settings.outcomes_needed)
    for action in (Action.ROLL_BACK, Action.HOLD):
        for alarm in raised:
            if alarm.action is action:
                return Verdict(action, alarm.reason, alarm.name, evidence, needed)
    if evidence >= settings.suspicious:
        reason = (
            f"the audits look bad but prove nothing yet: evidence {evidence:.3g} against the bar, "
            f"{needed:.3g} rolls back"
        )
        return Verdict(Action.HOLD, reason, "audits", evidence, needed)
    action, reason = _promotion(settings, state, step)
    return Verdict(action, reason, "audits", evidence, needed)


def _broken(settings: GuardSettings, state: GuardState) -> str:
    where = f" in slice {state.peak_part!r}" if state.peak_part != ALL else ""
    stretch = state.peak_stretch
    counts = f"{state.peak_disagreements:,} of {state.peak_audits:,} audited answers{where}"
    if 0 < stretch.n < state.peak_audits:
        counts = (
            f"{stretch.hits:,} of the last {stretch.n:,} audited answers{where} "
            f"({state.peak_disagreements:,} of {state.peak_audits:,} in all)"
        )
    return (
        f"{counts} disagreed with the teacher, which {_rarity(state.peak)} "
        f"while agreement keeps the bar of {settings.bars[state.peak_part]:.4g}"
    )


def _rarity(evidence: float) -> str:
    return f"happens in at most 1 of {evidence:,.0f} lifetimes" if evidence < 1e6 else "all but never happens"


def _promotion(settings: GuardSettings, state: GuardState, step: int) -> tuple[Action, str]:
    if step >= len(settings.margins):
        return Action.HOLD, "all traffic is on the bundle; audits go on and find nothing wrong"
    audits = state.promotion.audits if state.step == step else 0
    floor = 1 - settings.good_enough(step).limit
    if audits < settings.min_audits:
        return (
            Action.HOLD,
            f"{audits} audit{'' if audits == 1 else 's'} at this step; "
            f"at least {settings.min_audits} are needed",
        )
    needed = 1 / settings.promote_delta
    evidence = state.promotion.evidence
    unjudged = state.promotion.unjudged
    counts = f"{state.promotion.disagreements - unjudged:,} of {audits:,} audits at this step disagreed"
    if unjudged:
        counts += f" and {unjudged:,} had no verdict, which counts the same here"
    if evidence < needed:
        return Action.HOLD, (
            f"{counts}: agreement of at least {floor:.4g} is not proven yet "
            f"(evidence {evidence:.3g} of {needed:.3g})"
        )
    return Action.PROMOTE, (
        f"{counts}: agreement is at least {floor:.4g} with confidence {1 - settings.promote_delta:.4g}"
    )
