"""Refuses calls while too many wait, at little cost: before the message is read, and without an exception."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
from grpc_status import rpc_status

from cascade.errors import Overloaded
from cascade.observe.failures import failures
from cascade.server.status import status_of

_MOST_KEPT = 1024


class Refusals(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Finds handlers; in the place of one whose calls would wait too long, one that only refuses.

    Parameters
    ----------
    handlers : grpc.GenericRpcHandler
        Where the handlers are found.
    methods : frozenset of str
        Full names of the methods, each with one request and one response, whose calls may be refused.
    why_not : callable
        Gives the error to refuse with, or None where a call is taken.
    """

    def __init__(
        self,
        handlers: grpc.GenericRpcHandler,
        methods: frozenset[str],
        why_not: Callable[[], Overloaded | None],
    ) -> None:
        self._handlers, self._methods, self._why_not = handlers, methods, why_not
        self._statuses: dict[tuple[str, float], grpc.Status] = {}

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        """Give the handler of a call."""
        if details.method in self._methods and (error := self._why_not()) is not None:
            failures.count(details.method.rpartition("/")[2], error.code, error.reason)
            return self._refusing(self._status(error))
        return self._handlers.service(details)

    def _refusing(self, status: grpc.Status) -> Any:
        async def refuse(_: Any, context: grpc.aio.ServicerContext) -> bytes:
            # Not by `abort`: its exception would be thrown through all of gRPC's frames.
            context.set_code(status.code)
            context.set_details(status.details)
            context.set_trailing_metadata(status.trailing_metadata)
            return b""

        # As if its requests came in a stream: for one request gRPC would read the message first.
        return grpc.stream_unary_rpc_method_handler(refuse)

    def _status(self, error: Overloaded) -> grpc.Status:
        """Make an error a status; few differ, since the hints are exact to 0.1 s."""
        key = (error.message, error.retry_after)
        found = self._statuses.get(key)
        if found is None:
            if len(self._statuses) >= _MOST_KEPT:
                self._statuses.clear()
            found = self._statuses[key] = rpc_status.to_status(status_of(error))
        return found
