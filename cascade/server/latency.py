"""How fast a rung lately was, which says whether it can still answer in time."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence

_GOOD_FOR = 5.0


class LatencyRecord:
    """How fast a rung lately was at its fastest: what it cannot beat.

    Parameters
    ----------
    size : int
        How many of the last runs count.
    good_for : float
        Seconds after the last run from which on nothing is known. Who is never run because it seems too slow
        would else seem so for ever: in a rush, waiting for a batch is part of a run.
    clock : callable
    """

    def __init__(
        self, size: int = 32, good_for: float = float("inf"), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._last: deque[float] = deque(maxlen=size)
        self._good_for, self._clock = good_for, clock
        self._until = float("-inf")
        self._fastest = 0.0

    def add(self, seconds: float) -> None:
        """Record one run."""
        now = self._clock()
        if now > self._until:
            self._last.clear()
            self._fastest = 0.0
        self._until = now + self._good_for
        self._last.append(seconds)
        if seconds <= self._fastest or len(self._last) == self._last.maxlen:
            self._fastest = min(self._last, default=0.0)

    def at_best(self, now: float) -> float:
        """Give the seconds that the rung takes at its fastest; 0 where nothing is known."""
        return self._fastest if now <= self._until else 0.0

    def too_late(self, deadline: float, now: float) -> bool:
        """Say whether the rung cannot answer before the deadline."""
        return deadline - now <= self.at_best(now)


def records(ladder: Sequence[str]) -> dict[str, LatencyRecord]:
    """Give a record for each rung of a ladder; that of the last one, the teacher, is never forgotten.

    To ask him in vain costs money.
    """
    local = {rung: LatencyRecord(good_for=_GOOD_FOR) for rung in ladder[:-1]}
    return local | {ladder[-1]: LatencyRecord()}
