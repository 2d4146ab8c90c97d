"""A rollout's steps: shadow, 1 %, 5 %, 25 %, 100 %, by evidence, with or without a person's approval.

A rollout of one bundle is a small state machine. Events come from people (`Start`, `Approve`, `Hold`,
`RollBack`) and from the guard (`Judged`). `apply` is pure and total: the same events in the same order give
the same state, so the append-only event log is the rollout.

    running --guard: promote--> next step                     (automatic)
    running --guard: promote--> awaiting --approve--> next step (by approval)
    running, awaiting --hold--> held --approve--> running
    any but rolled back --guard or person: roll back--> rolled back   (final; only a new start begins again)

What an event finds already done changes nothing, so two workers that judge the same evidence agree. Where
flags and guard contradict each other the guard wins: see `cascade.rollout.choice`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from cascade.errors import RolloutRefused
from cascade.policy.guard import Action

SHADOW = 0
SHARES = (SHADOW, 1, 5, 25, 100)
"""Percent of the traffic that is live on the bundle at each step; at 0 it runs in shadow."""


class Status(StrEnum):
    """What a rollout is doing."""

    RUNNING = "running"
    AWAITING = "awaiting approval"
    HELD = "held"
    ROLLED_BACK = "rolled back"


@dataclass(frozen=True, slots=True)
class Rollout:
    """The state of a bundle's rollout.

    Attributes
    ----------
    bundle : str
    shares : tuple of int
        Percent at each step, rising; the last one is the goal. A 0 in front is the shadow step.
    step : int
        Index into `shares`.
    status : Status
    automatic : bool
        Whether promotion happens by evidence alone.
    reason : str
        Why it is in this state, in one sentence.
    """

    bundle: str
    shares: tuple[int, ...]
    step: int
    status: Status
    automatic: bool
    reason: str

    @property
    def share(self) -> int:
        """Percent of the traffic that the bundle answers now."""
        return 0 if self.status is Status.ROLLED_BACK else self.shares[self.step]

    @property
    def full(self) -> bool:
        """Whether it has reached its last step."""
        return self.step == len(self.shares) - 1 and self.status is not Status.ROLLED_BACK


@dataclass(frozen=True, slots=True)
class Start:
    """A person begins a rollout; `step` is where (0: the first of `shares`)."""

    bundle: str
    who: str
    automatic: bool = True
    shares: tuple[int, ...] = SHARES
    step: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Approve:
    """A person lets it go on: to the next step where it waits for that, or from being held.

    `force` goes to the next step without the evidence.
    """

    who: str
    reason: str = ""
    force: bool = False


@dataclass(frozen=True, slots=True)
class Hold:
    """A person keeps it at its step; the guard may still roll it back."""

    who: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RollBack:
    """A person ends it."""

    who: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Judged:
    """The guard's verdict about `step`; one about another step is stale, unless it rolls back."""

    action: Action
    step: int
    reason: str


Event = Start | Approve | Hold | RollBack | Judged


def apply(rollout: Rollout | None, event: Event) -> Rollout:
    """Give the state after an event.

    Parameters
    ----------
    rollout : Rollout or None
        None where no rollout was ever started.
    event : Event

    Raises
    ------
    RolloutRefused
        A person asked for what is not possible now. The guard is never refused.
    """
    if isinstance(event, Start):
        return _start(event)
    if rollout is None:
        raise RolloutRefused("no rollout was started; `cascade rollout start NODE` begins one")
    match event:
        case Judged():
            return _judged(rollout, event)
        case RollBack():
            if rollout.status is Status.ROLLED_BACK:
                return rollout
            return replace(
                rollout, status=Status.ROLLED_BACK, reason=_said(event.who, "rolled it back", event.reason)
            )
        case Hold():
            _not_over(rollout)
            return replace(rollout, status=Status.HELD, reason=_said(event.who, "holds it", event.reason))
        case Approve():
            return _approve(rollout, event)


def _start(event: Start) -> Rollout:
    shares = event.shares
    if not shares or list(shares) != sorted(set(shares)) or not 0 <= shares[0] <= shares[-1] <= 100:
        raise RolloutRefused(
            f"the steps must rise from 0 (shadow) to at most 100 percent, not {list(shares)}"
        )
    if not 0 <= event.step < len(shares):
        raise RolloutRefused(f"there are {len(shares)} steps; {event.step} is none of them")
    return Rollout(
        event.bundle,
        shares,
        event.step,
        Status.RUNNING,
        event.automatic,
        _said(event.who, "started it", event.reason),
    )


def _approve(rollout: Rollout, event: Approve) -> Rollout:
    _not_over(rollout)
    if rollout.status is Status.HELD and not event.force:
        return replace(rollout, status=Status.RUNNING, reason=_said(event.who, "lets it go on", event.reason))
    if rollout.full:
        raise RolloutRefused(f"{rollout.bundle} is at its last step already")
    if rollout.status is not Status.AWAITING and not event.force:
        raise RolloutRefused(
            f"the evidence to leave {_name(rollout.share)} is not there yet ({rollout.reason}); "
            "wait for it, or approve with --force"
        )
    how = "without the evidence" if event.force and rollout.status is not Status.AWAITING else "approved"
    return _next(rollout, _said(event.who, f"moved it on, {how}" if "without" in how else how, event.reason))


def _judged(rollout: Rollout, event: Judged) -> Rollout:
    if rollout.status is Status.ROLLED_BACK:
        return rollout
    if event.action is Action.ROLL_BACK:
        return replace(rollout, status=Status.ROLLED_BACK, reason=event.reason)
    if event.step != rollout.step or rollout.status is Status.HELD:
        return rollout
    if event.action is Action.HOLD or rollout.full:
        # evidence that was enough stays enough unless the guard now doubts it
        return replace(rollout, status=Status.RUNNING, reason=event.reason)
    if rollout.automatic:
        return _next(rollout, event.reason)
    return replace(rollout, status=Status.AWAITING, reason=event.reason)


def _next(rollout: Rollout, reason: str) -> Rollout:
    return replace(rollout, step=rollout.step + 1, status=Status.RUNNING, reason=reason)


def _not_over(rollout: Rollout) -> None:
    if rollout.status is Status.ROLLED_BACK:
        raise RolloutRefused(
            f"{rollout.bundle} was rolled back ({rollout.reason}); only `cascade rollout start` begins anew"
        )


def _said(who: str, did: str, reason: str) -> str:
    return f"{who} {did}" + (f": {reason}" if reason else "")


def _name(share: int) -> str:
    return "shadow" if share == SHADOW else f"{share} %"
