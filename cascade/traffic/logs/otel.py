"""OpenTelemetry spans of the GenAI conventions: OTLP as JSON, or spans as the SDKs print them.

The chat is read from where a version of the conventions puts it: the attributes `gen_ai.input.messages` and
`gen_ai.output.messages` (from 1.37 on), the events `gen_ai.user.message` and `gen_ai.choice` (before), or
numbered attributes such as `gen_ai.prompt.0.content` (OpenLLMetry).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from cascade.traffic.logs.entry import LoggedCall, Unreadable, number_of, parsed, seconds_of, text_of

_CHAT = ("chat", "generate_content", "text_completion")
_NUMBERED = re.compile(r"gen_ai\.(prompt|completion)\.(\d+)\.(role|content|tool_calls\.(\d+)\.(\w+))")
_EVENT_ROLES = {
    "gen_ai.system.message": "system", "gen_ai.user.message": "user", "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
}  # fmt: skip


def is_otel(entry: dict[str, Any]) -> bool:
    """Say whether an entry holds spans."""
    return "resourceSpans" in entry or (
        "attributes" in entry and any(key in entry for key in ("spanId", "span_id", "context"))
    )


def spans_of(entry: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Give the spans in an entry, attributes and events as plain objects."""
    if "resourceSpans" not in entry:
        yield {**entry, "attributes": _plain(entry.get("attributes")), "events": _events(entry)}
        return
    for resource in entry["resourceSpans"] or []:
        for scope in resource.get("scopeSpans") or resource.get("instrumentationLibrarySpans") or []:
            for span in scope.get("spans") or []:
                yield {**span, "attributes": _plain(span.get("attributes")), "events": _events(span)}


def is_chat(span: dict[str, Any]) -> bool:
    """Say whether a span is a call to a chat model; others are of no interest."""
    attributes = span["attributes"]
    operation = attributes.get("gen_ai.operation.name") or attributes.get("llm.request.type")
    if operation is not None:
        return operation in _CHAT
    return any(key.startswith(("gen_ai.input", "gen_ai.prompt")) for key in attributes)


def read_span(span: dict[str, Any]) -> LoggedCall:
    """Read one span. Raises Unreadable."""
    attributes = span["attributes"]
    context = _object(span.get("context"))
    id_ = text_of(span.get("spanId")) or text_of(span.get("span_id")) or text_of(context.get("span_id"))
    if id_ is None:
        raise Unreadable("a span has no id")
    trace = text_of(span.get("traceId")) or text_of(span.get("trace_id")) or text_of(context.get("trace_id"))
    if _failed(span):
        raise Unreadable(f"the span {id_} ended in an error")
    messages, output = _chat(attributes, span["events"])
    if not messages:
        raise Unreadable(f"the span {id_} holds no messages: switch on capturing content where it is made")
    if output is None:
        raise Unreadable(f"the span {id_} holds no answer")
    schema = parsed(attributes.get("gen_ai.output.schema"))
    kind = attributes.get("gen_ai.output.type") or attributes.get("gen_ai.request.response_format")
    wanted = None
    if isinstance(schema, dict):
        wanted = {"type": "json_schema", "json_schema": {"schema": schema}}
    elif kind in ("json", "json_object"):
        wanted = {"type": "json_object"}
    start = span.get("startTimeUnixNano") or span.get("start_time_unix_nano") or span.get("start_time")
    return LoggedCall(
        id=f"{trace}-{id_}" if trace else id_,
        messages=messages,
        output=output,
        tools=_tools(parsed(attributes.get("gen_ai.tool.definitions"))),
        response_format=wanted,
        model=_first(attributes, "gen_ai.response.model", "gen_ai.request.model") or "",
        time=seconds_of(int(start) if isinstance(start, str) and start.isdigit() else start),
        session=_first(attributes, "gen_ai.conversation.id", "session.id"),
        tenant=text_of(attributes.get("tenant.id")),
        input_tokens=int(number_of(attributes.get("gen_ai.usage.input_tokens"))),
        output_tokens=int(number_of(attributes.get("gen_ai.usage.output_tokens"))),
    )


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _first(attributes: dict[str, Any], *names: str) -> str | None:
    return next((text for text in (text_of(attributes.get(name)) for name in names) if text), None)


def _failed(span: dict[str, Any]) -> bool:
    status = span.get("status")
    code = status.get("code", status.get("status_code")) if isinstance(status, dict) else None
    return code in (2, "STATUS_CODE_ERROR", "ERROR") or "error.type" in span["attributes"]


def _chat(
    attributes: dict[str, Any], events: list[dict[str, Any]]
) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    if "gen_ai.input.messages" in attributes:
        system = parsed(attributes.get("gen_ai.system_instructions")) or []
        chat = _parts([{"role": "system", "parts": system}] if system else [])
        chat += _parts(parsed(attributes["gen_ai.input.messages"]))
        said = _parts(parsed(attributes.get("gen_ai.output.messages")))
        return chat, said[0] if said else None
    numbered = _numbered(attributes)
    if numbered["prompt"]:
        return numbered["prompt"], next(iter(numbered["completion"]), None)
    chat, answer = [], None
    for event in events:
        body = {**event["attributes"], **_object(event.get("body"))}
        if event.get("name") in _EVENT_ROLES:
            role = body.get("role") or _EVENT_ROLES[event["name"]]
            message = {"role": role, "content": body.get("content") or ""}
            chat.append(message | _calls(parsed(body.get("tool_calls"))))
        elif event.get("name") == "gen_ai.choice" and answer is None:
            message = parsed(body.get("message"))
            message = message if isinstance(message, dict) else body
            answer = {"role": "assistant", "content": message.get("content")}
            answer |= _calls(parsed(message.get("tool_calls")))
    return chat, answer


def _parts(messages: Any) -> list[dict[str, Any]]:
    """Turn messages of parts into those of the chat completions API."""
    found: list[dict[str, Any]] = []
    for message in messages if isinstance(messages, list) else []:
        if not isinstance(message, dict):
            raise Unreadable("a message is no object")
        parts = message.get("parts", message.get("content"))
        if isinstance(parts, str):
            found.append({"role": message.get("role"), "content": parts})
            continue
        texts, calls, answers = [], [], []
        for part in parts if isinstance(parts, list) else []:
            kind = part.get("type") if isinstance(part, dict) else None
            if kind == "text":
                texts.append(str(part.get("content", part.get("text", ""))))
            elif kind == "tool_call":
                function = {"name": part.get("name"), "arguments": part.get("arguments")}
                calls.append({"id": part.get("id"), "function": function})
            elif kind == "tool_call_response":
                answers.append(str(part.get("response", part.get("result", ""))))
            elif kind not in ("reasoning", "thinking"):
                raise Unreadable(f"a message holds a part of the type {str(kind)[:40]!r}, which is no text")
        content = "\n".join(texts + answers)
        found.append({"role": message.get("role"), "content": content} | _calls(calls))
    return found


def _calls(calls: Any) -> dict[str, Any]:
    """Give `tool_calls` as the chat completions API has them: arguments are a text."""
    made = []
    for call in calls if isinstance(calls, list) else []:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict):
            continue
        arguments = function.get("arguments")
        if not isinstance(arguments, str):
            arguments = _json_text(arguments or {})
        said = {"name": function.get("name"), "arguments": arguments}
        made.append({"id": call.get("id"), "type": "function", "function": said})
    return {"tool_calls": made} if made else {}


def _json_text(value: Any) -> str:
    """Write a JSON value compactly."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _numbered(attributes: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, dict[int, dict[str, Any]]] = {"prompt": {}, "completion": {}}
    for key, value in attributes.items():
        match = _NUMBERED.fullmatch(key)
        if match is None:
            continue
        message = found[match[1]].setdefault(int(match[2]), {"role": "assistant", "content": ""})
        if match[4] is None:
            message[match[3]] = value
        else:
            calls = message.setdefault("calls", {})
            calls.setdefault(int(match[4]), {})[match[5]] = value
    result = {}
    for side, messages in found.items():
        made = []
        for _, message in sorted(messages.items()):
            calls = [{"function": call} for _, call in sorted(message.pop("calls", {}).items())]
            made.append(message | _calls(calls))
        result[side] = made
    return result


def _tools(value: Any) -> list[dict[str, Any]] | None:
    """Give tools as the chat completions API has them."""
    if not isinstance(value, list) or not value:
        return None
    return [
        t if "function" in t else {"type": "function", "function": t} for t in value if isinstance(t, dict)
    ]


def _events(span: dict[str, Any]) -> list[dict[str, Any]]:
    events = span.get("events")
    return [
        {**event, "attributes": _plain(event.get("attributes"))}
        for event in (events if isinstance(events, list) else [])
        if isinstance(event, dict)
    ]


def _plain(attributes: Any) -> dict[str, Any]:
    """Give attributes as a plain object, from OTLP's list of keys and typed values or from an object."""
    if isinstance(attributes, dict):
        return attributes
    if not isinstance(attributes, list):
        return {}
    return {
        str(each["key"]): _value(each.get("value"))
        for each in attributes
        if isinstance(each, dict) and "key" in each
    }


def _value(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if "intValue" in value:
        return int(value["intValue"])
    if "arrayValue" in value:
        return [_value(each) for each in value["arrayValue"].get("values") or []]
    if "kvlistValue" in value:
        return _plain(value["kvlistValue"].get("values"))
    return next(iter(value.values()), None)
