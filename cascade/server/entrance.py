"""Where gRPC hands over a call: into the pool's queue, or out again at once while that is overfull.

gRPC takes calls in one polling thread. What is refused there costs neither the message's arrival nor a
thread of the pool: 11,000 refusals a second on a core that gives 6,000 from the pool's threads (an empty
server, grpcio 1.78). A call is looked at there for one thing only, whether it has to wait too long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import Any, NoReturn

import grpc
from grpc_status import rpc_status

from cascade.errors import InvalidInput, Overloaded
from cascade.server.gate import overloaded
from cascade.server.pool import ElasticPool, run_surplus
from cascade.server.status import abort, status_of


class Entrance(ThreadPoolExecutor):
    """Makes handlers whose calls wait in the pool's queue, or are refused by gRPC's polling thread.

    gRPC runs a handler in the executor that it names as `experimental_thread_pool`, which has to be a
    `ThreadPoolExecutor`; this one starts no thread. A grpcio that does not know the name any more runs all in
    the pool, where surplus calls are refused as well.

    Parameters
    ----------
    pool : ElasticPool
    """

    def __init__(self, pool: ElasticPool) -> None:
        super().__init__(1)
        self._pool = pool

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Queue a call, or refuse it here and now. Raises RuntimeError after the pool's `shutdown`."""
        if not self._pool.overfull:
            return self._pool.submit(fn, *args, **kwargs)
        run_surplus(fn, *args, **kwargs)
        return _DONE

    def unary(
        self,
        answer: Callable[[Any, grpc.ServicerContext], Any],
        request_deserializer: Callable[[bytes], Any] | None = None,
        response_serializer: Callable[[Any], bytes] | None = None,
    ) -> Any:
        """Make the handler of a method with one request and one response."""

        def handle(requests: Iterator[Any], context: grpc.ServicerContext) -> Any:
            if self._pool.surplus:
                self._refuse(context)
            request = next(requests, None)
            if request is None:
                abort(context, InvalidInput("request", "is missing: the call ended without a message"))
            return answer(request, context)

        # To gRPC it is a stream of requests, because of such it does not wait for the first message itself.
        handle.experimental_thread_pool = self  # type: ignore[attr-defined]
        return grpc.stream_unary_rpc_method_handler(handle, request_deserializer, response_serializer)

    def stream(self, answer: Callable[[Iterator[Any], grpc.ServicerContext], Iterator[Any]]) -> Any:
        """Make the handler of a method with streams of raw requests and responses."""

        def handle(requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
            if self._pool.surplus:
                self._refuse(context)
            return answer(requests, context)

        handle.experimental_thread_pool = self  # type: ignore[attr-defined]
        return grpc.stream_stream_rpc_method_handler(handle)

    def _refuse(self, context: grpc.ServicerContext) -> NoReturn:
        error = overloaded(self._pool)
        context.abort_with_status(_status(str(error), error.retry_after))
        raise AssertionError("abort returns never")


class _Done(Future[Any]):
    """The future of a call that is over."""

    def add_done_callback(self, fn: Callable[[Future[Any]], object]) -> None:
        fn(self)


_DONE = _Done()
_DONE.set_result(None)


@lru_cache(maxsize=1024)
def _status(message: str, retry_after: float) -> Any:
    return rpc_status.to_status(status_of(Overloaded(message, retry_after)))
