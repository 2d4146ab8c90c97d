"""Connections over HTTP that say half a word, or nothing, or read nothing: they end, and good calls go on."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest

from cascade.demo.frontier import SimulatedFrontier
from cascade.demo.recorded import Recorded
from cascade.server import http_connections
from tests.gateway_side import CHATTER, Side
from tests.soon import comes

LONG = 30.0
HALF = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-slow: "
HEALTH = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"

Connect = Callable[..., socket.socket]


@pytest.fixture
def connect() -> Iterator[Callable[[Side], Connect]]:
    opened: list[socket.socket] = []

    def to(side: Side) -> Connect:
        def open_one(raw: bytes = b"") -> socket.socket:
            opened.append(socket.create_connection(("127.0.0.1", int(side.url.rpartition(":")[2])), LONG))
            opened[-1].sendall(raw)
            return opened[-1]

        return open_one

    yield to
    for each in opened:
        each.close()


def rest_of(connection: socket.socket) -> bytes:
    """Read until the server closes the connection."""
    raw = b""
    try:
        while part := connection.recv(65536):
            raw += part
    except ConnectionResetError:
        pass
    return raw


def healthy(connection: socket.socket) -> bool:
    """Ask whether the server is healthy, and read the answer whole."""
    connection.sendall(HEALTH)
    raw = b""
    while not raw.endswith(b'{"ready":true}'):
        part = connection.recv(65536)
        assert part, f"cut off after {raw!r}"
        raw += part
    return raw.startswith(b"HTTP/1.1 200 ")


def quick(monkeypatch: pytest.MonkeyPatch, seconds: float = 0.5) -> None:
    monkeypatch.setattr(http_connections, "HEADER_SECONDS", seconds)


def test_half_a_head_is_waited_for_for_some_seconds_and_good_calls_go_on_meanwhile(
    start: Callable[..., Side], connect: Callable[[Side], Connect], monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(monkeypatch)
    side = start()
    slow = [connect(side)(HALF) for _ in range(60)]
    silent = connect(side)()
    assert side.ask("hello", model="big-1", messages=[CHATTER]).status_code == 200
    for each in slow:
        assert rest_of(each).startswith(b"HTTP/1.1 408 ")
    assert rest_of(silent) == b""


def test_a_byte_now_and_then_is_no_head(
    start: Callable[..., Side], connect: Callable[[Side], Connect], monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(monkeypatch)
    drips = connect(start())(HALF)

    def cut_off() -> bool:
        try:
            drips.sendall(b"a")
        except OSError:
            return True
        return False

    began = time.monotonic()
    assert comes(cut_off)
    assert time.monotonic() - began < LONG / 2


@pytest.mark.parametrize("then", [b"GET /heal", b""], ids=["half of another", "nothing"])
def test_after_an_answer_half_of_another_request_is_not_waited_for_and_silence_is(
    start: Callable[..., Side],
    connect: Callable[[Side], Connect],
    monkeypatch: pytest.MonkeyPatch,
    then: bytes,
) -> None:
    quick(monkeypatch)
    kept = connect(start())()
    assert healthy(kept)
    kept.sendall(then)
    if then:
        assert rest_of(kept).startswith(b"HTTP/1.1 408 ")
        return
    time.sleep(1.5)  # three times as long: agents keep their connections
    assert healthy(kept)


def test_a_body_that_nobody_waits_for_any_more_may_not_drip_for_ever(
    start: Callable[..., Side], connect: Callable[[Side], Connect], monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(monkeypatch)
    refused = connect(start())(b"POST /nowhere HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n")
    assert refused.recv(65536).startswith(b"HTTP/1.1 40")

    def cut_off() -> bool:
        try:
            refused.sendall(b"a")
        except OSError:
            return True
        return False

    assert comes(cut_off)


def test_a_call_under_way_may_take_longer_than_a_head(
    start: Callable[..., Side], connect: Callable[[Side], Connect], monkeypatch: pytest.MonkeyPatch,
    chatty: SimulatedFrontier,
) -> None:  # fmt: skip
    quick(monkeypatch, 0.2)
    chatty._latency = 1.0
    side = start()
    body = b'{"model": "m", "messages": [{"role": "user", "content": "write a poem about parcels"}]}'
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
    calls = connect(side)(head.encode())
    time.sleep(0.5)  # nor need its body come as soon
    calls.sendall(body)
    assert calls.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_of_too_many_idle_connections_those_that_are_so_for_longest_make_room(
    start: Callable[..., Side], connect: Callable[[Side], Connect]
) -> None:
    side = start(http={"max_in_flight": 20})
    silent = [connect(side)(HALF) for _ in range(20)]
    kept = connect(side)()
    assert healthy(kept)
    assert rest_of(silent[0]) == b""
    more = [connect(side)(HALF) for _ in range(10)]
    assert httpx2.get(f"{side.url}/healthz").status_code == 200
    for each in silent[1:11]:
        assert rest_of(each) == b""
    assert healthy(kept), "it was at work later than they"
    for each in more:
        each.settimeout(0.05)
        with pytest.raises(TimeoutError):
            each.recv(1)


@pytest.mark.parametrize("closes", [b"", b"connection: close\r\n"])
@pytest.mark.parametrize(
    "path", [b"/v1/chat/completions", b"/nowhere"], ids=["that reads the body", "that does not"]
)
def test_a_body_that_turns_out_to_be_no_http_fills_no_log(
    start: Callable[..., Side], connect: Callable[[Side], Connect], caplog: pytest.LogCaptureFixture,
    closes: bytes, path: bytes,
) -> None:  # fmt: skip
    side = start()
    head = b"POST " + path + b" HTTP/1.1\r\nhost: x\r\n" + closes + b"transfer-encoding: chunked\r\n\r\n"
    at_once = connect(side)(head + b"no chunk\r\n")
    assert rest_of(at_once).startswith(b"HTTP/1.1 400 ")
    then = connect(side)(head)
    time.sleep(0.3)
    then.sendall(b"no chunk\r\n")
    assert rest_of(then).startswith(b"HTTP/1.1 40")
    without_a_body = connect(side)(head.replace(b"POST", b"HEAD") + b"no chunk\r\n")
    assert rest_of(without_a_body).startswith(b"HTTP/1.1 40")
    after = connect(side)(HEALTH.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n") + b"and more")
    assert rest_of(after).startswith(b"HTTP/1.1 200 ")
    assert side.ask("hello", model="big-1", messages=[CHATTER]).status_code == 200
    assert not [each for each in caplog.records if each.exc_info or each.levelname == "ERROR"]


def test_who_reads_nothing_of_an_answer_is_cut_off(
    start: Callable[..., Side], connect: Callable[[Side], Connect], monkeypatch: pytest.MonkeyPatch,
    chatty: SimulatedFrontier,
) -> None:  # fmt: skip
    monkeypatch.setattr(http_connections, "STALL_SECONDS", 0.5)
    said: Any = "x" * 12_000_000  # more than sockets hold
    chatty._recorded = Recorded({"write a long poem": said})
    side = start()
    body = b'{"model": "m", "messages": [{"role": "user", "content": "write a long poem"}]}'
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
    calls = connect(side)(head.encode() + body)
    assert calls.recv(10) == b"HTTP/1.1 2"
    time.sleep(3.0)
    assert len(rest_of(calls)) < len(said)
