"""Refuses, by key, calls of services that do not ask the gate themselves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from cascade.errors import CascadeError
from cascade.server.call import end_with
from cascade.server.gate import Gate

_FREE = ("/grpc.health.v1.", "/grpc.reflection.", "/cascade.v1.DecisionService/", "/inference.")
"""Health and reflection are for everyone; those who decide ask the gate with the message at hand."""


_READS = tuple(f"/cascade.v1.RolloutService/{method}" for method in ("Status", "Watch", "History"))
"""What changes nothing and needs `read` alone."""


class GateInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Lets only keys with the verb `admin` call what is not free; those with `read` may look at rollouts."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        """Give the method's handler, or one that refuses."""
        handler = await continuation(details)
        if handler is None or details.method.startswith(_FREE):
            return handler
        try:
            self._gate.enter(details, "read" if details.method in _READS else "admin")
        except CascadeError as error:
            return _refusing(handler, error, details.method.rpartition("/")[2])
        return handler


def _refusing(handler: Any, error: CascadeError, method: str) -> Any:
    async def refuse(_: Any, context: grpc.aio.ServicerContext) -> Any:
        ending = end_with(context, error, method)
        del context, _  # see `end_with`
        await ending

    if handler.request_streaming and handler.response_streaming:
        return grpc.stream_stream_rpc_method_handler(refuse)
    if handler.request_streaming:
        return grpc.stream_unary_rpc_method_handler(refuse)
    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler(refuse)
    return grpc.unary_unary_rpc_method_handler(refuse)
