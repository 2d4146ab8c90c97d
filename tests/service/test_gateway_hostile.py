"""What fuzzing over HTTP has found: none of it is a 500, and none of it leaves anybody waiting."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import httpx2
import openai
import pytest

from cascade.demo.frontier import SimulatedFrontier
from cascade.gateway.accumulate import Said, data_of
from cascade.gateway.relay import Relay
from tests.conftest import NODE
from tests.gateway_side import CHATTER, Side

TEXT = "where is my parcel"


def post(side: Side, body: Any, **headers: Any) -> httpx2.Response:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx2.post(f"{side.url}/v1/chat/completions", content=raw, headers=headers, timeout=30)


@pytest.mark.parametrize(
    "part",
    [
        {"messages": [{"role": ["user"], "content": TEXT}]},
        {"messages": [{"role": {"a": 1}, "content": TEXT}]},
        {"messages": [{"role": "assistant", "content": TEXT, "tool_calls": 5}]},
        {"response_format": {"type": "json_schema", "json_schema": ["a"]}},
        {"modalities": 7},
        {"modalities": [["text"]]},
        {"tools": [{"function": {"name": "f"}}], "tool_choice": {"type": "function", "function": "f"}},
        {
            "tools": [{"function": {"name": "f"}}],
            "tool_choice": {"type": "function", "function": {"name": []}},
        },
        {"stream": True, "stream_options": True},
        {"stream": True, "stream_options": [1]},
    ],
)
def test_a_request_of_any_shape_is_answered(
    start: Callable[..., Side],
    caplog: pytest.LogCaptureFixture,
    part: dict[str, Any],
    chatty: SimulatedFrontier,
) -> None:
    side = start()
    # Whatever the frontier says of it passes through; only what no answer of the node can be is refused here.
    for model, header, statuses in ((f"cascade/{NODE}", "", (200, 400, 418)), ("big-1", NODE, (200, 418))):
        chatty.faults.fail_next, chatty.faults.error_status = 1, 418
        body = {"model": model, "messages": [{"role": "user", "content": TEXT}]} | part
        assert post(side, body, **{"x-cascade-node": header}).status_code in statuses
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', "without its other half"),
        (b'{"messages": [{"role": "user", "content": NaN}]}', "NaN is not JSON"),
        (
            b'{"messages": [{"role": "user", "content": ' + b"[" * 800 + b"]" * 800 + b"}]}",
            "nested too deeply",
        ),
        (b"[]", "not a JSON object"),
    ],
)
def test_what_no_reader_of_json_takes_is_refused(start: Callable[..., Side], raw: bytes, why: str) -> None:
    found = post(start(), raw)
    assert found.status_code == 400
    assert why in found.json()["error"]["message"]


def test_a_header_that_is_not_ascii_goes_to_the_frontier_as_it_came(
    start: Callable[..., Side], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    found = post(start(), {"model": "m", "messages": [CHATTER]}, **{"x-name": "é".encode()})
    assert found.status_code == 200
    assert caplog.text == ""


def test_paths_and_hosts_that_are_none_are_refused(start: Callable[..., Side]) -> None:
    side = start()
    assert httpx2.get(f"{side.url}/v1/a/%00").status_code == 400
    assert httpx2.get(f"{side.url}/", headers={"host": "[::1"}).status_code == 403


def test_the_end_of_a_path_is_where_the_caller_put_it(
    start: Callable[..., Side], monkeypatch: pytest.MonkeyPatch
) -> None:
    from cascade.gateway.upstream import Upstream

    seen: list[str] = []
    opened = Upstream.open

    def spied(self: Upstream, method: str, path: str, *rest: Any) -> Any:
        seen.append(path)
        return opened(self, method, path, *rest)

    monkeypatch.setattr(Upstream, "open", spied)
    httpx2.get(f"{start().url}/v1/files/a%3Fb%23c?d=e")
    assert seen == ["/files/a%3Fb%23c?d=e"]


def test_nonsense_of_the_frontier_counts_nothing_and_is_no_completion() -> None:
    said = Said()
    said.take_completion({"choices": [], "usage": {"prompt_tokens": 10**400, "completion_tokens": 3}})
    assert (said.input_tokens, said.output_tokens) == (0, 3)
    said.take_chunk({"choices": [{"delta": {"tool_calls": True, "content": 7}}]})
    assert not said.message.get("tool_calls")
    assert data_of(b'data: {"choices": [{"delta": {"content": NaN}}]}\n\n') is None


def test_the_engine_does_not_wait_for_a_completion_that_cannot_be_read(
    start: Callable[..., Side], unseen: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Relay) -> Any:
        raise KeyError("a bug")

    side = start()
    named: dict[str, Any] = {"model": "big-1", "extra_headers": {"x-cascade-node": NODE}}
    monkeypatch.setattr(Relay, "answer", broken)
    reasons = [
        found.headers.get("x-cascade-why", "")
        for record in unseen[:30]
        if (found := side.ask(record["text"], **named)).headers["x-cascade-served-by"] == "frontier"
    ]
    assert reasons
    assert all("reading the completion failed (KeyError)" in why for why in reasons)
    side.engine.nodes[NODE].validators = (lambda ask, value: "no",)  # to the frontier with it
    with pytest.raises(openai.InternalServerError) as caught:  # what nobody could read keeps no contract
        side.ask(unseen[0]["text"])
    assert caught.value.status_code == 502
