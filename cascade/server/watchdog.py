"""Knows which of the users' validators is at work for how long, and gives up on those that block."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

_log = logging.getLogger(__name__)


class Watchdog:
    """Watches code that is not ours.

    A thread that hangs in a validator cannot be stopped, and its request can only time out. What is done:
    it is said in the log, by name; its thread's place has gone to another request (`ElasticPool`); and a
    validator that blocks too many threads is not called any more until some of them return.

    Parameters
    ----------
    slow_seconds : float
        After how long a call is said to block.
    most : int
        How many calls of one validator may block before it is not called any more.
    """

    def __init__(self, slow_seconds: float = 1.0, most: int = 8) -> None:
        self._slow = slow_seconds
        self._most = most
        self._running: dict[int, tuple[str, float]] = {}
        self._blocked: Counter[str] = Counter()
        self._told: set[tuple[int, float]] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def blocked(self, name: str) -> bool:
        """Say whether so many calls of that validator block that it must not be called."""
        return self._blocked[name] >= self._most

    @contextmanager
    def watch(self, name: str) -> Iterator[None]:
        """Mark a stretch in which the current thread is in the code of that name."""
        if self._thread is None:
            self._start()
        me = threading.get_ident()
        self._running[me] = (name, time.monotonic())
        try:
            yield
        finally:
            del self._running[me]

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._look, name="cascade-watchdog", daemon=True)
                self._thread.start()

    def _look(self) -> None:
        while True:
            time.sleep(self._slow / 2)
            now = time.monotonic()
            slow = {t: found for t, found in self._running.copy().items() if now - found[1] > self._slow}
            self._blocked = Counter(name for name, _ in slow.values())
            current = {(thread, began) for thread, (_, began) in slow.items()}
            for thread, (name, began) in slow.items():
                if (thread, began) not in self._told:
                    many = self._blocked[name]
                    _log.error("%s blocks for %.1f s now (%d such calls)", name, now - began, many)
            self._told = current


watchdog = Watchdog()
"""The one that all nodes of a process share."""
