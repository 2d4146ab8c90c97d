"""A call as those see it who work for it in a thread, away from gRPC's event loop."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

import grpc
from google.rpc import status_pb2
from grpc_status import rpc_status

from cascade.observe.failures import failures
from cascade.server.status import known, status_of

_log = logging.getLogger(__name__)


class Aborted(Exception):
    """A handler ended its call with a status.

    Parameters
    ----------
    status : google.rpc.Status
    reason : str
        The error's, see `cascade.errors.CascadeError.reason`.
    """

    def __init__(self, status: status_pb2.Status, reason: str) -> None:
        super().__init__(status.message)
        self.status, self.reason = status, reason


class Call:
    """What a handler in a thread may ask of its call.

    Parameters
    ----------
    context : grpc.aio.ServicerContext
    """

    def __init__(self, context: Any) -> None:
        self._metadata = tuple(context.invocation_metadata() or ())
        remaining: float | None = context.time_remaining()
        self._deadline = None if remaining is None else time.monotonic() + remaining
        self._lock = threading.Lock()
        self._over = False
        self._callbacks: list[Callable[[], object]] = []

    def invocation_metadata(self) -> tuple[tuple[str, Any], ...]:
        """Give what metadata the caller sent."""
        return self._metadata

    def time_remaining(self) -> float | None:
        """Give the seconds that are left, however long the call has waited for a thread; None for ever."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def add_callback(self, callback: Callable[[], object]) -> bool:
        """Have a callback called when the call is over; False, and not called, where it is over already."""
        with self._lock:
            if self._over:
                return False
            self._callbacks.append(callback)
        return True

    def abort_with_status(self, status: status_pb2.Status, reason: str) -> NoReturn:
        """End the call with a status."""
        raise Aborted(status, reason)

    def end(self) -> None:
        """Say that the call is over."""
        with self._lock:
            self._over = True
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()


async def end_with(context: grpc.aio.ServicerContext, error: BaseException, method: str) -> NoReturn:
    """End the call with an error's status; of an unforeseen one the caller learns a reference to the log.

    For gRPC's event loop. The error is counted as that method's, see `cascade.observe.failures`.
    """
    if isinstance(error, asyncio.CancelledError | grpc.aio.AbortError):
        del context  # for the same reason as below
        try:
            raise error
        finally:
            del error
    if isinstance(error, Aborted):
        status, reason = error.status, error.reason
    else:
        ours = known(error)  # type: ignore[arg-type]
        status, reason = status_of(ours), ours.reason
        del ours  # for the same reason as below
    found = rpc_status.to_status(status)
    failures.count(method, found.code.name, reason)
    aborting = context.abort(found.code, found.details, found.trailing_metadata)
    # gRPC keeps the error that `abort` raises with the call; from it lead the traceback and the error before
    # it to these frames. With the context in one, the call would live until the garbage collector comes, and
    # with it its place on the connection, which refuses every call after a hundred such.
    error.__traceback__ = None
    del context, error, status, found
    try:
        await aborting
    except grpc.aio.InternalError as failure:
        _log.debug("nobody is told of %s's error: %s", method, failure)
        # The caller has gone. gRPC ignores that where it knows already, and logs a traceback where it is told
        # of it a moment later, which an overloaded worker meets every second.
        raise asyncio.CancelledError from None
    raise AssertionError("abort returns never")
