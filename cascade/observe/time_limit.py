"""A limit on how long an HTTP call takes as a whole; what `requests` limits is each wait for more bytes."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from requests.adapters import HTTPAdapter


class LimitedAdapter(HTTPAdapter):
    """Makes connections that are cut off where a call takes too long. For one thread.

    A server that drips its answer, a byte now and then, would else hold the thread for hours.
    """

    def __init__(self) -> None:
        super().__init__()
        self._wire: socket.socket | None = None
        self._classes: dict[type, type] = {}
        self.cut = False
        """Whether the last call was cut off."""
        # One thread looks after all calls: to start one for each takes longer than to send a message.
        self._changed = threading.Condition()
        self._end: float | None = None  # of the call under way
        self._looks_at: float | None = None  # when the thread looks next; None while it waits to be told
        self._thread: threading.Thread | None = None
        self._closed = False

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        """Give the pool of connections to a server; see `requests`."""
        pool = super().get_connection_with_tls_context(*args, **kwargs)
        kind = pool.ConnectionCls
        if kind not in self._classes.values():
            pool.ConnectionCls = self._classes.setdefault(kind, _noting(kind, self._opened))
        return pool

    @contextmanager
    def limit(self, seconds: float) -> Iterator[None]:
        """Cut the call off that is made within, after that many seconds."""
        with self._changed:
            self.cut = False
            self._end = time.monotonic() + seconds
            if self._thread is None:
                self._thread = threading.Thread(target=self._look, name="http-time-limit", daemon=True)
                self._thread.start()
            elif self._looks_at is None or self._looks_at > self._end:
                self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                self._end = None

    def close(self) -> None:
        """Let go of the connections."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        super().close()
        if self._wire is not None:
            self._wire.close()

    def _opened(self, made: socket.socket) -> None:
        # A descriptor of our own: around that of the connection TLS is put, and it is closed elsewhere.
        wire, self._wire = self._wire, socket.socket(fileno=os.dup(made.fileno()))
        if wire is not None:
            wire.close()
        if self.cut:
            self._shut()

    def _look(self) -> None:
        with self._changed:
            while not self._closed:
                # Whoever begins a call that ends later than this looks next need not wake it.
                self._looks_at = self._end
                now = time.monotonic()
                if self._end is not None and self._end <= now:
                    self._end, self.cut = None, True
                    self._shut()
                else:
                    self._changed.wait(None if self._end is None else self._end - now)

    def _shut(self) -> None:
        if self._wire is not None:
            with suppress(OSError):  # it is closed
                self._wire.shutdown(socket.SHUT_RDWR)


def _noting(kind: type, opened: Callable[[socket.socket], None]) -> type:
    """Make the class of connections that tell of their socket, before anything is said over it."""

    def _new_conn(self: Any) -> socket.socket:
        made: socket.socket = kind._new_conn(self)  # type: ignore[attr-defined]
        opened(made)
        return made

    return type(kind.__name__, (kind,), {"_new_conn": _new_conn})
