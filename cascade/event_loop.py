"""The event loops of a process, each in a daemon thread: one for chat rungs, one for the gRPC server."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from socket import MSG_PEEK, socket
from typing import Any, TypeVar

T = TypeVar("T")

_STILL_SECONDS = 1.0

_reading = threading.Lock()


class BackgroundLoop:
    """An event loop whose thread starts with the first use and never ends.

    One of uvloop's stands still from when exit handlers run (`atexit`), and raises RuntimeError from then on.

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
        if new_loop is fastest_loop:
            atexit.register(self._stand_still)  # once, also for children
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        # A forked child has the loop object but not its thread, so it must start its own.
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended = False

    @property
    def running(self) -> asyncio.AbstractEventLoop:
        """The loop, which runs. Raises RuntimeError once it stands still."""
        with self._lock:
            if self._ended:
                raise RuntimeError(f"{self._name}: the interpreter ends; what needs it must end before")
            if self._loop is None:
                self._loop = self._new_loop()
                threading.Thread(target=self._loop.run_forever, name=self._name, daemon=True).start()
            return self._loop

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start a coroutine on the loop.

        Cancelling the future cancels the coroutine. Waiting for the future on the loop's own thread would
        never end.
        """
        try:
            loop = self.running
        except RuntimeError:
            work.close()
            raise
        return asyncio.run_coroutine_threadsafe(work, loop)

    def _stand_still(self) -> None:
        # uvloop asks for the interpreter's lock when it wakes. Where it does so after the interpreter is gone
        # and before the process is, the process dies of SIGSEGV.
        with self._lock:
            self._ended, loop = True, self._loop
        if loop is None:
            return
        still = threading.Event()

        def for_ever() -> None:
            still.set()
            threading.Event().wait()

        with suppress(RuntimeError):  # somebody closed it
            loop.call_soon_threadsafe(for_ever)
            still.wait(_STILL_SECONDS)  # unless what it does hangs


def wakes_grpc(callback: Callable[..., object]) -> bool:
    """Whether a reader is that of gRPC's poller: it takes a byte, and then every event that there is."""
    return isinstance(callback, partial) and getattr(callback.func, "__name__", "") == "_handle_events"


def once_for_all(sock: socket, callback: Callable[..., object]) -> Callable[..., None]:
    """Have a reader called once for all bytes that are there, of which it is left one.

    gRPC's poller sends a byte for each event, and its reader takes all events at the first: for the other
    bytes the loop went round in vain, three times a call. An event is queued before its byte is sent, so
    whoever has taken a byte finds the events of all bytes that were there.
    """

    def read(*args: object) -> None:
        # Two such loops could each take the byte that the other had left for itself, and nobody the events.
        with _reading:
            try:
                there = len(sock.recv(4096, MSG_PEEK))
                if there > 1:
                    sock.recv(there - 1)
                callback(*args)
            except BlockingIOError:  # another loop of this process has taken them
                pass

    return read


def fastest_loop() -> asyncio.AbstractEventLoop:
    """Make the fastest loop that there is here: uvloop's, which goes round once for all events of gRPC."""
    try:
        import uvloop
    except ImportError:  # there is none for Windows
        return asyncio.new_event_loop()

    class GrpcLoop(uvloop.Loop):
        # As uvloop has it, whose types are coarser than asyncio's.
        def add_reader(  # type: ignore[override]
            self, fd: Any, callback: Callable[..., Any], *args: Any
        ) -> None:
            if isinstance(fd, socket) and wakes_grpc(callback):
                callback = once_for_all(fd, callback)
            super().add_reader(fd, callback, *args)

    loop: asyncio.AbstractEventLoop = GrpcLoop()
    return loop


CHAT = BackgroundLoop("cascade-chat-io")
"""Where chat rungs do their network I/O."""

GRPC = BackgroundLoop("cascade-grpc", fastest_loop)
"""Where gRPC's server runs: one loop a process, since grpcio's poller wakes all that there are."""
