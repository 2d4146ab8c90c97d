"""Who waits for a node's teacher: tenants in turn, and whoever would wait too long learns so at once."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import count

from cascade.errors import Overloaded
from cascade.server.tenant_turns import TenantTurns

MOST = 4096
"""Questions that may wait for a place, however fast the teacher is; of each tenant an even share of it. One
of each may always wait, up to twice as many in all: where there are no keys, callers name their tenants."""

_WEIGHT = 0.1  # of the last answer in the estimate of how long one takes

Begin = Callable[[], object]
"""Asks the teacher; called where there is a place. Raises nothing, and leaves before or after it returns."""


class TeacherQueue:
    """Gives places to those who ask a node's teacher, and refuses those that would wait too long.

    So many are asked at a time as the chat rung's `max_concurrency` says. The others wait for a place and
    hold no thread. Tenants that wait are given places in turn, and each tenant's questions in the order in
    which they came: who asks much waits behind its own. How long one that comes now will wait follows from
    how long the last ones kept their places; while those who have one now have been keeping it for longer
    than that, from them.

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
        self._waiting = TenantTurns[Begin]()
        self._usual = 0.0  # seconds that a place is kept
        self._due: deque[Begin] = deque()
        self._beginning = False

    @property
    def waiting(self) -> int:
        """How many wait for a place."""
        return len(self._waiting)

    def enter(self, deadline: float | None = None, tenant: str = "", begin: Begin = lambda: None) -> int:
        """Count a question; gives the number by which it leaves.

        Parameters
        ----------
        deadline : float, optional
            `time.monotonic()` at which its caller gives up.
        tenant : str
            Whose question it is.
        begin : callable
            Called once, as soon as there is a place: now, or by whoever leaves one.

        Raises
        ------
        Overloaded
            It would get a place too late. The hint says when there will be one.
        """
        now = time.monotonic()
        with self._lock:
            number = next(self._numbers)
            free = len(self._asked) < self._places
            if free:
                self._take_place(number, now)
            else:
                self._wait(number, now, deadline, tenant, begin)
        if free:
            begin()
        return number

    def _wait(self, number: int, now: float, deadline: float | None, tenant: str, begin: Begin) -> None:
        own = self._waiting.of(tenant)
        tenants = self._waiting.tenants + (not own)
        # In turn with the others, of whom no more can come before it than there are.
        before = min(self.waiting, (own + 1) * tenants - 1)
        wait = (before + 1) * self._seconds_of_a_place(now) / self._places
        patience = self._patience if deadline is None else min(self._patience, deadline - now)
        full = wait > self._patience or own * tenants >= MOST or self.waiting >= 2 * MOST
        if wait <= patience and not full:
            self._waiting.put(number, tenant, begin)
            return
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
            if self._waiting.discard(number):
                return
            since = self._asked.pop(number)
            self._asked_sum -= since
            kept = now - since
            self._usual = (1 - _WEIGHT) * self._usual + _WEIGHT * kept if self._usual else kept
            if self._waiting:
                first, begin = self._waiting.take()
                self._due.append(begin)
                self._take_place(first, now)
        self._begin_due()

    def _begin_due(self) -> None:
        # One after the other: where an answer is there at once, its leaving would else begin the next from
        # within this one, and so on through all that wait.
        while True:
            with self._lock:
                if self._beginning or not self._due:
                    return
                self._beginning = True
                begin = self._due.popleft()
            try:
                begin()
            finally:
                with self._lock:
                    self._beginning = False

    def _take_place(self, number: int, now: float) -> None:
        self._asked[number] = now
        self._asked_sum += now

    def _seconds_of_a_place(self, now: float) -> float:
        # A teacher that has just become slow has not answered anyone yet who would tell so.
        return max(self._usual, now - self._asked_sum / len(self._asked))
