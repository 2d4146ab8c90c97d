"""Where a node's rollout stands: the fold of its append-only events, the same for everyone who reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Literal, get_args

from cascade.errors import RolloutRefused
from cascade.policy import steps
from cascade.policy.guard import Action
from cascade.rollout.choice import Plan

What = Literal["start", "promote", "doubt", "approve", "hold", "rollback", "fence"]
"""What happens to a rollout.

start: a bundle begins, by a person. promote: the guard has the evidence to leave the present step; the next
one begins, or a person is waited for. doubt: while a person is waited for, the guard no longer finds the
evidence good. approve: a person lets it go on. hold: a person keeps it where it is. rollback: a bundle is
pulled back and barred, by the guard or a person. fence: live traffic is not like the records that a bundle
was certified on, so it settles nothing until it is started again.
"""
WHATS: tuple[What, ...] = get_args(What)
GUARD = "guard"


@dataclass(frozen=True, slots=True)
class Event:
    """One change of a rollout.

    Attributes
    ----------
    node : str
    seq : int
        Its place among the node's events, from 1, without gaps. Whoever writes one says which place it is
        meant for, so that of two who decide at once one finds the place taken.
    time : float
        Unix seconds by the writer's clock. Order is by `seq`, never by this.
    who : str
        The person, or `guard`.
    what : What
    why : str
        One sentence.
    bundle : str
        The version it is about.
    data : mapping
        start: `stable` (what serves the others), `shares`, `step`, `automatic`, `marks`. approve: `force`.
        promote and doubt: `step`. fence: `n`, `p_value`, `level` of the test. What the decision was made on,
        such as `evidence`, may stand beside.
    """

    node: str
    seq: int
    time: float
    who: str
    what: What
    why: str
    bundle: str
    data: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Life:
    """What of a bundle's evidence counts: what came of decisions since it was last started.

    Attributes
    ----------
    seq : int
        The event that started it; 0 where none ever did, and all of its evidence counts.
    evidence, decisions : int
        The last evidence and the last decision before that.
    """

    seq: int = 0
    evidence: int = 0
    decisions: int = 0


@dataclass(frozen=True, slots=True)
class NodeRollout:
    """Where a node's rollout stands.

    Attributes
    ----------
    node : str
    seq : int
        The last event's; 0 before the first.
    rollout : steps.Rollout, optional
        Of the bundle that was started last; None before the first start.
    before : str
        What served the others when it was started; empty where the teacher did.
    replaced : tuple of str
        Versions that completed rollouts replaced, the latest last.
    given_up : tuple of str
        Versions whose rollout was given up for another one's. A pointer that names one has no effect; unlike
        those that were replaced they serve nobody when another is rolled back, since nothing proved them.
    barred : mapping of str to str
        Versions that were rolled back, and why.
    fenced : mapping of str to Event
        Versions whose live traffic changed since they were started last, and the event that says so.
    starts : mapping of str to Event
        The last start of each version.
    since : float
        When the present step began, in Unix seconds.
    step_seq : int
        The event that began the present step.
    lives : mapping of str to Life
        Of each version that was ever started, whoever is being rolled out now; see `life_of`.
    last : Event, optional
        The last event.
    """

    node: str
    seq: int = 0
    rollout: steps.Rollout | None = None
    before: str = ""
    replaced: tuple[str, ...] = ()
    given_up: tuple[str, ...] = ()
    barred: Mapping[str, str] = field(default_factory=dict)
    fenced: Mapping[str, Event] = field(default_factory=dict)
    starts: Mapping[str, Event] = field(default_factory=dict)
    since: float = 0.0
    step_seq: int = 0
    lives: Mapping[str, Life] = field(default_factory=dict)
    last: Event | None = None

    @property
    def candidate(self) -> str:
        """The version on its way up; empty where none is."""
        rollout = self.rollout
        if rollout is None or rollout.full or rollout.status is steps.Status.ROLLED_BACK:
            return ""
        return rollout.bundle

    def stable(self, pointer: str) -> str:
        """Give the stable version, where the pointer file names `pointer`; empty for the teacher.

        The pointer counts, unless what it names was rolled back, is on its way up again, was given up on its
        way, or was replaced by a rollout that was completed since.
        """
        full = self.rollout.bundle if self.rollout is not None and self.rollout.full else ""
        without_effect = {self.candidate, *self.barred, *self.given_up, *self.replaced}
        if full:
            without_effect.add(self.before)
        if pointer and pointer not in without_effect:
            return pointer
        left = (full, self.before, *reversed(self.replaced))
        return next((v for v in left if v and v not in self.barred), "")

    def overdue(self, pointer: str) -> str:
        """Give the version that the pointer should name since a rollout was completed, and does not.

        Whoever completes a rollout moves the pointer after the event is written, and may die in between.
        Empty where nothing is to move: also where the pointer names something newer, which then counts.
        """
        full = self.rollout.bundle if self.rollout is not None and self.rollout.full else ""
        return full if full != pointer and self.stable(pointer) == full else ""

    def life_of(self, bundle: str) -> Life:
        """Give the life that a bundle is in."""
        return self.lives.get(bundle, Life())

    def step_of(self, bundle: str) -> int:
        """Give the step of a bundle: of what is not on its way up, the last one, which leads nowhere."""
        rollout = self.rollout
        if rollout is None:
            return len(steps.SHARES) - 1
        return rollout.step if bundle == rollout.bundle else len(rollout.shares) - 1

    def plan(self, pointer: str) -> Plan:
        """Give the plan that requests are served by."""
        candidate = self.candidate
        share = self.rollout.share / 100 if candidate and self.rollout is not None else 0.0
        return Plan(
            stable=self.stable(pointer),
            candidate=candidate,
            share=share,
            shadow=bool(candidate) and share == 0,
            barred=frozenset(self.barred),
            spare=self.before if not candidate and self.before not in self.barred else "",
            fenced={version: event.why for version, event in self.fenced.items()},
            step=self.step_of(candidate),
        )


def apply(state: NodeRollout, event: Event) -> NodeRollout:
    """Give the state after an event.

    Raises
    ------
    ValueError
        The event is not the next one.
    RolloutRefused
        What a person asked for is not possible in this state.
    """
    if event.seq != state.seq + 1:
        raise ValueError(f"event {event.seq} of node {event.node} does not follow event {state.seq}")
    if event.what == "fence":  # it is about the bundle, wherever its rollout stands
        return replace(state, seq=event.seq, fenced={**state.fenced, event.bundle: event}, last=event)
    barred, fenced, starts = dict(state.barred), state.fenced, state.starts
    if event.what == "rollback":
        barred[event.bundle] = event.why or f"{event.who} rolled it back"
    if event.what == "start":
        barred.pop(event.bundle, None)
        fenced = {version: each for version, each in fenced.items() if version != event.bundle}
        starts = {**starts, event.bundle: event}
    after = replace(state, seq=event.seq, barred=barred, fenced=fenced, starts=starts, last=event)
    rollout, step = state.rollout, _step_of(state, event)
    if step is None:  # about another bundle than the one that is being rolled out
        return after
    moved = steps.apply(rollout, step)
    if event.what == "start":
        return replace(_begun(after, event), rollout=moved)
    if rollout is not None and (moved.step, moved.share) == (rollout.step, rollout.share):
        return replace(after, rollout=moved)
    return replace(after, rollout=moved, since=event.time, step_seq=event.seq)


def _begun(state: NodeRollout, event: Event) -> NodeRollout:
    stable = str(event.data.get("stable", ""))
    replaced = state.replaced
    if state.rollout is not None and state.rollout.full and state.before:
        replaced = (*replaced, state.before)
    given_up = (*state.given_up, state.candidate)
    replaced, given_up = (
        tuple(v for v in dict.fromkeys(each) if v not in ("", stable, event.bundle))
        for each in (replaced, given_up)
    )
    marks = event.data.get("marks")
    evidence, decisions = marks[:2] if isinstance(marks, list | tuple) and len(marks) >= 2 else (0, 0)
    life = Life(event.seq, _int(evidence, 0), _int(decisions, 0))
    return replace(
        state, before=stable, replaced=replaced, given_up=given_up, since=event.time, step_seq=event.seq,
        lives={**state.lives, event.bundle: life},
    )  # fmt: skip


def _step_of(state: NodeRollout, event: Event) -> steps.Event | None:
    """Give what an event means to the steps of the rollout that is under way; None where nothing."""
    if event.what == "start":
        return _start_of(event)
    if state.rollout is not None and event.bundle != state.rollout.bundle:
        return None
    if event.what == "approve":
        return steps.Approve(event.who, event.why, bool(event.data.get("force", False)))
    if event.what == "hold":
        return steps.Hold(event.who, event.why)
    if event.what == "rollback":
        if state.rollout is None:  # of what only the pointer named
            return None
        by_guard = event.who == GUARD
        return steps.Judged(Action.ROLL_BACK, state.rollout.step, event.why) if by_guard else steps.RollBack(
            event.who, event.why
        )  # fmt: skip
    action = Action.PROMOTE if event.what == "promote" else Action.HOLD
    return steps.Judged(action, _int(event.data.get("step"), -1), event.why)


def _start_of(event: Event) -> steps.Start:
    shares = event.data.get("shares")
    return steps.Start(
        event.bundle,
        event.who,
        bool(event.data.get("automatic", True)),
        tuple(_int(s, 0) for s in shares) if isinstance(shares, list | tuple) else steps.SHARES,
        _int(event.data.get("step"), 0),
        event.why,
    )


def _int(value: object, default: int) -> int:
    return int(value) if isinstance(value, int | float) else default


def _tolerant(state: NodeRollout, event: Event) -> NodeRollout:
    try:
        return apply(state, event)
    except RolloutRefused:  # written by a Cascade with other rules: it has its place, and no effect
        return replace(state, seq=event.seq, last=event)


def fold(state: NodeRollout, events: Iterable[Event]) -> NodeRollout:
    """Give the state after events, in their order."""
    return reduce(_tolerant, events, state)
