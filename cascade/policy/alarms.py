"""Alarms about a bundle that ask no teacher: escalation storm, errors, latency; drift is in `drift`.

Each is a rate that must stay below a ceiling: the share of requests that escalate, that fail, that are slower
than a limit, that fall into a bin of scores or inputs. A betting test with restarts
(`cascade.policy.eprocess`) gathers evidence that it is above. Once that is raised, the opposite test must
prove that the rate is below the ceiling again before the alarm is lowered: between the two there is no
flapping at a threshold.

**False alarms.** While the chance of each request, given the past, is at most the ceiling, an alarm is raised
with a chance of at most `alpha` in its whole life, however often one looks; and once lowered, again at most
`alpha` until the next. Bursts (many requests that fail together) break that premise while they last, and no
ceiling leaves room for them: after an hour without a failure, eight failing requests in a row are evidence
enough. So an alarm may ask for a least number of hits, and what an alarm does depends on what would follow.

**What it does.** A bundle that is pulled back is barred until a person starts it again, and what it settled
goes to the bundle before, else to the teacher. Of a candidate that costs little: an alarm pulls it back at
once. A bundle that everybody is served by, with nothing to take its place, is pulled back by no alarm: what
escalates, fails or is slow would only be joined by all the rest. Where another can take its place, only
`errors` pulls it back, and only where it lasts (`cascade.policy.lasting`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np

from cascade.policy.eprocess import BettingTest, Stretch, Wealth
from cascade.policy.guard import Action, Raised


class Place(StrEnum):
    """What a bundle is to its node, as far as it matters for what an alarm does.

    A candidate on its way up; what others are served by, where another bundle could take its place; and what
    only the teacher could take the place of.
    """

    CANDIDATE = "candidate"
    REPLACEABLE = "replaceable"
    ALONE = "alone"


@dataclass(frozen=True)
class AlarmSettings:
    """One alarm.

    Attributes
    ----------
    name : str
        "storm", "errors", "latency", "drift of scores", ...
    what : str
        What the counted requests did, for the sentence: "escalated to the teacher", "failed".
    ceilings : tuple of float
        The largest share allowed, in (0, 1): one, or one for each bin.
    action : Action
        What the guard does with a candidate while it is raised; anything else it leaves alone, but see
        `beyond`.
    alpha : float
        Allowed chance of a false alarm.
    min_count : int
        Requests it takes at least to raise or to lower.
    bins : tuple of str
        What the bins are called; empty where there is one ceiling.
    min_hits : int
        Hits it takes at least to raise, since it looks bad.
    beyond : bool
        Whether, where it lasts, it does the same with what another bundle can take the place of.
    """

    name: str
    what: str
    ceilings: tuple[float, ...]
    action: Action
    alpha: float = 0.001
    min_count: int = 50
    bins: tuple[str, ...] = ()
    min_hits: int = 0
    beyond: bool = False

    def __post_init__(self) -> None:
        if not self.ceilings or not all(0 < ceiling < 1 for ceiling in self.ceilings):
            raise ValueError(f"{self.name}: ceilings must be in (0, 1), not {self.ceilings}")
        if len(self.bins) != (0 if len(self.ceilings) == 1 else len(self.ceilings)):
            raise ValueError(f"{self.name}: {len(self.ceilings)} ceilings, {len(self.bins)} names of bins")
        if not 0 < self.alpha < 1 or self.min_count < 1:
            raise ValueError(f"{self.name}: alpha must be in (0, 1) and min_count at least 1")

    @cached_property
    def above(self) -> tuple[BettingTest, ...]:
        """The tests that raise the alarm."""
        return tuple(BettingTest.of(ceiling, "above", restarts=True) for ceiling in self.ceilings)

    @cached_property
    def below(self) -> tuple[BettingTest, ...]:
        """The tests that lower it."""
        return tuple(BettingTest.of(ceiling, "below", restarts=True) for ceiling in self.ceilings)


def storm(expected: float, tolerance: float = 1.5, room: float = 0.05) -> AlarmSettings:
    """Too much escalates: a candidate would cost more than it promised, in money and in the teacher's limits.

    What serves everybody is not pulled back for it: then all would escalate, and cost the more.

    Parameters
    ----------
    expected : float
        The share that the bundle's report promises to escalate.
    tolerance, room : float
        The ceiling is `expected * tolerance + room`, at most 0.98.
    """
    ceiling = min(expected * tolerance + room, 0.98)
    return AlarmSettings("storm", "escalated to the teacher", (ceiling,), Action.ROLL_BACK)


def errors(ceiling: float = 0.02) -> AlarmSettings:
    """Too many local rungs fail; a teacher that is down must not be counted."""
    return AlarmSettings(
        "errors", "met a failing local rung", (ceiling,), Action.ROLL_BACK, min_hits=20, beyond=True
    )


def latency(limit_ms: float, share: float = 0.05) -> AlarmSettings:
    """Too many settled answers take longer than a limit."""
    return AlarmSettings("latency", f"took more than {limit_ms:g} ms locally", (share,), Action.ROLL_BACK)


@dataclass(frozen=True, eq=False)
class AlarmState:
    """What an alarm remembers.

    Attributes
    ----------
    seq : int
        The last batch taken; -1 for none.
    raised : bool
    n : int
        Requests since it was last raised, lowered or begun.
    hits : tuple of int
        Those of them in each bin.
    wealth : tuple of Wealth
        Of the tests that raise it, or, while it is raised, of those that lower it.
    stretches : tuple of Stretch
        For each bin, since when it looks bad; empty while the alarm is raised.
    reason : str
        Why it was raised, in one sentence; empty while it is not.
    """

    seq: int
    raised: bool
    n: int
    hits: tuple[int, ...]
    wealth: tuple[Wealth, ...]
    stretches: tuple[Stretch, ...] = ()
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON values."""
        return {
            "seq": self.seq, "raised": self.raised, "n": self.n, "hits": list(self.hits),
            "wealth": [wealth.to_json() for wealth in self.wealth], "reason": self.reason,
            "stretches": [asdict(stretch) for stretch in self.stretches],
        }  # fmt: skip

    @staticmethod
    def from_json(data: dict[str, Any]) -> AlarmState:
        """Read what `to_json` gave."""
        return AlarmState(
            data["seq"], data["raised"], data["n"], tuple(data["hits"]),
            tuple(Wealth.from_json(wealth) for wealth in data["wealth"]),
            tuple(Stretch(**stretch) for stretch in data["stretches"]), data["reason"],
        )  # fmt: skip


def new_alarm(settings: AlarmSettings, seq: int = -1, raised: bool = False) -> AlarmState:
    """Give the state before any request."""
    tests = settings.below if raised else settings.above
    stretches = () if raised else (Stretch(),) * len(tests)
    return AlarmState(seq, raised, 0, (0,) * len(tests), tuple(test.start() for test in tests), stretches)


def count(settings: AlarmSettings, state: AlarmState, seq: int, n: int, hits: Sequence[int]) -> AlarmState:
    """Take a batch of requests; one that was taken already changes nothing.

    Parameters
    ----------
    settings : AlarmSettings
    state : AlarmState
    seq : int
        Number of the batch; later ones have higher numbers.
    n : int
        Requests in it; where a batch ends must not depend on what they did.
    hits : sequence of int
        Those in each bin.
    """
    if len(hits) != len(settings.ceilings) or any(not 0 <= hit <= n for hit in hits):
        raise ValueError(f"{settings.name}: {hits} of {n} requests in {len(settings.ceilings)} bins")
    if seq <= state.seq:
        return state
    tests = settings.below if state.raised else settings.above
    wealth = tuple(
        test.bet_counts(own, hit, n) for test, own, hit in zip(tests, state.wealth, hits, strict=True)
    )
    state = replace(
        state, seq=seq, n=state.n + n, wealth=wealth,
        hits=tuple(before + hit for before, hit in zip(state.hits, hits, strict=True)),
        stretches=tuple(
            stretch.add(ceiling, hit, n)
            for ceiling, stretch, hit in zip(settings.ceilings, state.stretches, hits, strict=False)
        ),
    )  # fmt: skip
    values = np.array([float(test.evidence(own)) for test, own in zip(tests, wealth, strict=True)])
    # raised by the average of the bins' evidence, lowered when each bin is proven to be back
    evidence = values.min() if state.raised else values.mean()
    if state.n < settings.min_count or evidence < 1 / settings.alpha:
        return state
    if state.raised:
        return new_alarm(settings, seq)
    if max(stretch.hits for stretch in state.stretches) < settings.min_hits:
        return state
    return replace(
        new_alarm(settings, seq, raised=True), reason=_reason(settings, state, int(values.argmax()))
    )


def _reason(settings: AlarmSettings, state: AlarmState, worst: int) -> str:
    which = f" {settings.bins[worst]}" if settings.bins else ""
    stretch = state.stretches[worst]
    hits, n = (stretch.hits, stretch.n) if stretch.n else (state.hits[worst], state.n)
    return (
        f"{hits:,} of {'the last ' if n < state.n else ''}{n:,} requests {settings.what}{which}; "
        f"at most {settings.ceilings[worst]:.1%} was expected"
    )


def raised(
    settings: AlarmSettings, state: AlarmState, place: Place = Place.CANDIDATE, lasts: bool = False
) -> Raised | None:
    """Give the alarm as the guard takes it; None while it is not raised.

    Parameters
    ----------
    settings : AlarmSettings
    state : AlarmState
    place : Place
        What the bundle is to its node now.
    lasts : bool
        Whether it was raised again by what came later: see `cascade.policy.lasting`.
    """
    if not state.raised:
        return None
    acts = place is Place.CANDIDATE or (place is Place.REPLACEABLE and settings.beyond and lasts)
    return Raised(settings.name, state.reason, settings.action if acts else Action.HOLD)
