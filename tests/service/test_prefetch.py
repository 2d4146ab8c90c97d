"""Calls are asked for ahead, over real gRPC on loopback."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from grpc._cython import cygrpc

from cascade.event_loop import GRPC
from cascade.server.prefetch import AHEAD, PrefetchingServer, known, prefetching

METHOD = "/test.Echo/Echo"


async def echo(request: bytes, _: grpc.aio.ServicerContext) -> bytes:
    return request


class Echo(grpc.GenericRpcHandler):  # type: ignore[misc]
    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        return grpc.unary_unary_rpc_method_handler(echo) if details.method == METHOD else None


class NoStrangers(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    async def intercept_service(
        self, then: Callable[[Any], Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Any:
        async def refuse(_: bytes, context: grpc.aio.ServicerContext) -> bytes:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you?")
            raise AssertionError

        if ("name", "friend") in details.invocation_metadata:
            return await then(details)
        return grpc.unary_unary_rpc_method_handler(refuse)


@pytest.fixture
def server() -> Iterator[tuple[grpc.aio.Server, grpc.Channel]]:
    async def start() -> tuple[grpc.aio.Server, int]:
        made = prefetching(lambda: grpc.aio.server(interceptors=[NoStrangers()]))
        made.add_generic_rpc_handlers((Echo(),))
        port = made.add_insecure_port("127.0.0.1:0")
        await made.start()
        return made, port

    made, port = GRPC.start(start()).result(20)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        grpc.channel_ready_future(channel).result(20)
        yield made, channel
    GRPC.start(made.stop(None)).result(20)


def ask(channel: grpc.Channel, text: bytes, name: str = "friend") -> Future[bytes]:
    return channel.unary_unary(METHOD).future(text, timeout=30, metadata=[("name", name)])  # type: ignore[no-any-return]


def test_the_service_asks_for_calls_ahead(own: Any) -> None:
    assert isinstance(own().server._server._server, PrefetchingServer)


def test_one_call_after_the_other_is_answered_and_more_than_are_asked_for_at_once(
    server: tuple[grpc.aio.Server, grpc.Channel],
) -> None:
    made, channel = server
    assert isinstance(made._server, PrefetchingServer)  # with the release that is pinned here
    for k in range(3 * AHEAD):
        assert ask(channel, b"%d" % k).result() == b"%d" % k
    many = [ask(channel, b"%d" % k) for k in range(20 * AHEAD)]
    assert [each.result() for each in many] == [b"%d" % k for k in range(20 * AHEAD)]


def test_calls_that_came_while_the_server_was_told_to_stop_are_handled_as_any_others(
    server: tuple[grpc.aio.Server, grpc.Channel], caplog: pytest.LogCaptureFixture
) -> None:
    made, channel = server

    async def stand_still_and_stop() -> None:
        began.set_result(None)
        time.sleep(1)  # the calls come meanwhile, and the core gives each to one that was asked for
        await made.stop(20)

    began = Future[None]()
    stopping = GRPC.start(stand_still_and_stop())
    began.result(20)
    asked = [ask(channel, b"%d" % k) for k in range(AHEAD - 1)]
    stranger = ask(channel, b"", "stranger")
    assert [each.result() for each in asked] == [b"%d" % k for k in range(AHEAD - 1)]
    with pytest.raises(grpc.RpcError) as refused:
        stranger.result()
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    stopping.result(20)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_server_stops_while_it_has_asked_for_calls_that_never_come(
    server: tuple[grpc.aio.Server, grpc.Channel], caplog: pytest.LogCaptureFixture
) -> None:
    made, channel = server
    assert ask(channel, b"1").result() == b"1"
    GRPC.start(made.stop(20)).result(20)
    with pytest.raises(grpc.RpcError):
        ask(channel, b"2").result()
    assert not caplog.records


def test_a_release_with_other_parts_keeps_its_own_server(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert known()
    assert not known(SimpleNamespace())
    assert not known(
        SimpleNamespace(
            AioServer=cygrpc.AioServer,
            _schedule_rpc_coro=cygrpc._schedule_rpc_coro,
            _handle_rpc=lambda handlers, state: None,
        )
    )
    monkeypatch.delattr(cygrpc, "_schedule_rpc_coro")

    async def make() -> Any:
        return prefetching(grpc.aio.server)

    made = GRPC.start(make()).result(20)
    assert type(made._server) is cygrpc.AioServer
    assert "asks for one call at a time" in caplog.text


def test_the_class_is_put_back_where_a_server_cannot_be_made() -> None:
    usual = cygrpc.AioServer

    async def make() -> None:
        with pytest.raises(ValueError, match="Interceptor"):
            prefetching(lambda: grpc.aio.server(interceptors=["none"]))

    GRPC.start(make()).result(20)
    assert cygrpc.AioServer is usual
