"""Streams, JSON and tool calls: an answer has the shape that the request asks for, whoever gave it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from cascade.gateway.fixed_part import fingerprint
from tests.conftest import NODE
from tests.gateway_side import FORMAT, SYSTEM, Side, settled_and_escalated


def test_streams_come_from_both_the_ladder_and_the_frontier(
    start: Callable[..., Side], unseen: list[dict[str, Any]]
) -> None:
    side = start(node={"recognise": [fingerprint([SYSTEM])]})
    for record, by in zip(settled_and_escalated(side, unseen), ("ladder", "frontier"), strict=True):
        for model in (f"cascade/{NODE}", "big-1"):
            messages = [SYSTEM, {"role": "user", "content": record["text"]}]
            with side.client.chat.completions.with_streaming_response.create(
                model=model, messages=messages, stream=True
            ) as reply:
                assert reply.headers["x-cascade-served-by"] == by
                assert reply.headers["content-type"].startswith("text/event-stream")
                chunks = [json.loads(line[6:]) for line in reply.iter_lines() if line.startswith("data: {")]
            said = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
            assert said == record["label"]
            assert chunks[-1]["choices"][0]["finish_reason"] == "stop"  # the usage we asked for is not shown
    assert all(call.usd > 0 for call in side.calls() if call.context["served_by"] == "frontier")


def test_a_stream_that_asks_for_usage_gets_it(
    start: Callable[..., Side], unseen: list[dict[str, Any]]
) -> None:
    side = start()
    for record in settled_and_escalated(side, unseen):
        stream = side.client.chat.completions.create(
            model=f"cascade/{NODE}", messages=[{"role": "user", "content": record["text"]}],
            stream=True, stream_options={"include_usage": True},
        )  # fmt: skip
        assert list(stream)[-1].usage is not None


def test_json_and_tools_keep_their_shape(start: Callable[..., Side], unseen: list[dict[str, Any]]) -> None:
    side = start()
    intent = {"type": "object", "properties": {"intent": {"type": "string"}}, "required": ["intent"]}
    pick = {"type": "function", "function": {"name": "pick", "parameters": intent}}
    other = {"type": "function", "function": {"name": "other", "parameters": intent}}
    for record in settled_and_escalated(side, unseen):
        said = side.ask(record["text"], response_format=FORMAT).parse().choices[0].message.content
        assert json.loads(said) == {"intent": record["label"]}
        choice = side.ask(record["text"], tools=[pick]).parse().choices[0]
        assert choice.finish_reason == "tool_calls"
        assert json.loads(choice.message.tool_calls[0].function.arguments) == {"intent": record["label"]}
    # Labels of this node are none of these tools: the ladder's answer does not fit, so the frontier answers.
    reply = side.ask(settled_and_escalated(side, unseen)[0]["text"], tools=[pick, other])
    assert reply.headers["x-cascade-served-by"] == "frontier"
    assert "is not offered" in reply.headers["x-cascade-why"]


def test_a_node_whose_labels_are_tools_answers_with_a_tool_call(
    start: Callable[..., Side], unseen: list[dict[str, Any]]
) -> None:
    side = start()
    labels = {record["label"] for record in unseen}
    tools = [{"type": "function", "function": {"name": label, "parameters": {}}} for label in sorted(labels)]
    by = set()
    for record in unseen[:30]:
        reply = side.ask(record["text"], tools=tools, tool_choice="required")
        by.add(reply.headers["x-cascade-served-by"])
        message = reply.parse().choices[0].message
        assert message.content is None
        assert message.tool_calls[0].function.arguments == "{}"
        with side.client.chat.completions.stream(
            model=f"cascade/{NODE}", messages=[{"role": "user", "content": record["text"]}], tools=tools
        ) as stream:
            streamed = stream.get_final_completion().choices[0].message
        assert streamed.tool_calls[0].function.name == message.tool_calls[0].function.name
        if len(by) == 2:
            return
    raise AssertionError(f"only {by}")
