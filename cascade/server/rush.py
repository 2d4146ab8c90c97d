"""After a rush of calls, what they took goes back to the system."""

from __future__ import annotations

import time
from collections.abc import Callable

from cascade.heap import trim


class Rush:
    """Notices that many calls wait, and gives memory back once that is over.

    Thousands of calls under way take some 15 kB each, which glibc keeps when they are gone.

    Parameters
    ----------
    waiting : callable
        Gives how many calls wait.
    many : int
        From how many on it is a rush.
    calm_seconds : float
        How long fewer must wait before it is over: giving back holds others up for some milliseconds.
    give_back : callable
    clock : callable
        Gives seconds.
    """

    def __init__(
        self,
        waiting: Callable[[], int],
        many: int = 256,
        calm_seconds: float = 5.0,
        give_back: Callable[[], object] = trim,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._waiting, self._many, self._calm_seconds = waiting, many, calm_seconds
        self._give_back, self._clock = give_back, clock
        self._last: float | None = None

    def look(self) -> None:
        """Look how many wait; to be called every now and then, by one thread."""
        if self._waiting() >= self._many:
            self._last = self._clock()
        elif self._last is not None and self._clock() - self._last >= self._calm_seconds:
            self._last = None
            self._give_back()
