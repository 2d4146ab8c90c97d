"""Tells those who work for a call that nobody waits for its answer any more."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from cascade.errors import CascadeError


class CallerGone(CascadeError):
    """The caller cancelled, or its connection broke."""

    code = "CANCELLED"
    reason = "CALLER_GONE"

    def __init__(self) -> None:
        super().__init__("the caller went away before there was an answer")


class Gone:
    """Whom to tell when a call's caller goes away. As a context manager it ends with the block.

    Parameters
    ----------
    context : Call, optional
        Asked to tell of the end of the call, once there is somebody to be told. Without it, `fire` is called
        by whoever made this.
    """

    __slots__ = ("_asked", "_context", "_lock", "_tell", "fired")

    def __init__(self, context: Any = None) -> None:
        self._context = context
        self._asked = False
        self._lock = threading.Lock()
        self._tell: set[Callable[[], object]] = set()
        self.fired = False

    def __enter__(self) -> Gone:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def tell(self, callback: Callable[[], object]) -> None:
        """Have a callback called when the call ends, at once if it ended already."""
        with self._lock:
            late = self.fired
            if not late:
                self._tell.add(callback)
        if late:
            callback()
        else:
            self.watch()

    def watch(self) -> None:
        """Have `fired` say so from now on when the call ends, without anybody to be told."""
        with self._lock:
            context = None if self._asked else self._context
            self._asked = True
        if context is not None and not context.add_callback(self.fire):
            self.fire()

    def forget(self, callback: Callable[[], object]) -> None:
        """Do not call a callback any more."""
        with self._lock:
            self._tell.discard(callback)

    def end(self) -> None:
        """Let go of the call, which was answered; from then on nobody is told anything.

        Audits and shadows keep the question for as long as they wait for the teacher, and must not keep the
        call with it.
        """
        with self._lock:
            self._context = None
            self._tell.clear()

    def fire(self) -> None:
        """Tell all of them."""
        with self._lock:
            self.fired = True
            told, self._tell = self._tell, set()
        for callback in told:
            callback()
