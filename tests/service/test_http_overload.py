"""Too much at once over HTTP: what is beyond the bounds is refused at once, and the rest is served."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest

from cascade.demo.frontier import SimulatedFrontier
from cascade.gateway import replies
from tests.conftest import NODE
from tests.gateway_side import CHATTER, Side, settled_and_escalated
from tests.soon import comes

pytestmark = pytest.mark.alone

LONG = 30.0


def head(size: int, tenant: str = "", path: str = "/v1/chat/completions") -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {size}\r\n"
        f"x-cascade-tenant: {tenant}\r\n\r\n".encode()
    )


BODY = json.dumps({"model": "m", "messages": [CHATTER]}).encode()


class Callers:
    """Calls on sockets of their own, most of which are never answered."""

    def __init__(self, side: Side, frontier: SimulatedFrontier) -> None:
        self.port, self.frontier = int(side.url.rpartition(":")[2]), frontier
        self.open: list[socket.socket] = []

    def begin(self, raw: bytes) -> socket.socket:
        self.open.append(socket.create_connection(("127.0.0.1", self.port), LONG))
        self.open[-1].sendall(raw)
        return self.open[-1]

    def hang(self, tenant: str = "") -> None:
        """Make a call that the frontier does not answer, and wait until it is under way."""
        before = self.frontier.requests
        self.begin(head(len(BODY), tenant) + BODY)
        assert comes(lambda: self.frontier.requests > before)

    def close(self) -> None:
        for each in self.open:
            each.close()
        self.open.clear()


@pytest.fixture
def callers(chatty: SimulatedFrontier) -> Iterator[Callable[[Side], Callers]]:
    made: list[Callers] = []

    def make(side: Side) -> Callers:
        made.append(Callers(side, chatty))
        return made[-1]

    chatty.faults.timeout_rate = 1.0
    yield make
    for each in made:
        each.close()


def answer_of(connection: socket.socket) -> tuple[int, dict[str, str], Any]:
    raw = b""
    while part := connection.recv(65536):
        raw += part
        top, found, body = raw.partition(b"\r\n\r\n")
        headers = dict(line.lower().split(": ", 1) for line in top.decode().split("\r\n")[1:])
        if found and len(body) >= int(headers["content-length"]):
            return int(top.split()[1]), headers, json.loads(body)
    raise AssertionError(f"no answer: {raw!r}")


def test_beyond_what_may_be_under_way_calls_get_503_and_a_hint_and_are_not_read(
    start: Callable[..., Side], callers: Callable[[Side], Callers], chatty: SimulatedFrontier
) -> None:
    side = start(http={"max_in_flight": 2})
    calls = callers(side)
    calls.hang()
    calls.hang()
    status, headers, body = answer_of(calls.begin(head(10**9)))  # nothing of its body is waited for
    assert (status, headers["retry-after"], body["error"]["code"]) == (503, "1", "overloaded")
    status, headers, _ = answer_of(calls.begin(head(2, path="/v1/embeddings") + b"{}"))
    assert (status, headers["retry-after"]) == (503, "1")
    assert httpx2.get(f"{side.url}/healthz").status_code == 200
    assert httpx2.get(f"{side.url}/").status_code == 200, "the page is not in the calls' way, nor they in its"
    calls.close()
    chatty.faults.timeout_rate = 0.0
    # Their places are free again once it is seen that they have gone.
    assert comes(lambda: httpx2.post(f"{side.url}/v1/chat/completions", content=BODY).status_code == 200)


def test_from_half_of_that_on_a_tenant_with_more_than_its_share_is_refused_first(
    start: Callable[..., Side], callers: Callable[[Side], Callers], chatty: SimulatedFrontier
) -> None:
    side = start(http={"max_in_flight": 8})
    calls = callers(side)
    for _ in range(5):
        calls.hang("greedy")  # alone, it may take what there is
    calls.hang("modest")
    status, headers, body = answer_of(calls.begin(head(len(BODY), "greedy") + BODY))
    assert (status, headers["retry-after"]) == (429, "1")
    assert "more than its share" in body["error"]["message"]
    calls.hang("modest")


def test_bodies_that_would_take_too_much_memory_together_are_refused(
    start: Callable[..., Side], callers: Callable[[Side], Callers]
) -> None:
    side = start(http={"max_body_bytes": 1024})
    calls = callers(side)
    half_sent = [calls.begin(head(1024) + b"x" * 1000) for _ in range(16)]

    def one_more() -> bool:
        status, _, body = answer_of(calls.begin(head(1000) + b"x" * 1000))
        return status == 503 and "too much memory" in body["error"]["message"]

    assert comes(one_more)
    half_sent.pop().sendall(b"x" * 24)  # it ends, as no JSON
    assert comes(lambda: answer_of(calls.begin(head(1000) + b"x" * 1000))[0] == 400)


def test_a_caller_that_does_not_send_its_body_loses_its_place(
    start: Callable[..., Side], callers: Callable[[Side], Callers], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replies, "_BODY_SECONDS", 0.2)
    side = start(http={"max_in_flight": 1})
    calls = callers(side)
    status, _, body = answer_of(calls.begin(head(100) + b"{"))
    assert (status, body["error"]["code"]) == (408, "too_slow")
    assert answer_of(calls.begin(head(2) + b"{}"))[0] == 400


def test_a_call_that_would_queue_for_too_long_goes_to_the_frontier_at_once(
    start: Callable[..., Side], chatty: SimulatedFrontier, unseen: list[dict[str, Any]]
) -> None:
    side = start()
    go = [False]

    def hang() -> None:
        assert comes(lambda: go[0])

    side.pool.bound = side.pool._most = 2
    hung = [side.pool.submit(hang) for _ in range(side.pool.max_threads + 3)]
    try:
        assert comes(lambda: side.pool.overfull and side.pool.size == side.pool.max_threads)
        found = side.ask(unseen[0]["text"])
        assert found.parse().choices[0].message.content == unseen[0]["label"]
        assert found.headers["x-cascade-served-by"] == "frontier"
        assert found.headers["x-cascade-why"].startswith("overloaded: too many calls wait already")
    finally:
        go[0] = True
        for each in hung:
            each.result(LONG)
    assert "overloaded" not in side.ask(unseen[0]["text"]).headers.get("x-cascade-why", "")


def test_calls_that_wait_for_the_frontier_take_no_thread_from_those_that_the_ladder_settles(
    start: Callable[..., Side], callers: Callable[[Side], Callers], unseen: list[dict[str, Any]],
    chatty: SimulatedFrontier,
) -> None:  # fmt: skip
    side = start()
    chatty.faults.timeout_rate = 0.0
    settled = settled_and_escalated(side, unseen)[0]["text"]
    chatty.faults.timeout_rate = 1.0
    calls, before = callers(side), chatty.requests
    many = side.pool.max_threads + 16
    for i in range(many):
        question = {"model": f"cascade/{NODE}", "messages": [{"role": "user", "content": f"zzqx wvut {i}"}]}
        body = json.dumps(question).encode()
        calls.begin(head(len(body)) + body)
    assert comes(lambda: chatty.requests - before >= many - 1)
    assert side.ask(settled).headers["x-cascade-served-by"] == "ladder"
