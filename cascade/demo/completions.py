"""The forms that the simulated frontier's answers take: texts, JSON texts, tool calls, streams."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from cascade.contract import JsonValue

SSE = "text/event-stream; charset=utf-8"
_PIECE = 8  # characters in one chunk of a stream


def said_text(message: dict[str, Any]) -> str:
    """Give a message's text; parts that are no text count for nothing."""
    content = message["content"]
    if isinstance(content, list):
        return "\n".join(str(part["text"]) for part in content if part.get("type") == "text")
    return "" if content is None else str(content)


def text_of(answer: JsonValue, response_format: dict[str, Any]) -> str:
    """Give a recorded answer as the text that a response format asks for."""
    schema = (response_format.get("json_schema") or {}).get("schema") or {}
    names = list(schema.get("properties", {}))
    if len(names) == 1 and not isinstance(answer, dict):
        return json.dumps({names[0]: answer}, ensure_ascii=False)
    return answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)


def tool_call(answer: JsonValue, request: dict[str, Any], call_id: str) -> dict[str, Any] | None:
    """Give a recorded answer as a call of one of the request's tools; None where it names none.

    An answer is a tool's name, or the one argument of the only tool.
    """
    if not request.get("tools") or request.get("tool_choice") == "none":
        return None
    tools = {tool["function"]["name"]: tool["function"] for tool in request["tools"]}
    name, arguments = str(answer), {}
    if name not in tools:
        if len(tools) != 1:
            return None
        name, function = next(iter(tools.items()))
        parameters = list((function.get("parameters") or {}).get("properties", {}))
        if len(parameters) != 1:
            return None
        arguments = {parameters[0]: answer}
    called = {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)}
    return {"id": f"call_{call_id}", "type": "function", "function": called}


def chunks(completion: dict[str, Any], request: dict[str, Any]) -> Iterator[bytes]:
    """Give a completion as the events of a stream."""
    head = {**completion, "object": "chat.completion.chunk"}
    del head["choices"], head["usage"]
    choice = completion["choices"][0]
    message = choice["message"]
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    content = message["content"] or ""
    deltas += [{"content": content[at : at + _PIECE]} for at in range(0, len(content), _PIECE)]
    if message["refusal"]:
        deltas.append({"refusal": message["refusal"]})
    for index, call in enumerate(message.get("tool_calls") or []):
        empty = {**call, "index": index, "function": {**call["function"], "arguments": ""}}
        deltas.append({"tool_calls": [empty]})
        said = {"index": index, "function": {"arguments": call["function"]["arguments"]}}
        deltas.append({"tool_calls": [said]})
    for delta in deltas:
        yield _event(head, [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}])
    finish = {"index": 0, "delta": {}, "logprobs": None, "finish_reason": choice["finish_reason"]}
    yield _event(head, [finish])
    if (request.get("stream_options") or {}).get("include_usage"):
        yield _event(head | {"usage": completion["usage"]}, [])
    yield b"data: [DONE]\n\n"


def _event(head: dict[str, Any], choices: list[dict[str, Any]]) -> bytes:
    return b"data: " + json.dumps(head | {"choices": choices}).encode() + b"\n\n"
