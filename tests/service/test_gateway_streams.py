"""Streams of a frontier that sends much: long ones, and agents that take nothing of them or go away."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import httpx2
import pytest

from cascade.ask import Ask, Decided
from cascade.errors import CascadeError
from cascade.gateway.relay import _AHEAD, Relay
from cascade.traffic import TrafficStore
from tests.conftest import NODE
from tests.gateway_side import CHATTER, SYSTEM, Configure, Side
from tests.service.fake_engine import LONG
from tests.soon import comes

pytestmark = pytest.mark.alone

ASKED = {
    "model": f"cascade/{NODE}",
    "stream": True,
    "messages": [SYSTEM, {"role": "user", "content": "zzqx"}],
}


class Thinking:
    """An upstream that thinks aloud before it answers, as reasoning models do.

    Attributes
    ----------
    thoughts : int
        How many events come before the answer.
    wait : bool
        Whether the answer comes only once `go` is set.
    silent : float
        Seconds before anything is said.
    mute : bool
        Whether there is not even a status before `go` is set.
    status : bytes
    """

    def __init__(self) -> None:
        self.thoughts, self.wait, self.go = 3 * _AHEAD, False, threading.Event()
        self.silent, self.mute, self.status = 0.0, False, b"200 OK"
        self.calls = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        self._start(self._accept)

    def _start(self, work: Callable[..., None], *args: Any) -> None:
        threading.Thread(target=work, args=args, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                self._start(self._answer, self._listener.accept()[0])

    def _answer(self, taken: socket.socket) -> None:
        with taken, suppress(OSError):
            taken.recv(65536)
            self.calls += 1
            if self.mute and not self.go.wait(LONG):
                return
            taken.sendall(
                b"HTTP/1.1 "
                + self.status
                + b"\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
                + _event({"role": "assistant", "content": ""})
            )
            time.sleep(self.silent)
            thought = _event({"reasoning_content": "h" + 500 * "m"})
            for _ in range(self.thoughts):
                taken.sendall(thought)
            if self.wait and not self.go.wait(LONG):
                return
            taken.sendall(_event({"content": "card_arrival"}) + _event({}, "stop") + b"data: [DONE]\n\n")
            taken.shutdown(socket.SHUT_WR)
            while taken.recv(65536):  # what is closed with something unread is reset
                pass

    def close(self) -> None:
        self.go.set()
        with suppress(OSError):  # a test has closed it
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def _event(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


@pytest.fixture
def thinking() -> Iterator[Thinking]:
    made = Thinking()
    yield made
    made.close()


@pytest.fixture
def side(models: Any, configure: Configure, store: TrafficStore, thinking: Thinking) -> Iterator[Side]:
    price = {"input": 1_000_000, "output": 1_000}  # a dollar for a token that is read, a tenth of a cent else
    made = Side(
        configure(
            chat={"base_url": thinking.url, "timeout_seconds": LONG, "price": price},
            http={"listen": "127.0.0.1:0"}, server={"drain_seconds": 1.0},
            tenants={"default": {"usd_per_day": 1_000}},
        ),
        store,
    )  # fmt: skip
    yield made
    made.close()


@pytest.mark.parametrize("model", [ASKED["model"], "any"])
def test_a_frontier_may_think_aloud_for_as_long_as_it_likes(side: Side, model: str) -> None:
    headers = {"x-cascade-node": NODE}
    reply = httpx2.post(
        f"{side.url}/v1/chat/completions", json=ASKED | {"model": model}, headers=headers, timeout=10
    )
    assert reply.text.count("reasoning_content") == 3 * _AHEAD
    assert reply.text.count("card_arrival") == 1
    assert comes(lambda: side.store.flush(10) and len(list(side.store.decisions(NODE))) == 1)
    (decision,) = side.store.decisions(NODE)
    assert (decision.output, decision.error) == ("card_arrival", None)


def test_an_agent_that_takes_nothing_of_a_stream_does_not_hold_up_the_end(
    side: Side, thinking: Thinking
) -> None:
    thinking.thoughts = 1 << 30
    body = json.dumps({"model": "m", "stream": True, "messages": [CHATTER]}).encode()
    with socket.socket() as agent:
        agent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        agent.connect(("127.0.0.1", int(side.url.rpartition(":")[2])))
        agent.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n" % len(body) + body
        )
        assert agent.recv(9).startswith(b"HTTP/1.1")
        time.sleep(3.0)  # until everything on the way is full
        began = time.monotonic()
        side.http.stop()
        assert time.monotonic() - began < 4.0, "one second is given to calls that are under way"
        assert side.http._thread is not None
        assert not side.http._thread.is_alive()


def test_a_call_that_the_end_of_the_drain_cuts_is_told_to_try_again(
    side: Side, thinking: Thinking, caplog: pytest.LogCaptureFixture
) -> None:
    thinking.mute = True
    replies: list[httpx2.Response] = []
    body = {"model": "m", "messages": [CHATTER]}

    def ask() -> None:
        replies.append(httpx2.post(f"{side.url}/v1/chat/completions", json=body, timeout=LONG))

    asking = threading.Thread(target=ask)
    asking.start()
    assert comes(lambda: thinking.calls == 1)
    side.http.stop()
    asking.join(LONG)
    (reply,) = replies
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
    assert reply.json()["error"]["message"] == "the server is shutting down; try again"
    said = [record.getMessage() for record in caplog.records]
    assert "a call over HTTP was cut: it was still under way at the end of the drain" in said
    assert not [line for line in said if "Exception in ASGI application" in line]


def test_who_follows_an_agent_that_left_in_the_middle_of_a_stream_is_decided(
    side: Side, thinking: Thinking
) -> None:
    thinking.thoughts, thinking.wait = 10, True
    told: list[Decided | CascadeError] = []
    headers = {"x-cascade-node": NODE, "x-cascade-request-id": "r-1"}
    with httpx2.stream(
        "POST", f"{side.url}/v1/chat/completions", json=ASKED | {"model": "any"}, headers=headers, timeout=10
    ) as reply:
        lines = reply.iter_lines()  # kept: with it the connection would go
        assert next(lines)
        assert side.engine._ids._answering
        follower = Ask(NODE, "zzqx", request_id="r-1")
        following = threading.Thread(target=lambda: told.extend(side.engine.decide_many([follower])))
        following.start()
        (claim,) = side.engine._ids._answering.values()
        assert comes(lambda: len(claim.followers) == 1)
    assert comes(lambda: thinking.calls == 2), "asked again, with the node's prompt"
    thinking.go.set()
    following.join(LONG)
    assert len(told) == 1
    # This upstream only streams, so that the chat rung cannot read it; what counts is that it was asked.
    assert "went away" not in str(told[0])


@pytest.mark.parametrize("headers", [{}, {"x-cascade-node": NODE}], ids=["no node", "a node"])
def test_an_agent_that_leaves_a_stream_before_its_end_has_its_tenant_charged(
    side: Side, thinking: Thinking, headers: dict[str, str]
) -> None:
    thinking.thoughts, thinking.wait = 10, True
    headers = headers | {"x-cascade-tenant": "acme"}
    body = ASKED | {"model": "any"}
    with httpx2.stream("POST", f"{side.url}/v1/chat/completions", json=body, headers=headers) as reply:
        lines = reply.iter_lines()
        assert sum("reasoning_content" in next(lines) for _ in range(22)) == 10
    quotas = side.http._gate.quotas
    assert quotas is not None
    # 56 and 4 bytes of two messages, and ten thoughts of 501 bytes, by the four. It comes to the file soon.
    assert comes(lambda: quotas.spent("acme") == pytest.approx(23 + 1.253, abs=0.1)), quotas.spent("acme")
    assert comes(lambda: len(side.calls()) == 1)
    (call,) = side.calls()
    assert call.usd == pytest.approx(quotas.spent("acme"), abs=0.1)
    assert (call.input_tokens, call.output) == (23, None)


def test_what_a_model_thought_unseen_is_charged_by_the_time_and_no_more_than_it_may_say(
    side: Side, thinking: Thinking
) -> None:
    thinking.thoughts, thinking.wait, thinking.silent = 1, True, 0.5
    quotas = side.http._gate.quotas
    assert quotas is not None
    for tenant, most in (("patient", {}), ("short", {"max_completion_tokens": 5})):
        body = ASKED | {"model": "any"} | most
        headers = {"x-cascade-tenant": tenant}
        with httpx2.stream("POST", f"{side.url}/v1/chat/completions", json=body, headers=headers) as reply:
            assert any("reasoning_content" in line for line in reply.iter_lines())
        assert comes(lambda tenant=tenant: quotas.spent(tenant) > 0)
    assert comes(lambda: 23.15 - 0.001 < quotas.spent("patient") < 24), (
        "0.126 said, and half a second of thought"
    )
    assert comes(lambda: quotas.spent("short") == pytest.approx(23.126, abs=0.001)), quotas.spent("short")


def test_an_agent_that_leaves_before_any_answer_is_charged_what_it_asked(
    side: Side, thinking: Thinking
) -> None:
    thinking.mute = True
    quotas = side.http._gate.quotas
    assert quotas is not None
    for stream in (True, False):
        headers, body = {"x-cascade-tenant": str(stream)}, ASKED | {"model": "any", "stream": stream}
        with pytest.raises(httpx2.ReadTimeout):
            httpx2.post(f"{side.url}/v1/chat/completions", json=body, headers=headers, timeout=1)
        assert comes(lambda tenant=str(stream): quotas.spent(tenant) == 23), quotas.spent(str(stream))


def test_what_the_frontier_refuses_or_never_got_costs_nothing(side: Side, thinking: Thinking) -> None:
    quotas = side.http._gate.quotas
    assert quotas is not None
    thinking.status = b"500 Oh"
    reply = httpx2.post(f"{side.url}/v1/chat/completions", json=ASKED | {"model": "any"}, timeout=10)
    assert reply.status_code == 500
    thinking.close()
    reply = httpx2.post(f"{side.url}/v1/chat/completions", json=ASKED | {"model": "any"}, timeout=10)
    assert reply.status_code == 502
    assert quotas.spent("") == 0


def test_a_call_that_cannot_be_charged_still_comes_to_its_end(
    side: Side, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(self: Relay) -> float:
        raise KeyError("a bug")

    monkeypatch.setattr(Relay, "usd", broken)
    reply = httpx2.post(f"{side.url}/v1/chat/completions", json=ASKED | {"model": "any"}, timeout=10)
    assert reply.text.endswith("data: [DONE]\n\n")
    assert "a call was not charged" in caplog.text
