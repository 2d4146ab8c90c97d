"""Asking gRPC for many calls at once, where its asyncio server asks for one after the other.

gRPC's core hands a call to a server that has asked for one. grpcio's asyncio server asks for the next when it
has the last, so each call costs a round through the core, the poller's thread and the event loop, however
many wait. Servers in C++ ask for many ahead. Here that is done by a subclass of what grpcio's server stands
on, by two of its methods that are no promise of grpcio's; where a release has other parts, its own server is
left as it is.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterable
from functools import partial
from types import coroutine
from typing import Any

import grpc
from grpc._cython import cygrpc

_log = logging.getLogger(__name__)

AHEAD = 16
"""Calls that are asked for ahead: an asyncio echo gains more by 64, decisions do not (docs/profiling.md)."""

_HANDLING = ("generic_handlers", "interceptors", "rpc_state", "loop", "concurrency_exceeded")
"""What grpcio's handling of a call takes, in the releases that this was tried with (1.78 to 1.82)."""

_making = threading.Lock()


class _Asked:
    """One call that was asked for: grpcio's own coroutine, as far as the future that it waits for.

    Parameters
    ----------
    asking : coroutine
        Of `AioServer._request_call`.
    """

    __slots__ = ("_asking", "came")

    def __init__(self, asking: Coroutine[Any, Any, Any]) -> None:
        self._asking = asking
        self.came: asyncio.Future[None] = asking.send(None)

    @coroutine
    def wait(self) -> Generator[asyncio.Future[None], None, None]:
        """Wait for the call, as the coroutine itself would; a task for it would cost as much as is won."""
        yield self.came

    def call(self) -> Any:
        """Give the call that has come. Raises what grpcio raises where none will come any more."""
        try:
            self._asking.send(None)
        except StopIteration as end:
            return end.value
        raise RuntimeError("grpcio waits for more than one future before it gives a call")


class PrefetchingServer(cygrpc.AioServer):  # type: ignore[misc]
    """What a `grpc.aio.Server` stands on, with `AHEAD` calls asked for ahead.

    grpcio's main loop asks it for the next call until it is told to stop. The core then answers what was
    asked for and has not come with an error. What came at the last moment is handled here, since that loop
    does not ask for it any more.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        thread_pool: Any,
        generic_handlers: Iterable[grpc.GenericRpcHandler] | None,
        interceptors: Iterable[grpc.aio.ServerInterceptor] | None,
        *more: Any,
    ) -> None:
        self._on = loop
        self._handlers: list[grpc.GenericRpcHandler] = []
        self._between = tuple(interceptors or ())
        self._asked: deque[_Asked] = deque()
        self._handling: set[asyncio.Task[None]] = set()  # a loop alone does not keep its tasks
        super().__init__(loop, thread_pool, generic_handlers, interceptors, *more)

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Add handlers, before the server is started."""
        handlers = list(generic_rpc_handlers)
        self._handlers.extend(handlers)
        super().add_generic_rpc_handlers(handlers)

    async def _request_call(self) -> Any:
        """Give grpcio's main loop the next call."""
        while len(self._asked) < AHEAD:
            self._asked.append(_Asked(super()._request_call()))
        # The core answers in the order in which it was asked.
        first = self._asked.popleft()
        if not first.came.done():
            await first.wait()
        return first.call()

    async def _start_shutting_down(self) -> None:
        await super()._start_shutting_down()  # returns as the main loop has ended
        while self._asked:
            last = self._asked.popleft()
            last.came.add_done_callback(partial(self._end, last))

    def _end(self, last: _Asked, came: asyncio.Future[None]) -> None:
        """Handle a call that came while the main loop ended."""
        if came.cancelled() or came.exception() is not None:
            return
        call = last.call()
        handling = cygrpc._handle_rpc(self._handlers, self._between, call, self._on, False)
        task = self._on.create_task(cygrpc._schedule_rpc_coro(handling, call, self._on))
        self._handling.add(task)
        task.add_done_callback(self._handling.discard)


def prefetching(make: Callable[[], grpc.aio.Server]) -> grpc.aio.Server:
    """Make a server that asks for many calls ahead, or grpcio's own where this release has other parts.

    Parameters
    ----------
    make : callable
        Calls `grpc.aio.server`.
    """
    if not known():
        _log.warning(
            "grpcio %s has other parts than the releases that are known here: it asks for one call at a time",
            grpc.__version__,
        )
        return make()
    usual = cygrpc.AioServer
    with _making:
        cygrpc.AioServer = PrefetchingServer  # `grpc.aio.server` can be given no class
        try:
            return make()
        finally:
            cygrpc.AioServer = usual


def known(of: Any = cygrpc) -> bool:
    """Say whether grpcio has the parts that `PrefetchingServer` stands on."""
    try:
        server = of.AioServer
        asks = (server._request_call, server._start_shutting_down, of._schedule_rpc_coro)
        handling = tuple(inspect.signature(of._handle_rpc).parameters)
    except (AttributeError, TypeError, ValueError):
        return False
    return handling == _HANDLING and all(map(inspect.iscoroutinefunction, asks))
