"""How fast a rung lately was, which says whether it can still answer in time."""

from __future__ import annotations

from collections import deque


class LatencyRecord:
    """How fast a rung lately was at its fastest: what it cannot beat.

    Parameters
    ----------
    size : int
        How many of the last runs count.
    """

    def __init__(self, size: int = 32) -> None:
        self._last: deque[float] = deque(maxlen=size)
        self.fastest = 0.0

    def add(self, seconds: float) -> None:
        """Record one run."""
        self._last.append(seconds)
        if seconds <= self.fastest or len(self._last) == self._last.maxlen:
            self.fastest = min(self._last, default=0.0)

    def too_late(self, deadline: float, now: float) -> bool:
        """Say whether the rung cannot answer before the deadline."""
        return deadline - now <= self.fastest
