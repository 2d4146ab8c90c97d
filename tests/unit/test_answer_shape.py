"""Values in completions: what is read from one is what is said in one."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.contract import Contract
from cascade.gateway.shape import NO_TOOL, SEVERAL_TOOLS, AnswerShape, Unfit, shape_of

LABELS = Contract(open_labels=True)
SCHEMA = Contract(schema={"type": "object"})


def tool(name: str, **properties: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "additionalProperties": False}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def json_format(**properties: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}


def calls(*named: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    functions = [{"name": name, "arguments": json.dumps(arguments)} for name, arguments in named]
    return {"content": None, "tool_calls": [{"type": "function", "function": f} for f in functions]}


OBJECT = {"response_format": {"type": "json_object"}}
ONE_TOOL = {"tools": [tool("answer", intent={"type": "string", "enum": ["refund"]})]}
WEATHER = {"tools": [tool("weather", city={"type": "string"}), tool("stop")]}


@pytest.mark.parametrize(
    ("body", "contract", "message", "value"),
    [
        ({}, LABELS, {"content": " refund\n"}, "refund"),
        ({}, SCHEMA, {"content": '{"a": 1}'}, {"a": 1}),
        ({"response_format": json_format(x={"type": "string"})}, LABELS, {"content": '{"x": "a"}'}, "a"),
        ({"response_format": json_format(x={"enum": ["a"]})}, LABELS, {"content": '{"x": "a"}'}, "a"),
        (
            {"response_format": json_format(x={"type": "integer"})},
            LABELS,
            {"content": '{"x": 1}'},
            '{"x":1}',
        ),
        (OBJECT, LABELS, {"content": '{"b":2, "a":1}'}, '{"a":1,"b":2}'),
        ({"response_format": json_format(x={})}, SCHEMA, {"content": '{"x": [1]}'}, {"x": [1]}),
        (ONE_TOOL, LABELS, calls(("answer", {"intent": "refund"})), "refund"),
        (WEATHER, LABELS, calls(("stop", {})), "stop"),
        (WEATHER, LABELS, calls(("weather", {"city": "Bonn (Süd)"})), 'weather({"city":"Bonn (Süd)"})'),
        (WEATHER, SCHEMA, calls(("stop", {})), {"name": "stop", "arguments": {}}),
        (WEATHER | {"tool_choice": {"type": "function", "function": {"name": "weather"}}}, SCHEMA,
         calls(("weather", {"city": "Bonn"})), {"city": "Bonn"}),
    ],
)  # fmt: skip
def test_what_is_read_from_a_completion_is_said_the_same_way(
    body: dict[str, Any], contract: Contract, message: dict[str, Any], value: Any
) -> None:
    shape = shape_of(body, contract)
    assert shape.read(message) == value
    assert contract.check(value) is None
    assert shape.read(shape.message(value, "c")) == value


@pytest.mark.parametrize(
    ("message", "value"),
    [({"content": "Which city?"}, NO_TOOL), (calls(("stop", {}), ("stop", {})), SEVERAL_TOOLS)],
)
def test_what_no_local_answer_can_say_is_a_label_that_goes_up(message: dict[str, Any], value: str) -> None:
    shape = shape_of(WEATHER, LABELS)
    assert shape.read(message) == value
    assert shape.refuses(value)


@pytest.mark.parametrize(
    ("body", "value", "why"),
    [
        (ONE_TOOL, "return", "the request's schema"),
        (ONE_TOOL, NO_TOOL, "no local answer"),
        (WEATHER, "refund", "'refund' is not offered"),
        (WEATHER, 'weather({"town":"Bonn"})', "the request's schema"),
        (WEATHER, "weather(]", "no call of one tool"),
        ({"response_format": json_format(x={"enum": ["a"]})}, "b", "the request's schema"),
        ({"response_format": json_format(x={}, y={})}, "b", "is not JSON"),
        ({"response_format": {"type": "json_object"}}, "[1]", "is a JSON object"),
    ],
)
def test_an_answer_that_the_request_does_not_allow_is_refused(
    body: dict[str, Any], value: str, why: str
) -> None:
    assert why in str(shape_of(body, LABELS).refuses(value))


@pytest.mark.parametrize(
    "body",
    [
        {"n": 2}, {"logprobs": True}, {"modalities": ["text", "audio"]}, {"functions": [{}]},
        {"tools": [{"type": "custom"}]}, {"tools": "x"}, {"response_format": {"type": "grammar"}},
        {"tools": [tool("a")], "tool_choice": {"type": "function", "function": {"name": "b"}}},
    ],
)  # fmt: skip
def test_what_a_ladder_cannot_give_has_no_shape(body: dict[str, Any]) -> None:
    with pytest.raises(Unfit):
        shape_of(body, LABELS)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), JSON, max_size=3), st.sampled_from(["go", "a.b-c_9"]))
def test_any_call_of_a_tool_survives_as_a_label(arguments: dict[str, Any], name: str) -> None:
    shape = AnswerShape("tool", True, {name: {}})
    value = shape.read(calls((name, arguments)))
    said = shape.message(value, "c")["tool_calls"][0]["function"]
    assert (said["name"], json.loads(said["arguments"])) == (name, arguments)


@given(JSON, JSON, JSON)
def test_no_completion_makes_reading_fail_in_another_way(content: Any, named: Any, arguments: Any) -> None:
    message = {"content": content, "tool_calls": [{"function": {"name": named, "arguments": arguments}}]}
    for body in ({}, WEATHER, {"response_format": {"type": "json_object"}}):
        for said in (message, {"content": content}):
            with suppress(Unfit):
                shape_of(body, LABELS).read(said)
