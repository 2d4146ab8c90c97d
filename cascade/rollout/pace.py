"""What paces a node's audits: how much is settled, and what the day's audits have cost.

Both are sums over a log that a busy node fills with thousands of rows a second, asked for by each process. So
a row is read once: what lies far enough back that nothing more comes is added up and kept.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from cascade.rollout.store import RolloutStore

OVER = 300.0
"""Over how many seconds it is counted what a node settles."""
EVERY = 5.0
"""How often that is counted, in seconds."""
LATE = 30.0
"""Seconds after which what was asked is in the log, but for a disk that fails: a decision's time is that of
its question, and a local chat model takes seconds to settle it."""
_DAY = 86_400.0
_STILL_OPEN, _ADD_AFTER = 60.0, 120.0
"""Seconds after which an audit that finished is written, unless the store failed; and how far back is added
up at each look before it is kept."""
_ANEW = 600.0
"""After so many seconds all of the day is summed up once more, for what a store that failed wrote late."""


class SettledRate:
    """How many answers a second the bundles of a node settle.

    Parameters
    ----------
    store : RolloutStore
    """

    def __init__(self, store: RolloutStore) -> None:
        self._store = store
        self._of: dict[str, deque[tuple[float, float, int]]] = {}  # spans: from when, until when, how many

    def per_second(self, node: str, now: float) -> float:
        """Give the mean over the last minutes: `OVER` seconds, and up to `EVERY` more. Known anew as often.

        Raises
        ------
        StoreError
        """
        until = now - LATE
        spans = self._of.get(node)
        if spans is None or not 0 <= until - spans[-1][1] < OVER:  # also after a clock jumped back
            starts = [until - OVER + EVERY * i for i in range(int(OVER / EVERY))]
            spans = deque(self._counted(node, start, start + EVERY) for start in starts)
        elif until - spans[-1][1] >= EVERY:
            spans.append(self._counted(node, spans[-1][1], until))
        self._of[node] = spans
        while spans[0][1] <= until - OVER:
            spans.popleft()
        return sum(n for _, _, n in spans) / (spans[-1][1] - spans[0][0])

    def _counted(self, node: str, since: float, until: float) -> tuple[float, float, int]:
        return since, until, self._store.settled_since(node, since, until)


@dataclass(slots=True)
class _Sum:
    """What audits of a day that finished before `until` cost, and how many they were."""

    day: float
    begun: float
    until: float
    usd: float = 0.0
    count: int = 0


class DaySpending:
    """What a node's audits have cost since midnight, UTC.

    Parameters
    ----------
    store : RolloutStore
    """

    def __init__(self, store: RolloutStore) -> None:
        self._store = store
        self._of: dict[str, _Sum] = {}

    def today(self, node: str, now: float) -> tuple[float, int]:
        """Give what was spent in dollars, and on how many audits.

        Raises
        ------
        StoreError
        """
        day = now // _DAY * _DAY
        known = self._of.get(node)
        # Set back to before `until`, a clock would have audits end among those that were added up already.
        least = now if known is None else max(known.begun, known.until)
        if known is None or known.day != day or not least <= now < known.begun + _ANEW:
            known = _Sum(day, now, day)
        if now - known.until >= _ADD_AFTER:
            until = now - _STILL_OPEN
            usd, count = self._store.audit_spending(node, known.until, until)
            known = _Sum(day, known.begun, until, known.usd + usd, known.count + count)
        self._of[node] = known
        usd, count = self._store.audit_spending(node, known.until)
        return known.usd + usd, known.count + count
