"""What goes wrong on the way of a captured call, and what the agent sees of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from cascade.demo.frontier import SimulatedFrontier
from cascade.errors import Overloaded
from cascade.traffic import TrafficStore
from cascade.traffic.records import Call
from tests.conftest import NODE
from tests.gateway_side import CHATTER, SYSTEM, Configure, Side, settled_and_escalated
from tests.soon import comes


def test_the_frontiers_errors_pass_through_with_their_status(
    start: Callable[..., Side], chatty: SimulatedFrontier, unseen: list[dict[str, Any]]
) -> None:
    side = start()
    escalated = settled_and_escalated(side, unseen)[1]["text"]
    chatty.faults.fail_next, chatty.faults.error_status, chatty.faults.retry_after = 3, 429, 7
    for more in ({"messages": [CHATTER], "model": "big-1"}, {}, {"stream": True}):
        with pytest.raises(openai.RateLimitError) as caught:
            side.ask(escalated, **more).parse()
        assert caught.value.body["code"] == "simulated"
        assert caught.value.response.headers["retry-after"] == "7"
    assert [call.error is not None for call in side.calls()[-3:]] == [True] * 3
    chatty.faults.fail_next = 0
    settled = settled_and_escalated(side, unseen)[0]
    chatty.faults.refuse_all = True
    assert side.ask(settled["text"]).parse().choices[0].message.content == settled["label"]
    chatty.close()
    with pytest.raises(openai.InternalServerError) as down:
        side.ask(escalated)
    assert down.value.status_code == 502
    assert down.value.body["code"] == "teacher_unavailable"


def test_our_own_failure_never_fails_a_call_that_the_frontier_can_answer(
    start: Callable[..., Side], unseen: list[dict[str, Any]], store: TrafficStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def lost(call: Call) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(store, "record_call", lost)
    side = start()
    for failure in (Overloaded("too much waits"), KeyError("a bug")):

        def broken(*_: Any, failure: Exception = failure) -> Any:
            raise failure

        monkeypatch.setattr(side.engine, "decide_each", broken)
        for streamed in (False, True):
            reply = side.ask(unseen[0]["text"], stream=streamed)
            assert reply.headers["x-cascade-served-by"] == "frontier"
            assert reply.status_code == 200
    side.pool.shutdown(wait=False)
    assert side.ask(unseen[0]["text"]).parse().choices[0].message.content == unseen[0]["label"]


def test_a_broken_contract_is_an_error_for_who_asks_the_node_and_marked_for_who_asks_the_frontier(
    start: Callable[..., Side], unseen: list[dict[str, Any]]
) -> None:
    side = start(node={"contract": {"labels": ["only", "these"]}})
    for streamed in (False, True):
        with pytest.raises(openai.UnprocessableEntityError) as caught:
            side.ask(unseen[0]["text"], stream=streamed)
        assert caught.value.body["code"] == "teacher_broke_contract"
    reply = side.ask(unseen[0]["text"], model="big-1", extra_headers={"x-cascade-node": NODE})
    assert reply.parse().choices[0].message.content == unseen[0]["label"]
    assert reply.headers["x-cascade-contract"] == "broken"


def test_bad_requests_say_what_is_wrong_and_where(start: Callable[..., Side]) -> None:
    side = start()
    url = f"{side.url}/v1/chat/completions"
    for content, param in ((b"{", "body"), (b"[]", "body"), (b'{"messages": "hi"}', "messages")):
        reply = httpx2.post(url, content=content)
        assert reply.status_code == 400
        assert reply.json()["error"]["param"] == param
    with pytest.raises(openai.NotFoundError, match="the configured nodes are: support-intent"):
        side.ask("hi", model="cascade/nope")
    assert httpx2.post(url, content=b" " * (17 << 20)).status_code == 413


def test_an_agent_that_goes_away_from_a_node_takes_the_call_to_the_frontier_along(
    start: Callable[..., Side], chatty: SimulatedFrontier
) -> None:
    side = start()
    chatty.faults.timeout_rate = 1.0
    with pytest.raises(openai.APITimeoutError):
        side.client.with_options(timeout=0.5).chat.completions.create(
            model=f"cascade/{NODE}", messages=[{"role": "user", "content": "zzqx wvut"}]
        )
    assert comes(lambda: chatty.abandoned == 1)
    assert comes(lambda: side.pool.lent == 0)
    (call,) = side.calls()
    assert call.error is not None
    (decision,) = side.store.decisions(NODE)
    assert decision.error is not None
    assert "went away" in decision.error


def test_for_an_agent_that_went_away_before_the_frontier_was_asked_it_is_not_asked(
    start: Callable[..., Side], chatty: SimulatedFrontier, unseen: list[dict[str, Any]]
) -> None:
    side = start()
    settled = settled_and_escalated(side, unseen)[0]["text"]
    asked, calls = chatty.requests, len(side.calls())
    entered, go = threading.Event(), threading.Event()

    def last(ask: Any, value: Any) -> str:
        entered.set()
        assert go.wait(10)
        return "no"  # to the frontier with it

    side.engine.nodes[NODE].validators = (last,)
    with pytest.raises(openai.APITimeoutError):
        side.client.with_options(timeout=0.5).chat.completions.create(
            model=f"cascade/{NODE}", messages=[SYSTEM, {"role": "user", "content": settled}]
        )
    assert entered.is_set()
    time.sleep(0.2)  # for the server to see that the agent has gone
    go.set()
    assert comes(lambda: len(side.calls()) > calls)
    time.sleep(0.2)
    assert chatty.requests == asked


def test_an_agent_that_goes_away_costs_nothing_more(
    models: Path, configure: Configure, store: TrafficStore
) -> None:
    with SimulatedFrontier({CHATTER["content"]: "x" * 4000}, latency_ms=60_000) as slow:
        side = Side(configure(chat={"base_url": slow.url}, http={"listen": "127.0.0.1:0"}), store)
        try:
            with pytest.raises(openai.APITimeoutError):
                side.client.with_options(timeout=0.3).chat.completions.create(model="m", messages=[CHATTER])
            assert comes(lambda: slow.abandoned == 1)
            (call,) = side.calls()
            assert call.error is not None
            assert "went away" in call.error
        finally:
            side.close()
