"""The trace that a call comes from, read where gRPC has the call's metadata ready."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any

import grpc


class Parents(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Finds handlers, and gives some of them their callers' `traceparent`.

    gRPC makes Python objects of a call's metadata to find its handler, and makes them anew for a handler that
    asks its context.

    Parameters
    ----------
    handlers : grpc.GenericRpcHandler
        Where the handlers are found.
    methods : mapping of str to callable
        By their full names, methods with one request and one response that take `parent` as well. Called
        instead of the handler that was found, where a call has a `traceparent`.
    """

    def __init__(
        self, handlers: grpc.GenericRpcHandler, methods: Mapping[str, Callable[..., Awaitable[Any]]]
    ) -> None:
        self._handlers, self._methods = handlers, methods

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        """Give the handler of a call."""
        method = self._methods.get(details.method)
        if method is not None and (parent := parent_in(details.invocation_metadata)):
            # Not a function around the method: its frame would keep the call alive, see `end_with`.
            return grpc.unary_unary_rpc_method_handler(partial(method, parent=parent))
        return self._handlers.service(details)


def parent_in(metadata: Iterable[tuple[str, Any]] | None) -> str:
    """Give the caller's `traceparent`; empty for none."""
    for key, value in metadata or ():
        if key == "traceparent" and isinstance(value, str):
            return value
    return ""
