"""What goes wrong with chat models, in the log: each thing soon, and none of them a thousand times."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

_log = logging.getLogger(__name__)

EVERY = 30.0
"""Seconds between two lines that say the same."""


@dataclass(slots=True)
class _Line:
    said: float  # when, by the clock
    held_back: int = 0


class FailureLog:
    """Writes a warning for each kind of failure, at most one in a while; for any thread.

    Parameters
    ----------
    every : float
        Seconds between two lines of one kind.
    most : int
        Kinds that are told apart; what comes beyond shares one line, so that a server that says something
        else each time fills neither log nor memory.
    clock : callable
        Gives a monotonic time in seconds.
    """

    def __init__(
        self, every: float = EVERY, most: int = 64, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._every, self._most, self._clock = every, most, clock
        self._lines: dict[str, _Line] = {}
        self._lock = threading.Lock()

    def say(self, what: str, kind: str = "") -> None:
        """Write a line, unless one of its kind was written just now.

        Parameters
        ----------
        what : str
            What a caller may be told: nothing of a key, a request or an answer is in it.
        kind : str
            What lines have in common that are not to be repeated; by default the line itself.
        """
        kind = kind or what
        with self._lock:
            now = self._clock()
            if kind not in self._lines and len(self._lines) >= self._most:
                self._forget(now)
                if len(self._lines) >= self._most:
                    kind = ""
            line = self._lines.get(kind)
            if line is not None and now - line.said < self._every:
                line.held_back += 1
                return
            self._lines[kind] = _Line(now)
        if line is not None and line.held_back:
            what += f" ({line.held_back:,} more like it in the last {now - line.said:.0f} s)"
        _log.warning("%s", what)

    def _forget(self, now: float) -> None:
        """Forget kinds that have not come again for long."""
        for kind in [kind for kind, line in self._lines.items() if now - line.said >= self._every]:
            del self._lines[kind]


failure_log = FailureLog()
"""The one of a process: the rungs of several nodes may ask one model."""
