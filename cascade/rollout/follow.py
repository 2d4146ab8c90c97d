"""Follows the shared state: every worker and replica reads the events that any of them wrote."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from datetime import UTC, datetime

from cascade.errors import StoreError
from cascade.rollout.state import Event, NodeRollout, apply, fold
from cascade.rollout.store import RolloutStore

_log = logging.getLogger(__name__)

_LOG_EVERY = 30.0


class Follower:
    """Knows where the rollouts of nodes stand.

    Parameters
    ----------
    store : RolloutStore
    nodes : collection of str
    """

    def __init__(self, store: RolloutStore, nodes: Collection[str]) -> None:
        self.failures = 0
        self.conflicts = 0
        self.known = False
        self._store = store
        self._states = {node: NodeRollout(node) for node in nodes}
        self._generation = store.generation
        self._last_log = float("-inf")

    def state(self, node: str) -> NodeRollout:
        """Give where a node's rollout stands, as far as it has been read."""
        return self._states[node]

    def poll(self) -> set[str]:
        """Read what is new; name the nodes whose state changed.

        A store that cannot be read leaves what is known; it is counted and logged. Of another database in
        the place of the one before (a backup) all is read anew, and holds, as it would after a start.
        """
        try:
            heads = self._store.heads()
            generation = self._store.generation
            states = self._states
            anew = generation != self._generation
            if anew:
                states = {node: NodeRollout(node) for node in states}
            behind = [n for n, state in states.items() if heads.get(n, 0) > state.seq]
            news = {node: self._store.events(node, states[node].seq) for node in behind}
        except StoreError as error:
            self.failures += 1
            now = time.monotonic()
            if now - self._last_log >= _LOG_EVERY:
                self._last_log = now
                _log.error("the rollouts' state cannot be read; what is known holds: %s", error)
            return set()
        first = anew or not self.known
        self._states = states
        changed = set(states) if first else {node for node, events in news.items() if events}
        for node, events in news.items():
            if not events:  # the file was replaced after its heads were read: the next poll sees which it is
                continue
            self._states[node] = fold(self._states[node], events)
            if not first:
                for event in events:
                    _log.info("node %s: %s by %s: %s", node, event.what, event.who, event.why)
                continue
            # History is no news: who reads the log would take it for a change that was made just now.
            last = events[-1]
            at = datetime.fromtimestamp(last.time, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
            text = "node %s: the last change of its rollouts was at %s: %s by %s: %s"
            _log.info(text, node, at, last.what, last.who, last.why)
        # Last: were it said before and something failed, the next poll would take none of this for new.
        self._generation, self.known = generation, True
        return changed

    def write(self, event: Event) -> bool:
        """Write an event that was decided on the state known here.

        Returns
        -------
        bool
            False where somebody else decided first, so that the state has to be read and judged anew.

        Raises
        ------
        StoreError
            It was not written.
        RolloutRefused
            It is not possible in this state.
        """
        state = self._states[event.node]
        after = apply(state, event)
        if not self._store.append(event):
            self.conflicts += 1
            return False
        self._states[event.node] = after
        _log.warning("node %s: %s by %s: %s", event.node, event.what, event.who, event.why)
        return True
