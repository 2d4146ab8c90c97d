"""How busy a node is at the moment."""

from __future__ import annotations

from dataclasses import dataclass

from cascade.traffic.store import TrafficStore

DAY = 86_400.0
_LEAST_SECONDS = 600.0
"""A log that began a moment ago says nothing about a day; it counts as this old at least."""

_COUNT = (
    "SELECT count(*), min(time) FROM decisions WHERE node = ? AND time >= ? AND time <= ? AND error IS NULL"
)


@dataclass(frozen=True, slots=True)
class DecisionRate:
    """What was decided in the last day, or since the log began.

    Attributes
    ----------
    decisions : int
    seconds : float
        How long that took.
    """

    decisions: int
    seconds: float

    @property
    def per_second(self) -> float:
        """Decisions a second."""
        return self.decisions / self.seconds


def decision_rate(store: TrafficStore, node: str, now: float) -> DecisionRate:
    """Count a node's decisions of the last 24 hours.

    Parameters
    ----------
    store : TrafficStore
    node : str
    now : float
        Unix seconds. Decisions that a wrong clock dated later are not counted.

    Raises
    ------
    StoreError
        When the database cannot be read.
    """
    with store.database.reading() as connection:
        count, first = connection.execute(_COUNT, (node, now - DAY, now)).fetchone()
    began = now - DAY if first is None else float(first)
    return DecisionRate(int(count), min(max(now - began, _LEAST_SECONDS), DAY))
