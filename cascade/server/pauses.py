"""How long a worker that died rests before it is started again."""

from __future__ import annotations

STABLE_SECONDS = 30.0
"""Whoever lived for so long begins anew."""


class Pauses:
    """Pauses that double while workers of one index die soon after their start.

    Parameters
    ----------
    first, longest : float
        Seconds.

    Examples
    --------
    >>> pauses = Pauses(first=0.1, longest=0.3)
    >>> [pauses.after_death(index=0, lived=1.0) for _ in range(4)]
    [0.1, 0.2, 0.3, 0.3]
    """

    def __init__(self, first: float, longest: float) -> None:
        self._first, self._longest = first, longest
        self._next: dict[int, float] = {}

    def after_death(self, index: int, lived: float) -> float:
        """Give the pause after a worker of that index that lived for so many seconds."""
        if lived >= STABLE_SECONDS:
            self._next.pop(index, None)
        pause = self._next.get(index, self._first)
        self._next[index] = min(2 * pause, self._longest)
        return pause
