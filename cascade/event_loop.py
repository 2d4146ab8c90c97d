"""The event loops of a process, each in a daemon thread: one for chat rungs, one for the gRPC server."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class BackgroundLoop:
    """An event loop whose thread starts with the first use and never ends.

    Parameters
    ----------
    name : str
        The thread's.
    new_loop : callable
        Makes the loop.

    Examples
    --------
    >>> BackgroundLoop("example").start(asyncio.sleep(0, "done")).result(10)
    'done'
    """

    def __init__(
        self, name: str, new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    ) -> None:
        self._name, self._new_loop = name, new_loop
        self._forget()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        # A forked child has the loop object but not its thread, so it must start its own.
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def running(self) -> asyncio.AbstractEventLoop:
        """The loop, which runs."""
        with self._lock:
            if self._loop is None:
                self._loop = self._new_loop()
                threading.Thread(target=self._loop.run_forever, name=self._name, daemon=True).start()
            return self._loop

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start a coroutine on the loop.

        Cancelling the future cancels the coroutine. Waiting for the future on the loop's own thread would
        never end.
        """
        return asyncio.run_coroutine_threadsafe(work, self.running)


def _fastest() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:  # there is none for Windows
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


CHAT = BackgroundLoop("cascade-chat-io")
"""Where chat rungs do their network I/O."""

GRPC = BackgroundLoop("cascade-grpc", _fastest)
"""Where gRPC's server runs: one loop a process, since grpcio's poller wakes all that there are."""
