"""Where processes tell people which of the guard's alarms they have raised, and since when."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from cascade.policy.guard import Raised
from cascade.traffic import TrafficStore

_log = logging.getLogger(__name__)

TELL_EVERY = 10.0
"""Seconds after which a process says again that an alarm is still raised."""
STALE = 45.0
"""Seconds without that after which nobody believes it any more: the process has ended."""

_UPSERT = """
INSERT INTO alarms (node, bundle_version, name, owner, reason, action, since, seen)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (node, bundle_version, name, owner)
DO UPDATE SET reason = excluded.reason, action = excluded.action, since = excluded.since, seen = excluded.seen
"""
_LOWER = "DELETE FROM alarms WHERE node = ? AND bundle_version = ? AND name = ? AND owner = ?"
_FORGET = "DELETE FROM alarms WHERE node = ? AND seen < ?"
_SELECT = """
SELECT bundle_version, name, action, min(since), count(*), max(reason) FROM alarms
WHERE node = ? AND seen >= ? GROUP BY bundle_version, name, action ORDER BY 4, 1, 2
"""


@dataclass(frozen=True, slots=True)
class ShownAlarm:
    """An alarm that some process has raised.

    Attributes
    ----------
    bundle, name : str
    action : str
        What the guard does while it is raised: `hold` (of a bundle on its way up; any other it leaves alone)
        or `roll back`.
    since : float
        Unix seconds, of the process that raised it first.
    processes : int
        How many have it raised.
    reason : str
        In one sentence, of one of them.
    """

    bundle: str
    name: str
    action: str
    since: float
    processes: int
    reason: str


@dataclass
class AlarmBoard:
    """Puts what one process raised into the shared state. One thread uses it.

    Parameters
    ----------
    traffic : TrafficStore
    owner : str
        Names the process.
    clock : callable
        Unix seconds.
    """

    traffic: TrafficStore
    owner: str
    clock: Callable[[], float] = time.time
    _since: dict[tuple[str, str, str], float] = field(default_factory=dict)
    _told: dict[str, float] = field(default_factory=dict)

    def tell(self, node: str, raised: Mapping[str, Sequence[Raised]]) -> None:
        """Tell which alarms are raised about a node's bundles; writes only what is news, or getting old.

        Raises
        ------
        StoreError
            Nothing is told; the next call tries again.
        """
        now = self.clock()
        up = {(node, bundle, one.name): one for bundle, some in raised.items() for one in some}
        down = [key for key in self._since if key[0] == node and key not in up]
        new = [key for key in up if key not in self._since]
        old = now - self._told.get(node, now) >= TELL_EVERY
        if not down and not new and not (up and old):
            return
        since = {key: self._since.get(key, now) for key in up}
        with self.traffic.database.writing() as connection:
            for key in down:
                connection.execute(_LOWER, (*key, self.owner))
            for key, one in up.items():
                connection.execute(
                    _UPSERT, (*key, self.owner, one.reason[:500], str(one.action), since[key], now)
                )
            connection.execute(_FORGET, (node, now - 2 * STALE))
        for key in down:
            del self._since[key]
            _log.info("node %s: bundle %s: the alarm %s is raised no longer", *key)
        for key in new:
            _log.warning("node %s: bundle %s: the alarm %s is raised: %s", *key, up[key].reason)
        self._since |= since
        self._told[node] = now


def shown_alarms(traffic: TrafficStore, node: str, now: float) -> list[ShownAlarm]:
    """Give the alarms of a node that are raised now, the oldest first.

    Raises
    ------
    StoreError
    """
    with traffic.database.reading() as connection:
        rows = connection.execute(_SELECT, (node, now - STALE)).fetchall()
    return [
        ShownAlarm(bundle, name, action, float(since), int(n), reason)
        for bundle, name, action, since, n, reason in rows
    ]
