"""Logs of other tools: each good entry becomes a call, each bad line a number and a reason."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.contract import Contract
from cascade.errors import InvalidInput, TrafficFileError
from cascade.gateway.imported import import_log, labelled_of
from cascade.gateway.question import frame_of
from cascade.traffic import SqliteStore
from cascade.traffic.logs import FORMATS, read_log
from cascade.traffic.logs.reading import detect

SYSTEM = {"role": "system", "content": "Name the intent."}
LABELS = Contract(labels=("track", "refund"))
TOOL = {"type": "function", "function": {"name": "track", "parameters": {"type": "object", "properties": {}}}}


def batch_request(id_: str, text: str, **body: Any) -> dict[str, Any]:
    body = {"model": "big", "messages": [SYSTEM, {"role": "user", "content": text}], **body}
    return {"custom_id": id_, "method": "POST", "url": "/v1/chat/completions", "body": body}


def batch_result(id_: str, content: str | None, status: int = 200, **message: Any) -> dict[str, Any]:
    said = {"role": "assistant", "content": content, **message}
    body = {
        "id": "c", "created": 1761955200, "model": "big-1", "choices": [{"index": 0, "message": said}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 2},
    }  # fmt: skip
    return {
        "id": f"b-{id_}",
        "custom_id": id_,
        "response": {"status_code": status, "body": body},
        "error": None,
    }


def litellm(id_: str, text: str, content: str, **more: Any) -> dict[str, Any]:
    return {
        "id": id_, "call_type": "acompletion", "status": "success", "model": "big", "startTime": 1761955200.5,
        "messages": [SYSTEM, {"role": "user", "content": text}], "response_cost": 0.01, "prompt_tokens": 7,
        "response": {"choices": [{"message": {"role": "assistant", "content": content}}]},
        "metadata": {"user_api_key_team_id": "team-1", "session_id": "s1"}, **more,
    }  # fmt: skip


def otlp(*spans: dict[str, Any]) -> dict[str, Any]:
    return {
        "resourceSpans": [{"resource": {}, "scopeSpans": [{"scope": {"name": "x"}, "spans": list(spans)}]}]
    }


def attributes(**values: Any) -> list[dict[str, Any]]:
    return [
        {
            "key": key.replace("__", "."),
            "value": {"intValue": str(v)} if isinstance(v, int) else {"stringValue": v},
        }
        for key, v in values.items()
    ]


def span(id_: str, text: str, answer: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    asked = [{"role": "user", "parts": [{"type": "text", "content": text}]}]
    return {
        "traceId": "t1", "spanId": id_, "name": "chat big", "startTimeUnixNano": "1761955200000000000",
        "attributes": attributes(
            gen_ai__operation__name="chat", gen_ai__request__model="big", gen_ai__usage__input_tokens=7,
            gen_ai__system_instructions=json.dumps([{"type": "text", "content": "Name the intent."}]),
            gen_ai__input__messages=json.dumps(asked), gen_ai__conversation__id="s1",
            gen_ai__output__messages=json.dumps([{"role": "assistant", "parts": answer, "finish_reason": "stop"}]),
        ),
        **more,
    }  # fmt: skip


TEXT = [{"type": "text", "content": "track"}]
CALL = [{"type": "tool_call", "id": "1", "name": "track", "arguments": {}}]
HTTP = {"traceId": "t1", "spanId": "h", "name": "POST", "attributes": attributes(http__method="POST")}
OLD = {
    "name": "chat big", "context": {"trace_id": "0xt", "span_id": "0xa"}, "start_time": "2025-11-01T00:00:00Z",
    "attributes": {"gen_ai.operation.name": "chat", "gen_ai.request.model": "big"},
    "events": [
        {"name": "gen_ai.system.message", "attributes": {"content": "Name the intent."}},
        {"name": "gen_ai.user.message", "attributes": {"content": "where is it"}},
        {"name": "gen_ai.choice", "attributes": {"message": '{"content": "track"}', "finish_reason": "stop"}},
    ],
}  # fmt: skip
NUMBERED = {
    "name": "openai.chat", "span_id": "n1",
    "attributes": {
        "llm.request.type": "chat", "gen_ai.prompt.0.role": "system", "gen_ai.prompt.0.content": "Name the intent.",
        "gen_ai.prompt.1.role": "user", "gen_ai.prompt.1.content": "where is it",
        "gen_ai.completion.0.role": "assistant", "gen_ai.completion.0.content": "track",
    },
}  # fmt: skip


def write(path: Path, entries: list[Any]) -> Path:
    path.write_text("".join(f"{e if isinstance(e, str) else json.dumps(e)}\n" for e in entries))
    return path


@pytest.mark.parametrize(
    ("format_", "entries"),
    [
        ("litellm", [litellm("1", "where is it", "track")]),
        ("openai-batch", [batch_request("1", "where is it"), batch_result("1", "track")]),
        ("otel", [otlp(HTTP, span("a", "where is it", TEXT))]),
        ("otel", [OLD]),
        ("otel", [NUMBERED]),
    ],
)
def test_each_format_is_detected_and_gives_the_node_its_question_and_answer(
    tmp_path: Path, format_: Any, entries: list[Any]
) -> None:
    path = write(tmp_path / "log", entries)
    assert detect(path) == format_
    ((_, call),), bad = read_log(path, format_)
    assert bad == []
    record = labelled_of(call, "n", LABELS)
    assert (record.text, record.messages, record.output) == ("where is it", None, "track")
    assert call.messages[0] == SYSTEM


def test_what_a_log_knows_is_kept(tmp_path: Path) -> None:
    ((_, call),), _ = read_log(write(tmp_path / "l", [litellm("1", "x", "track")]), "litellm")
    assert (call.id, call.model, call.time, call.session, call.tenant) == (
        "1",
        "big",
        1761955200.5,
        "s1",
        "team-1",
    )
    assert (call.usd, call.input_tokens) == (0.01, 7)
    ((_, call),), _ = read_log(write(tmp_path / "o", [otlp(span("a", "x", CALL))]), "otel")
    assert (call.id, call.model, call.time, call.session, call.input_tokens) == (
        "t1-a",
        "big",
        1761955200.0,
        "s1",
        7,
    )
    assert call.output["tool_calls"][0]["function"] == {"name": "track", "arguments": "{}"}


def test_tool_calls_and_json_answers_are_read_as_a_live_call_is(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"intent": {"type": "string"}}, "required": ["intent"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    called = {
        "tool_calls": [{"id": "1", "type": "function", "function": {"name": "track", "arguments": "{}"}}]
    }
    path = write(tmp_path / "b", [
        batch_request("1", "x", response_format=wanted), batch_result("1", '{"intent": "refund"}'),
        batch_request("2", "x", tools=[TOOL]), batch_result("2", None, **called),
    ])  # fmt: skip
    calls, _ = read_log(path, "openai-batch")
    assert [labelled_of(call, "n", LABELS).output for _, call in calls] == ["refund", "track"]
    call = calls[0][1]
    assert labelled_of(call, "n", Contract(schema=schema)).output == {"intent": "refund"}


def test_requests_and_results_of_a_batch_may_lie_in_two_files(tmp_path: Path) -> None:
    results = write(tmp_path / "out", [batch_result("1", "track")])
    requests = write(tmp_path / "in", [batch_request("1", "where is it")])
    assert [call.id for _, call in read_log(results, "openai-batch", requests)[0]] == ["1"]
    calls, bad = read_log(results, "openai-batch")
    assert calls == []
    assert "--requests" in bad[0].reason


def test_a_prompt_around_the_text_is_taken_off(tmp_path: Path) -> None:
    entry = litellm("1", "Name the intent of this: where is it", "track")
    ((_, call),), _ = read_log(write(tmp_path / "l", [entry]), "litellm")
    assert (
        labelled_of(call, "n", LABELS, frame_of("Name the intent of this: {{ text }}")).text == "where is it"
    )


def test_a_document_over_many_lines_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "spans.json"
    path.write_text(json.dumps(otlp(span("a", "x", TEXT), span("b", "y", TEXT)), indent=2))
    assert [call.id for _, call in read_log(path, detect(path))[0]] == ["t1-a", "t1-b"]
    path.write_text("{\n broken")
    assert "neither" in read_log(path, "otel")[1][0].reason


def test_bad_lines_are_named_and_nothing_is_imported_unless_asked(tmp_path: Path) -> None:
    path = write(tmp_path / "log", [
        litellm("1", "a", "track"), "{not json", litellm("2", "b", "no label of the node"),
        litellm("3", "c", "track", status="failure", error_str="timeout"), "[1]", '"text"',
        litellm("1", "changed", "track"), litellm("1", "a", "track"), litellm("4", "d", "refund"),
        litellm("5", "e", "track", messages=[{"role": "user", "content": [{"type": "image_url"}]}]),
        litellm("6", "", "track"), litellm("", "x", "track"),
    ])  # fmt: skip
    with SqliteStore(tmp_path / "t.db") as store:
        with pytest.raises(TrafficFileError) as caught:
            import_log(store, "n", path, "litellm", LABELS)
        assert sorted(caught.value.lines) == [2, 3, 4, 5, 6, 7, 10, 11, 12]
        assert "not JSON" in caught.value.lines[2]
        assert "timeout" in caught.value.lines[4]
        assert "line 1" in caught.value.lines[7]
        assert store.counts("n")["imported"] == 0
        count = import_log(store, "n", path, "litellm", LABELS, skip_bad=True)
        assert (count.added, len(count.bad_lines)) == (2, 9)
        assert import_log(store, "n", path, "litellm", LABELS, skip_bad=True).already_there == 2
    with pytest.raises(InvalidInput, match="cannot be read"):
        detect(tmp_path / "missing")


def test_spans_without_content_say_what_to_switch_on(tmp_path: Path) -> None:
    bare = {"spanId": "a", "attributes": attributes(gen_ai__operation__name="chat")}
    failed = span("b", "x", TEXT, status={"code": 2})
    image = span("c", "x", [{"type": "blob", "content": "?"}])
    _, bad = read_log(write(tmp_path / "l", [otlp(bare), otlp(failed), otlp(image)]), "otel")
    assert [line.line for line in bad] == [1, 2, 3]
    assert "capturing content" in bad[0].reason
    assert "error" in bad[1].reason
    assert "blob" in bad[2].reason


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["messages", "response", "attributes", "spanId", "resourceSpans", "scopeSpans", "spans",
                         "custom_id", "body", "choices", "message", "key", "value", "events", "context", "parts"]),
        inner, max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@given(JSON)
def test_any_json_is_read_or_refused_with_a_reason(
    tmp_path_factory: pytest.TempPathFactory, value: Any
) -> None:
    path = write(tmp_path_factory.mktemp("log") / "l", [value])
    detect(path)
    for format_ in FORMATS[:3]:
        calls, bad = read_log(path, format_)
        assert all(line.reason for line in bad)
        assert all(call.messages for _, call in calls)
