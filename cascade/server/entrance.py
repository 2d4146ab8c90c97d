"""Where gRPC hands over a call: into the pool's queue, or out again at once while that is overfull.

gRPC's event loop takes the calls. What is refused there costs neither a thread of the pool nor a look at the
message.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc

from cascade.errors import InvalidInput, ShuttingDown
from cascade.server.call import Call, end_with
from cascade.server.gate import overloaded
from cascade.server.pool import ElasticPool


class Entrance:
    """Makes handlers of functions that block: each call runs in a thread of the pool.

    Parameters
    ----------
    pool : ElasticPool
    """

    def __init__(self, pool: ElasticPool) -> None:
        self._pool = pool

    def unary(
        self,
        method: str,
        answer: Callable[[bytes, Call], bytes],
        *,
        refuses: bool = True,
    ) -> Any:
        """Make the handler of a method with one raw request and one raw response.

        Parameters
        ----------
        method : str
            Its name, which errors are counted by.
        answer : callable
            Given the request and the call. Ends the call by `cascade.server.status.abort`.
        refuses : bool
            Whether calls are refused while the pool is overfull.
        """

        async def handle(request: Any, context: grpc.aio.ServicerContext) -> Any:
            call = Call(context)
            try:
                if refuses and self._pool.overfull:
                    raise overloaded(self._pool)
                if request is None:
                    raise no_message()
                return await asyncio.wrap_future(submit(self._pool, answer, request, call))
            except BaseException as error:
                call.end()
                ending = end_with(context, error, method)
                del context, call, request  # see `end_with`
                await ending

        return grpc.unary_unary_rpc_method_handler(handle)

    def at_once(self, method: str, answer: Callable[[bytes, Call], bytes]) -> Any:
        """Make the handler of a method that neither waits nor works, and so is answered under any load."""

        async def handle(request: Any, context: grpc.aio.ServicerContext) -> Any:
            try:
                if request is None:
                    raise no_message()
                return answer(request, Call(context))
            except BaseException as error:
                ending = end_with(context, error, method)
                del context, request  # see `end_with`
                await ending

        return grpc.unary_unary_rpc_method_handler(handle)

    def answers(self, method: str, answer: Callable[[Any, Call], Iterator[bytes]]) -> Any:
        """Make the handler of a method with one raw request and a stream of raw responses."""

        async def handle(request: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
            call = Call(context)
            try:
                if request is None:
                    raise no_message()
                found = answer(request, call)
                while True:
                    message = await asyncio.wrap_future(submit(self._pool, next, found, None))
                    if message is None:
                        return
                    yield message
            except Exception as error:
                ending = end_with(context, error, method)
                del context, request  # see `end_with`
                await ending
            finally:
                call.end()

        return grpc.unary_stream_rpc_method_handler(handle)


def submit(pool: ElasticPool, fn: Callable[..., Any], /, *args: Any) -> Any:
    """Queue a task. Raises ShuttingDown where the pool takes none any more."""
    try:
        return pool.submit(fn, *args)
    except RuntimeError:
        raise ShuttingDown from None


def no_message() -> InvalidInput:
    """Give the error for a call without a request."""
    return InvalidInput("request", "is missing: the call ended without a message")
