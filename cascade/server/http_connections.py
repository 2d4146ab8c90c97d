"""Connections of the HTTP side: half a request, or half an answer read, is not waited for for ever."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_SECONDS = 10.0
"""In which the head of a request must have come, from the connection's or its own first byte on."""

STALL_SECONDS = 60.0
"""How long a caller may take nothing of an answer that waits for it."""

_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class BoundedConnection(H11Protocol):
    """One connection, bounded in what uvicorn leaves open.

    uvicorn bounds how long a connection may be silent after an answer, and nothing else: not how long the
    first request or half of one may take, nor how many such connections there are.
    """

    idle: ClassVar[dict[BoundedConnection, None]]
    """Those without a request under way, the one first that has been so for longest."""
    most_idle: ClassVar[int]
    _head_timer: asyncio.TimerHandle | None = None
    _stall_timer: asyncio.TimerHandle | None = None
    _began = False  # whether any byte has come

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request; the connection that waits for longest makes room where it must."""
        super().connection_made(transport)
        self.idle[self] = None
        self._head_timer = self.loop.call_later(HEADER_SECONDS, self._too_slow)
        while len(self.idle) > self.most_idle:
            longest = next(iter(self.idle))
            del self.idle[longest]
            longest.transport.close()

    def data_received(self, data: bytes) -> None:
        """Read on."""
        self._began = True
        super().data_received(data)
        if self._under_way():
            self.idle.pop(self, None)
            self._stop_head_timer()
        elif self._head_timer is None and not self.transport.is_closing():
            self._head_timer = self.loop.call_later(HEADER_SECONDS, self._too_slow)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, unless its answer has begun or was given; who still answers is told.

        uvicorn would let the application answer after this, and itself answer after an answer: each an
        exception with its whole trace in the log, for anyone to fill it with.
        """
        if self._under_way():
            assert self.cycle is not None
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state is h11.IDLE:
            super().send_400_response(msg)
        elif self.conn.our_state is h11.SEND_RESPONSE:
            super().send_400_response("" if self.scope["method"] == "HEAD" else msg)  # HEAD's has no body
        else:
            self.transport.close()

    def on_response_complete(self) -> None:
        """Begin to wait for another request, unless that has come already."""
        super().on_response_complete()
        if not self._under_way() and not self.transport.is_closing():
            self.idle[self] = None

    def pause_writing(self) -> None:
        """Wait for the caller to take what was written."""
        super().pause_writing()
        self._stall_timer = self.loop.call_later(STALL_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Write on."""
        super().resume_writing()
        self._stop_stall_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self.idle.pop(self, None)
        self._stop_head_timer()
        self._stop_stall_timer()
        super().connection_lost(exc)

    def _under_way(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_stall_timer(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def _too_slow(self) -> None:
        self._head_timer = None
        self.idle.pop(self, None)
        if self.transport.is_closing() or self._under_way():
            return
        if self._began:
            self.transport.write(_TOO_SLOW)
        self.transport.close()


def bounded_connections(most_idle: int) -> type[BoundedConnection]:
    """Make the protocol of a server that keeps at most so many connections without a request under way."""
    own: dict[str, Any] = {"idle": {}, "most_idle": most_idle}
    return type("BoundedConnections", (BoundedConnection,), own)
