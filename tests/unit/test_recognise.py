"""Whose call it is, and what it asks."""

import time
from typing import Any

import pytest

from cascade.config import Config
from cascade.errors import UnknownNode
from cascade.gateway.accumulate import Events, Said, data_of
from cascade.gateway.fixed_part import fingerprint
from cascade.gateway.question import NoQuestion, frame_of, question_of
from cascade.gateway.recognise import Recogniser

SYSTEM = {"role": "system", "content": "Pick a tool."}


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def config(**nodes: dict[str, Any]) -> Config:
    big = {"kind": "chat", "base_url": "http://127.0.0.1:1", "model": "m", "price": {"input": 0, "output": 0}}
    return Config.model_validate({
        "rungs": {"big": big},
        "nodes": {name: {"ladder": ["big"], "prompt": "{{ text }}"} | node for name, node in nodes.items()},
    })  # fmt: skip


def test_a_fixed_part_is_the_system_prompt_the_tools_and_the_format() -> None:
    one = fingerprint([SYSTEM, user("a")], [{"x": 1, "y": 2}], {"type": "json_object"})
    assert one == fingerprint([SYSTEM, user("b"), user("c")], [{"y": 2, "x": 1}], {"type": "json_object"})
    assert one != fingerprint([SYSTEM], [{"x": 1, "y": 2}])
    assert one != fingerprint([SYSTEM], [{"x": 1}], {"type": "json_object"})
    assert fingerprint([SYSTEM]) == fingerprint(
        [{"role": "developer", "content": [{"text": " Pick a tool. "}]}]
    )


def test_the_model_wins_over_the_header_and_the_header_over_what_is_recognised() -> None:
    found = Recogniser(config(a={"recognise": [fingerprint([SYSTEM])]}, b={}, c={}))
    body = {"model": "m", "messages": [SYSTEM, user("x")]}
    assert found.node_of(body) is not None
    assert found.node_of(body).node == "a"  # type: ignore[union-attr]
    assert found.node_of(body, "b").node == "b"  # type: ignore[union-attr]
    assert found.node_of(body | {"model": "cascade/c"}, "b").node == "c"  # type: ignore[union-attr]
    assert found.node_of({"model": "m", "messages": [user("x")]}) is None
    for wrong, header in (({"model": "cascade/z", "messages": []}, ""), (body, "z")):
        with pytest.raises(UnknownNode, match="'z'"):
            found.node_of(wrong, header)


def test_a_prompt_recognises_its_calls_unless_two_fit_or_it_is_too_short() -> None:
    nodes = {"a": {"prompt": "Name the intent: {{ text }}"}, "b": {"prompt": "To {{ text }}"}}
    found = Recogniser(config(**nodes, c={"prompt": "{{ labels }} Name the intent: {{ text }}"}))
    body = {"messages": [user("Name the intent: hello")]}
    assert found.node_of(body).node == "a"  # type: ignore[union-attr]
    assert found.node_of({"messages": [user("To be")]}) is None
    assert found.node_of({"messages": [user("Name the intent: ")]}) is None
    both = Recogniser(config(a=nodes["a"], b={"prompt": "Name the intent: {{ text }}"}))
    assert both.node_of(body) is None


def test_a_single_user_message_is_a_text_and_more_is_a_chat() -> None:
    frame = frame_of("Name the intent: {{ text }} Answer in a word.")
    assert question_of([SYSTEM, user("Name the intent: hi Answer in a word.")], frame).text == "hi"
    assert question_of([SYSTEM, user([{"type": "text", "text": "hi"}])], frame).text == "hi"
    called = {"role": "assistant", "content": None,
              "tool_calls": [{"function": {"name": "find", "arguments": '{"id": 1}'}}]}  # fmt: skip
    chat = question_of([SYSTEM, user("a"), called, {"role": "tool", "content": "found"}])
    assert chat.messages == (("user", "a"), ("assistant", '\ncalls find({"id": 1})'), ("tool", "found"))
    assert chat.text.startswith("user: a\nassistant: ")


@pytest.mark.parametrize(
    "messages",
    [[], [SYSTEM], [user(" ")], [user([{"type": "image_url"}])], [{"role": "oracle", "content": "x"}]],
)
def test_what_is_no_text_is_no_question(messages: list[dict[str, Any]]) -> None:
    with pytest.raises(NoQuestion):
        question_of(messages)


def test_a_stream_is_cut_into_events_wherever_its_bytes_are_cut() -> None:
    raw = b'data: {"a": "x"}\n\nevent: e\r\ndata: {"b":\r\ndata: 1}\r\n\r\ndata: [DONE]\n\n'
    for size in (1, 2, 7, len(raw)):
        events, cut = Events(), []
        for at in range(0, len(raw), size):
            cut += events.feed(raw[at : at + size])
        assert b"".join(cut) == raw
        assert [data_of(event) for event in cut] == [{"a": "x"}, {"b": 1}, None]


def test_an_event_of_megabytes_is_not_searched_again_for_each_piece_of_it() -> None:
    def spent(megabytes: int) -> float:
        events, found = Events(), []
        began = time.thread_time()
        for _ in range(64 * megabytes):
            found += events.feed(bytes(1 << 14))
        found += events.feed(b"\n\n")
        assert [len(event) for event in found] == [(megabytes << 20) + 2]
        return time.thread_time() - began

    # Six times as much takes about six times as long; it took thirty-six.
    assert min(spent(6) for _ in range(3)) < 18 * min(spent(1) for _ in range(5))


def test_chunks_add_up_to_the_message() -> None:
    said = Said()
    deltas: list[dict[str, Any]] = [
        {"role": "assistant", "content": ""},
        {"content": "he"},
        {"content": "llo"},
        {"tool_calls": [{"index": 0, "id": "1", "function": {"name": "f", "arguments": '{"a'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '": 1}'}}, {"index": 9, "function": {}}]},
    ]
    for delta in deltas:
        said.take_chunk({"choices": [{"delta": delta}]})
    assert not said.complete
    said.take_chunk({"choices": [{"delta": {}, "finish_reason": "stop"}]})
    said.take_chunk({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": "x"}})
    assert said.complete
    assert (said.message["content"], said.input_tokens, said.output_tokens) == ("hello", 3, 0)
    assert said.message["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"a": 1}'}
