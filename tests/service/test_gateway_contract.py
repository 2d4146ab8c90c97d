"""Who names the model `cascade/<node>` over HTTP gets what keeps the node's contract, or an error."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from cascade.ask import Ask
from cascade.errors import ContractViolation, Overloaded, TeacherUnavailable
from cascade.gateway.relay import _AHEAD
from tests.conftest import NODE
from tests.gateway_side import Side
from tests.told_frontier import Frontier

SCHEMA = {
    "type": "object",
    "properties": {"item": {"type": "string"}, "count": {"type": "integer"}},
    "required": ["item", "count"],
    "additionalProperties": False,
}
GOOD = '{"item": "shoe", "count": 2}'
FENCED = f"```json\n{GOOD}\n```"
TOOL = {"type": "function", "function": {"name": "order", "parameters": SCHEMA}}
HELLO = [{"role": "user", "content": "two shoes please"}]
IMAGE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]}]
LONG_TEXT = [{"role": "user", "content": "shoe " * 200_000}]
NODE_ITSELF: dict[str, Any] = {"model": f"cascade/{NODE}"}
BY_HEADER: dict[str, Any] = {"model": "big-1", "headers": {"x-cascade-node": NODE}}


def completion(content: str | None, **more: Any) -> dict[str, Any]:
    finish = more.pop("finish_reason", "stop")
    message = {"role": "assistant", "content": content, **more}
    return {
        "id": "chatcmpl-theirs", "object": "chat.completion", "created": 7, "model": "big-1",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13},
    }  # fmt: skip


def events(content: str, finish: str | None = "stop", step: int = 5) -> bytes:
    """A stream that says a text piece by piece."""
    parts = [content[at : at + step] for at in range(0, len(content), step)]
    choices: list[dict[str, Any]] = [{"index": 0, "delta": {"role": "assistant", "content": ""}}]
    choices += [{"index": 0, "delta": {"content": part}} for part in parts]
    choices += [{"index": 0, "delta": {}, "finish_reason": finish}] if finish else []
    chunks = [json.dumps({"id": "theirs", "object": "chat.completion.chunk", "created": 7, "model": "big-1",
                          "choices": [choice]}) for choice in choices]  # fmt: skip
    return "".join(f"data: {chunk}\n\n" for chunk in [*chunks, *(["[DONE]"] if finish else [])]).encode()


@pytest.fixture
def frontier() -> Iterator[Frontier]:
    made = Frontier()
    yield made
    made.close()


@pytest.fixture
def side(start: Callable[..., Side], frontier: Frontier, tmp_path: Path) -> Side:
    """A service whose node wants JSON, which the frontier alone gives."""
    (tmp_path / "order.json").write_text(json.dumps(SCHEMA))
    node = {"contract": {"schema": "order.json"}, "ladder": ["frontier"]}
    return start(chat={"base_url": frontier.url}, node=node)


def ask(side: Side, headers: dict[str, str] | None = None, **more: Any) -> httpx2.Response:
    body = {"messages": HELLO, **NODE_ITSELF, **more}
    return httpx2.post(f"{side.url}/v1/chat/completions", json=body, headers=headers, timeout=20)


NO_ANSWERS = [
    completion("I would rather talk about hats."), completion('{"item":"shoe","cou'), completion(None),
    completion("  "), completion('{"item": "shoe"}'), completion(None, refusal="I can not."),
    completion(GOOD, finish_reason="length"), completion("```json\nshoe\n```"),
    completion(None, tool_calls=[{"function": {"name": "order", "arguments": GOOD}}]),
]  # fmt: skip


@pytest.mark.parametrize("said", NO_ANSWERS)
@pytest.mark.parametrize("messages", [HELLO, IMAGE, LONG_TEXT], ids=["text", "image", "long"])
def test_an_answer_that_cannot_be_read_breaks_the_contract(
    side: Side, frontier: Frontier, said: dict[str, Any], messages: list[dict[str, Any]]
) -> None:
    frontier.says(said)
    reply = ask(side, messages=messages)
    assert reply.status_code == 422
    assert reply.json()["error"]["code"] == "teacher_broke_contract"
    assert f"breaks the contract of node '{NODE}'" in reply.json()["error"]["message"]
    assert reply.headers["x-cascade-contract"] == "broken"
    assert reply.headers["x-cascade-node"] == NODE
    passed_on = ask(side, messages=messages, **BY_HEADER)
    assert (passed_on.status_code, passed_on.json()) == (200, said)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<html>down for a while</html>", "text/html"), (b"", "application/json"),
        (b'{"choices": []}', "application/json"), (b"data: hello\n\n", "text/event-stream"),
        (events(GOOD, finish=None), "text/event-stream"),
        (json.dumps(completion(GOOD)).encode()[:-9], "application/json"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_what_is_no_chat_completion_is_the_upstreams_failure(
    side: Side, frontier: Frontier, body: bytes, kind: str, stream: bool
) -> None:
    frontier.says(body, kind)
    reply = ask(side, stream=stream)
    assert reply.status_code == 502
    assert reply.json()["error"]["code"] == "teacher_unavailable"
    assert ask(side, stream=stream, **BY_HEADER).content == body


def test_a_success_without_an_answer_is_one_too_and_an_error_goes_on_as_it_came(
    side: Side, frontier: Frontier
) -> None:
    for status in (202, 307):
        frontier.says(completion(GOOD), status=status)
        assert ask(side).status_code == 502
    error = {"error": {"message": "no such model", "code": "nope"}}
    frontier.says(error, status=404)
    assert (ask(side).status_code, ask(side).json()) == (404, error)


@pytest.mark.parametrize("messages", [HELLO, IMAGE, LONG_TEXT, []], ids=["text", "image", "long", "none"])
def test_what_keeps_the_contract_is_given_whatever_the_node_itself_takes(
    side: Side, frontier: Frontier, messages: list[dict[str, Any]]
) -> None:
    frontier.says(completion(GOOD))
    wanted: list[dict[str, Any]] = [{}, {"logprobs": True}, {"response_format": {"type": "json_object"}}]
    for more in wanted:
        reply = ask(side, messages=messages, **more)
        assert (reply.status_code, reply.json()) == (200, completion(GOOD))
        assert "x-cascade-contract" not in reply.headers
    called = completion(None, tool_calls=[{"function": {"name": "order", "arguments": GOOD}}])
    frontier.says(called)
    assert ask(side, messages=messages, tools=[TOOL]).json() == called


def test_a_stream_is_held_back_until_it_is_known_to_keep_the_contract(side: Side, frontier: Frontier) -> None:
    for messages in (HELLO, IMAGE):
        for text, status in ((GOOD, 200), ("I would rather talk about hats.", 422), (GOOD[:-3], 422)):
            frontier.says(events(text), "text/event-stream")
            reply = ask(side, messages=messages, stream=True)
            assert reply.status_code == status
            assert status != 200 or reply.content == frontier.body
        long = events(GOOD + " " * 5 * 3 * _AHEAD)  # more than waits for a slow agent
        frontier.says(long, "text/event-stream")
        assert ask(side, messages=messages, stream=True).content == long


def test_json_in_a_fence_is_read_and_given_without_it(side: Side, frontier: Frontier) -> None:
    frontier.says(completion(FENCED))
    assert ask(side).json() == completion(GOOD)
    assert ask(side, **BY_HEADER).json() == completion(FENCED)  # as it came
    decisions = list(side.store.decisions(NODE)) if side.store.flush(10) else []
    assert [decision.output for decision in decisions] == [json.loads(GOOD)] * 2
    for messages in (HELLO, IMAGE):
        frontier.says(events(FENCED), "text/event-stream")
        reply = ask(side, messages=messages, stream=True)
        lines = [line[6:] for line in reply.text.splitlines() if line.startswith("data: {")]
        deltas = [json.loads(line)["choices"][0]["delta"] for line in lines]
        assert "".join(delta.get("content", "") for delta in deltas) == GOOD
        assert reply.text.endswith("data: [DONE]\n\n")
        assert json.loads(lines[0])["id"] == "theirs"
        assert ask(side, stream=True, **BY_HEADER).content == frontier.body


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"n": 2}, "n"), ({"functions": [{"name": "f"}]}, "functions"),
        ({"modalities": ["text", "audio"]}, "modalities"), ({"tools": [{"type": "custom"}]}, "tools"),
        ({"response_format": {"type": "grammar"}}, "response_format"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "b"}}}, "tool_choice"),
    ],
)  # fmt: skip
def test_a_request_whose_answer_cannot_be_held_to_the_contract_is_refused(
    side: Side, frontier: Frontier, more: dict[str, Any], param: str
) -> None:
    frontier.says(completion(GOOD))
    reply = ask(side, **more)
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == param
    assert "leave it out" in reply.json()["error"]["message"]
    assert frontier.asked == 0
    assert ask(side, **more, **BY_HEADER).json() == completion(GOOD)


@pytest.mark.parametrize("failure", [Overloaded("too much waits"), KeyError("a bug")])
def test_the_contract_holds_where_the_node_could_not_be_asked(
    side: Side, frontier: Frontier, failure: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise failure

    monkeypatch.setattr(side.engine, "decide_each", broken)
    for text, status in ((GOOD, 200), ("I would rather talk about hats.", 422)):
        frontier.says(completion(text))
        assert ask(side).status_code == status
        frontier.says(events(text), "text/event-stream")
        assert ask(side, stream=True).status_code == status


@pytest.mark.parametrize(
    "said", ["I would rather talk about hats.", '{"item":"shoe","cou', '{"item": "shoe"}']
)
def test_what_is_not_the_contracts_json_breaks_it_whichever_way_the_node_is_asked(
    side: Side, frontier: Frontier, said: str
) -> None:
    frontier.says(completion(said))
    with pytest.raises(ContractViolation, match=f"even the teacher's answer breaks .* node '{NODE}'"):
        side.engine.decide(Ask(NODE, "two shoes please"))  # as gRPC does
    for more in (NODE_ITSELF, BY_HEADER):
        assert ask(side, **more).headers["x-cascade-contract"] == "broken"
    assert side.store.flush(10)
    tried = [decision.attempts[-1]["reason"].split()[0] for decision in side.store.decisions(NODE)]
    assert tried == ["contract:"] * 3


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (completion("  "), "empty"), (completion(None, refusal="I can not."), "refused"),
        (completion(GOOD, finish_reason="length"), "length limit"),
        (completion(GOOD) | {"choices": []}, "without choices"),
    ],
)  # fmt: skip
def test_a_teacher_that_gave_no_whole_answer_may_give_one_to_who_asks_again(
    side: Side, frontier: Frontier, said: dict[str, Any], why: str
) -> None:
    frontier.says(said)
    with pytest.raises(TeacherUnavailable, match=why):
        side.engine.decide(Ask(NODE, "two shoes please"))


def test_json_in_a_fence_is_an_answer_over_grpc_too(side: Side, frontier: Frontier) -> None:
    frontier.says(completion(FENCED))
    assert side.engine.decide(Ask(NODE, "two shoes please")).output == json.loads(GOOD)
