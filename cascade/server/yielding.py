"""Letting gRPC's own threads run before a batch is begun, without handing the core to other programs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

_SCHED_YIELD: Callable[[], object] = getattr(os, "sched_yield", lambda: None)


class Yielding:
    """Gives the core to whoever wants it, as long as that is over soon.

    gRPC's threads bring the requests, and a worker may have no more than one core. They need some
    microseconds. Another program that computes keeps the core for milliseconds each time, and each batch
    would wait for it: on a core with three of them, a twelfth of the throughput was left, not a quarter.

    Parameters
    ----------
    give : callable
        Lets others run.
    longest : float
        Seconds for which other programs may have the core; threads of this process may have it longer.
    rest : float
        Seconds for which it is not done after it took longer.
    """

    def __init__(
        self,
        give: Callable[[], object] = _SCHED_YIELD,
        longest: float = 0.0015,
        rest: float = 1.0,
    ) -> None:
        self._give, self._longest, self._rest = give, longest, rest
        self._not_before = 0.0

    def __call__(self) -> None:
        """Let others run, unless other programs took long a moment ago."""
        began = time.monotonic()
        if began < self._not_before:
            return
        used = time.process_time()
        self._give()
        ended = time.monotonic()
        took = ended - began
        if took > self._longest and took - (time.process_time() - used) > self._longest:
            self._not_before = ended + self._rest
