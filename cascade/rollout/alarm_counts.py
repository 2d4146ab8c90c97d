"""What a bundle's live requests came to between two looks, and which of them wait for the teacher."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from cascade.rollout.lately import Lately

SCORES, INPUTS = "scores", "inputs"

PATIENCE = 60.0
"""Seconds that what came between two looks waits for the teacher, before it is taken without the rest."""


@dataclass(slots=True)
class Counts:
    """Of the requests between two looks.

    Attributes
    ----------
    n : int
        Whose callers left time for all rungs.
    failed : int
        Those of them that met a failing local rung.
    local : int
        Those of them that a local rung settled.
    waiting, answered, lost : int
        Those of them that escalated: the teacher is asked, has answered, or gave no answer.
    settled, slow : int
        Settled locally, whatever time was left; those of them that took too long.
    values : dict of str to list of float
        For the tests of drift.
    closed : float
        When the next ones began, in seconds; of no meaning before.
    taken : bool
        Whether nothing is waited for any more.
    """

    n: int = 0
    failed: int = 0
    local: int = 0
    waiting: int = 0
    answered: int = 0
    lost: int = 0
    settled: int = 0
    slow: int = 0
    values: dict[str, list[float]] = field(default_factory=lambda: {SCORES: [], INPUTS: []})
    closed: float = 0.0
    taken: bool = False


@dataclass(slots=True)
class Escalation:
    """A request that the teacher is asked about; it is counted in the place where it began."""

    _counts: Counts
    _name: int
    _lately: Lately
    _lock: threading.Lock

    def ended(self, answered: bool) -> None:
        """Tell, once, whether it has an answer; one without may be asked again, and is no escalation."""
        with self._lock:
            if not answered:
                self._lately.forget(self._name)
            counts = self._counts
            if counts.taken:
                return
            counts.waiting -= 1
            if answered:
                counts.answered += 1
            else:
                counts.lost += 1


class Storm:
    """Gives how many escalate, in the order in which they came, leaving out what the teacher made of them.

    In an outage only what escalates fails, and is asked again. So what got no answer is left out; and from
    where most got none to the next that got one, so is what was settled, else few would seem to escalate.
    """

    def __init__(self) -> None:
        self._open: deque[Counts] = deque()
        self._out = False

    def close(self, counts: Counts, now: float) -> tuple[int, int]:
        """Take the counts between two looks; give requests and escalations of all that is complete by now."""
        counts.closed = now
        if counts.local or counts.waiting or counts.answered or counts.lost:
            self._open.append(counts)
        return self._sum(self._complete(now))

    def _complete(self, now: float) -> Iterable[Counts]:
        while self._open and (not self._open[0].waiting or now - self._open[0].closed >= PATIENCE):
            counts = self._open.popleft()
            counts.lost, counts.waiting, counts.taken = counts.lost + counts.waiting, 0, True
            yield counts

    def _sum(self, some: Iterable[Counts]) -> tuple[int, int]:
        n = escalated = 0
        for counts in some:
            if counts.lost > counts.answered:
                self._out = True
            elif counts.answered:
                self._out = False
            if not self._out:
                n += counts.local + counts.answered
                escalated += counts.answered
        return n, escalated
