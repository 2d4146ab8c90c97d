"""Who waits for a node's teacher: whoever would wait too long learns so at once."""

from __future__ import annotations

import math
import threading
import time
from itertools import count

from cascade.errors import Overloaded

MOST = 4096
"""Questions that may wait for a place, however fast the teacher is."""

_WEIGHT = 0.1  # of the last answer in the estimate of how long one takes


class TeacherQueue:
    """Counts the questions that a node's teacher is asked, and refuses those that would wait too long.

    So many are asked at a time as the chat rung's `max_concurrency` says. The others wait for a place, in the
    order in which they came, and hold no thread. How long one that comes now will wait follows from how long
    the last ones kept their places; while those who have one now have been keeping it for longer than that,
    from them.

    May be used by many threads. Audits, which are few, are not counted.

    Parameters
    ----------
    node : str
    places : int
        How many are asked at a time.
    patience : float
        Seconds that one may wait for a place: what the rung gives the teacher for one answer.
    """

    def __init__(self, node: str, places: int, patience: float) -> None:
        self._node, self._places, self._patience = node, places, patience
        self._lock = threading.Lock()
        self._numbers = count()
        self._asked: dict[int, float] = {}  # since when, by `time.monotonic()`
        self._asked_sum = 0.0
        self._waiting: dict[int, None] = {}
        self._usual = 0.0  # seconds that a place is kept

    @property
    def waiting(self) -> int:
        """How many wait for a place."""
        return len(self._waiting)

    def enter(self, deadline: float | None = None) -> int:
        """Count a question; gives the number by which it leaves.

        Parameters
        ----------
        deadline : float, optional
            `time.monotonic()` at which its caller gives up.

        Raises
        ------
        Overloaded
            It would get a place too late. The hint says when there will be one.
        """
        now = time.monotonic()
        with self._lock:
            number = next(self._numbers)
            if len(self._asked) < self._places:
                self._take_place(number, now)
                return number
            wait = self._expected(now)
            patience = self._patience if deadline is None else min(self._patience, deadline - now)
            if wait <= patience and len(self._waiting) < MOST:
                self._waiting[number] = None
                return number
            full = wait > self._patience or len(self._waiting) >= MOST
        error = Overloaded(
            f"too many questions wait for the teacher of node {self._node!r} already; try again later",
            retry_after=max(0.1, math.ceil(10 * min(wait, 60.0)) / 10),
        )
        error.by_deadline = not full
        raise error

    def leave(self, number: int) -> None:
        """Take a question out that was answered, or is not waited for any more."""
        now = time.monotonic()
        with self._lock:
            if number in self._waiting:
                del self._waiting[number]
                return
            since = self._asked.pop(number)
            self._asked_sum -= since
            kept = now - since
            self._usual = (1 - _WEIGHT) * self._usual + _WEIGHT * kept if self._usual else kept
            if self._waiting:
                first = next(iter(self._waiting))
                del self._waiting[first]
                self._take_place(first, now)

    def _take_place(self, number: int, now: float) -> None:
        self._asked[number] = now
        self._asked_sum += now

    def _expected(self, now: float) -> float:
        # A teacher that has just become slow has not answered anyone yet who would tell so.
        lasted = now - self._asked_sum / len(self._asked)
        return (len(self._waiting) + 1) * max(self._usual, lasted) / self._places
