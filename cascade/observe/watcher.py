"""The one seam of observing: whoever watches is shown every decision that is logged."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Protocol, cast

from cascade.traffic.records import Decision
from cascade.traffic.store import TrafficStore

_log = logging.getLogger(__name__)


class Watcher(Protocol):
    """Is shown decisions. Called on the request's way: must be quick."""

    def saw(self, *decisions: Decision) -> None:
        """See decisions that are logged together."""
        ...


class WatchedStore:
    """A traffic store that shows each decision to watchers before it takes it.

    Everything that is answered is logged, whichever way it came and whatever decided it; so this is the one
    place at which nothing is missed, and a node's engine knows nothing of metrics.

    Parameters
    ----------
    store : TrafficStore
    watchers : sequence of Watcher
    """

    def __init__(self, store: TrafficStore, watchers: Sequence[Watcher]) -> None:
        self._store = store
        self._saw = [watcher.saw for watcher in watchers]

    def record(self, *decisions: Decision) -> None:
        """See `TrafficStore.record`. A watcher that fails is logged and costs nothing else."""
        for saw in self._saw:
            try:
                saw(*decisions)
            except Exception:
                _log.exception("observing %d decisions failed", len(decisions))
        self._store.record(*decisions)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def watched(store: TrafficStore, watchers: Sequence[Watcher]) -> TrafficStore:
    """Give the store, with watchers where there are any."""
    return cast(TrafficStore, WatchedStore(store, watchers)) if watchers else store
