"""How many second tries a client may make while its calls are refused."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class RetryBudget:
    """Bounds the second tries of all calls of a client, as Finagle's `RetryBudget` does.

    Without it, of lasting overload each caller would make all its tries, and they would be most of what the
    server has to refuse. So a burst is carried over, and later no more come than one a second and one for
    ten answers. May be used by many threads.

    Parameters
    ----------
    reserve : float
        How many may be made at once after a time without any.
    a_second, of_an_answer : float
        How many more each second and each answer allow.
    clock : callable
        Gives seconds.
    """

    def __init__(
        self,
        reserve: float = 100.0,
        a_second: float = 1.0,
        of_an_answer: float = 0.1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reserve, self._a_second, self._of_an_answer, self._clock = (
            reserve, a_second, of_an_answer, clock,
        )  # fmt: skip
        self._left, self._at = reserve, clock()
        self._lock = threading.Lock()

    def answered(self) -> None:
        """Count an answer."""
        if self._left < self._reserve:
            with self._lock:
                self._left = min(self._reserve, self._left + self._of_an_answer)

    def spend(self) -> bool:
        """Take a second try from the budget, and say whether there was one."""
        with self._lock:
            now = self._clock()
            self._left = min(self._reserve, self._left + self._a_second * (now - self._at))
            self._at = now
            if self._left < 1.0:
                return False
            self._left -= 1.0
            return True
