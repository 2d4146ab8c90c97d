"""Watches live traffic for changes that void a certificate, and fences the bundle off then.

It reads the traffic log, so all workers come to the same verdict, and a restarted one comes to it again. It
runs in a thread of its own, off the requests' way; a store that cannot be read leaves the fences as they are.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable

from cascade.bundle import Bundle
from cascade.errors import StoreError
from cascade.fences import TRAFFIC
from cascade.policy.exchangeability import LiveTest, score_of
from cascade.text import flatten_messages
from cascade.traffic import Decision, TrafficStore

_log = logging.getLogger(__name__)

MEMORY_SECONDS = 7 * 86_400.0
"""How far back a process reads when it begins to watch a bundle."""

LATE_SECONDS = 30.0
"""A decision may reach the disk this much after younger ones: so much is read again each time."""


class LiveWatch:
    """Tests the live traffic of loaded bundles.

    Parameters
    ----------
    store : TrafficStore
    bundles : callable
        Gives the loaded bundles, each with the level of its node and the seconds between two looks.
    """

    def __init__(
        self, store: TrafficStore, bundles: Callable[[], Iterable[tuple[Bundle, float, float]]]
    ) -> None:
        self._store = store
        self._bundles = bundles
        self._tests: dict[tuple[str, str], LiveTest] = {}
        self._read_until: dict[tuple[str, str], float] = {}
        self._stop = threading.Event()

    def start(self) -> None:
        """Look at the traffic again and again, in a thread."""
        threading.Thread(target=self._run, name="live-traffic", daemon=True).start()

    def close(self) -> None:
        """Stop looking."""
        self._stop.set()

    def _run(self) -> None:
        while True:
            pauses = [every for _, _, every in self._bundles()]
            if self._stop.wait(min(pauses, default=30.0)):
                return
            self.look()

    def look(self) -> None:
        """Read what is new in the log, and put fences up where traffic changed."""
        for bundle, level, _ in list(self._bundles()):
            if bundle.reference is None:
                continue
            key = (bundle.node, bundle.version)
            test = self._tests.get(key)
            if test is None:
                test = self._tests[key] = LiveTest(bundle.reference.tolist(), level)
            now = time.time()
            since = self._read_until.get(key, now - MEMORY_SECONDS)
            try:
                feed(test, self._store.decisions(bundle.node, since), bundle.version)
            except StoreError:
                _log.warning(
                    "node %s: live traffic cannot be read",
                    bundle.node,
                    exc_info=True,
                )
                continue
            self._read_until[key] = now - LATE_SECONDS
            reason = test.reason()
            if reason and not bundle.fences.has(TRAFFIC):
                _log.warning("node %s: bundle %s settles nothing: %s", bundle.node, bundle.version, reason)
            if reason:
                bundle.fences.set(TRAFFIC, reason)


def feed(test: LiveTest, decisions: Iterable[Decision], version: str) -> None:
    """Give a test the scores of a bundle's decisions, oldest first."""
    for decision in decisions:
        if decision.bundle_version != version:
            continue
        score = score_of(decision.attempts)
        if score is not None:
            text = flatten_messages(decision.messages) if decision.messages else decision.text or ""
            test.add(text, score)
