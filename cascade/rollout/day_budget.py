"""Whether the day's money for a node's audits lasts for another one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from cascade.errors import StoreError
from cascade.rollout.pace import DaySpending
from cascade.rollout.store import RolloutStore

_ASK_AGAIN = 5.0
"""After so many seconds the store is asked once more, since other processes spend as well."""


@dataclass(slots=True)
class _Spent:
    day: int = -1
    usd: float = 0.0
    asked_at: float = float("-inf")


class DayBudget:
    """What the audits of each node may cost in a day (UTC).

    Parameters
    ----------
    store : RolloutStore
    nodes : iterable of str
    daily_usd : float
        What one node may spend.
    failed : callable
        Told where the store does not say what was spent; what is known here counts then.
    """

    def __init__(
        self,
        store: RolloutStore,
        nodes: Iterable[str],
        daily_usd: float,
        failed: Callable[[StoreError], None],
    ) -> None:
        self._spending = DaySpending(store)
        self._of = {node: _Spent() for node in nodes}
        self._daily_usd = daily_usd
        self._failed = failed

    def spend(self, node: str, usd: float) -> None:
        """Say what an answer cost; the store learns of it later."""
        self._of[node].usd += usd

    def lasts(self, node: str, now: float) -> bool:
        """Say whether a node has money left on the day of `now`, in Unix seconds."""
        spent, day = self._of[node], int(now // 86_400)
        if day != spent.day or time.monotonic() - spent.asked_at > _ASK_AGAIN:
            known = spent.usd if day == spent.day else 0.0
            try:
                told, _ = self._spending.today(node, now)
            except StoreError as error:
                self._failed(error)
                told = known
            spent.day, spent.usd = day, max(told, known)
            spent.asked_at = time.monotonic()
        return spent.usd < self._daily_usd
