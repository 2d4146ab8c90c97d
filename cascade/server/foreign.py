"""Services that others wrote (health, reflection): a message that is none is the caller's mistake here, too.

Their handlers leave reading to gRPC, which answers what cannot be read with UNKNOWN and an exception's text,
and logs a stack trace for each call, though none of them needs a key.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from cascade.errors import InvalidInput
from cascade.server.call import end_with


class ForeignServices:
    """Stands in for a server where such a service is added to it.

    Parameters
    ----------
    server : grpc.aio.Server
    """

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Add handlers, which are given messages that were read."""
        self._server.add_generic_rpc_handlers(tuple(_Read(handler) for handler in handlers))

    def add_registered_method_handlers(self, service: str, handlers: Any) -> None:
        """Add nothing: what is generic is enough, as it is for grpc.aio."""


class _Read(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self, handlers: grpc.GenericRpcHandler) -> None:
        self._handlers = handlers

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        """Give the handler of a call."""
        found = self._handlers.service(details)
        return None if found is None else _reading(found, details.method.rpartition("/")[2])


def _reading(handler: Any, method: str) -> Any:
    read = _reader(handler.request_deserializer)
    if handler.request_streaming:

        async def stream(raws: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
            async def requests() -> AsyncIterator[Any]:
                async for raw in raws:
                    yield read(raw)

            try:
                async for answer in handler.stream_stream(requests(), context):
                    yield answer
            except InvalidInput as error:
                ending = end_with(context, error, method)
                del context, raws  # see `end_with`
                await ending

        return grpc.stream_stream_rpc_method_handler(stream, None, handler.response_serializer)
    answer = handler.unary_stream if handler.response_streaming else handler.unary_unary

    async def one(raw: bytes, context: grpc.aio.ServicerContext) -> Any:
        try:
            request = read(raw)
        except InvalidInput as error:
            ending = end_with(context, error, method)
            del context, raw  # see `end_with`
            await ending
        return await answer(request, context)

    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler(one, None, handler.response_serializer)
    return grpc.unary_unary_rpc_method_handler(one, None, handler.response_serializer)


def _reader(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def read(raw: bytes) -> Any:
        try:
            return deserialize(raw)
        except DecodeError:
            raise InvalidInput("request", f"the {len(raw)} bytes are no message of this method") from None

    return read
