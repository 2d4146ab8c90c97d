"""Hostile JSON: chat requests, and completions that are nonsense. A part of `benchmarks.fuzz`."""

from __future__ import annotations

import json
import random
from typing import Any

from benchmarks.fuzz_input import NODE

WORDS = (
    "", " ", "\0", "a", "\n", "\u202e", "é" * 50, "😀", "\ud800", "{{ 7*7 }}", "../../x", "x" * 5000, "null",
    "NaN", "user", "system", "assistant", "tool", "developer", "function", "text", "auto", "none", "required",
    "json_object", "json_schema", "string", "object", "stop", "length", "content_filter", "tool_calls", NODE,
    f"cascade/{NODE}", "cascade/", "cascade/nope", "gpt", "[DONE]", "data:", "refund",
)  # fmt: skip
NUMBERS = (0, 1, 2, -1, 1.5, 1e308, -0.0, 2**53, 2**63, 2**70, 10**400, float("nan"), float("inf"))
KEYS = (
    "role", "content", "type", "text", "name", "arguments", "function", "tool_calls", "id", "index", "schema",
    "json_schema", "properties", "enum", "required", "include_usage", "message", "delta", "choices", "usage",
    "prompt_tokens", "completion_tokens", "finish_reason", "refusal", "model", "",
)  # fmt: skip


def value(rng: random.Random, depth: int = 0) -> Any:
    """Give any JSON value, rather small."""
    kind = rng.randrange(9 if depth < 4 else 6)
    if kind == 6:
        return [value(rng, depth + 1) for _ in range(rng.randrange(4))]
    if kind >= 7:
        return {rng.choice(KEYS): value(rng, depth + 1) for _ in range(rng.randrange(4))}
    return rng.choice((None, True, False, rng.choice(NUMBERS), rng.choice(WORDS), rng.choice(WORDS)))


def or_else(rng: random.Random, plausible: Any) -> Any:
    """Give what is plausible, mostly."""
    return value(rng) if rng.random() < 0.12 else plausible


def _function(rng: random.Random) -> dict[str, Any]:
    schema = {
        "type": or_else(rng, "object"),
        "properties": or_else(rng, {rng.choice(WORDS): or_else(rng, {"type": or_else(rng, "string")})}),
    }
    function = {"name": or_else(rng, rng.choice(WORDS)), "parameters": or_else(rng, schema)}
    return {"type": or_else(rng, "function"), "function": or_else(rng, function)}


def _call(rng: random.Random) -> dict[str, Any]:
    arguments = rng.choice(("{}", '{"a": 1}', "{", "[]", "null", '{"intent": "refund"}'))
    return {
        "id": or_else(rng, "c"), "index": or_else(rng, rng.randrange(3)), "type": or_else(rng, "function"),
        "function": or_else(rng, {"name": or_else(rng, "f"), "arguments": or_else(rng, arguments)}),
    }  # fmt: skip


def _message(rng: random.Random, texts: list[str]) -> Any:
    text = rng.choice(texts) if rng.random() < 0.7 else rng.choice(WORDS)
    parts = [or_else(rng, {"type": "text", "text": or_else(rng, text)}) for _ in range(rng.randrange(3))]
    message = {
        "role": or_else(
            rng, rng.choice(("user", "user", "user", "system", "assistant", "tool", "developer"))
        ),
        "content": or_else(rng, text if rng.random() < 0.8 else parts),
    }
    if rng.random() < 0.1:
        message["tool_calls"] = or_else(rng, [or_else(rng, _call(rng)) for _ in range(rng.randrange(3))])
    return or_else(rng, message)


def chat_body(rng: random.Random, texts: list[str]) -> Any:
    """Give a chat completion request, of which each part may be anything."""
    schema = {"type": "object", "properties": {"intent": or_else(rng, {"type": "string"})}}
    formats = (
        {"type": "text"}, {"type": "json_object"},
        {"type": "json_schema", "json_schema": or_else(rng, {"name": "i", "schema": or_else(rng, schema)})},
    )  # fmt: skip
    parts = {
        "tools": [or_else(rng, _function(rng)) for _ in range(rng.randrange(3))],
        "tool_choice": rng.choice(
            ("auto", "none", "required", {"type": "function", "function": or_else(rng, {"name": "f"})})
        ),
        "response_format": rng.choice(formats), "stream": rng.random() < 0.7,
        "stream_options": {"include_usage": True}, "n": rng.choice((1, 2)), "modalities": ["text"],
        "logprobs": False, "max_tokens": 5, "user": "u",
    }  # fmt: skip
    body = {
        "model": or_else(rng, rng.choice((f"cascade/{NODE}", f"cascade/{NODE}", "m", "cascade/nope"))),
        "messages": or_else(rng, [_message(rng, texts) for _ in range(rng.choice((1, 1, 1, 2, 3, 0)))]),
    }
    for name, plausible in parts.items():
        if rng.random() < 0.2:
            body[name] = or_else(rng, plausible)
    return or_else(rng, body)


def completion(rng: random.Random) -> bytes:
    """Give what a frontier answers: a status line, headers and a body, each of them maybe nonsense."""
    said = {
        "role": or_else(rng, "assistant"),
        "content": or_else(rng, rng.choice(("refund", '{"intent": "refund"}', None))),
    }
    if rng.random() < 0.3:
        said["tool_calls"] = or_else(rng, [or_else(rng, _call(rng)) for _ in range(rng.randrange(3))])
    finish = or_else(rng, rng.choice(("stop", "length", "content_filter", "tool_calls", None)))
    usage = or_else(rng, {"prompt_tokens": or_else(rng, 3), "completion_tokens": or_else(rng, 4)})
    streams = rng.random() < 0.4
    if streams:
        chunks = [
            or_else(rng, {"choices": or_else(rng, [or_else(rng, {"delta": or_else(rng, said)})])}),
            or_else(rng, {"choices": [{"delta": {}, "finish_reason": finish}]}),
            or_else(rng, {"choices": [], "usage": usage}),
        ]
        ends = (b"\n\n", b"\n\n", b"\r\n\r\n", b"\n")
        body = b"".join(b"data: " + dumps(chunk) + rng.choice(ends) for chunk in chunks) + b"data: [DONE]\n\n"
    else:
        choice = or_else(rng, {"index": 0, "message": or_else(rng, said), "finish_reason": finish})
        answer = {"id": "x", "model": or_else(rng, "big"), "choices": or_else(rng, [choice]), "usage": usage}
        body = dumps(or_else(rng, answer))
    if rng.random() < 0.15:
        body = body[: rng.randrange(len(body) + 1)]
    status = rng.choice((200,) * 8 + (204, 301, 400, 401, 404, 422, 429, 500, 503, 599))
    kind = "text/event-stream" if streams else "application/json"
    size = len(body) if rng.random() < 0.95 else rng.randrange(2 * len(body) + 2)
    named = str(or_else(rng, kind)).replace("\0", "?").encode("utf-8", "replace")
    head = b"HTTP/1.1 %d x\r\ncontent-type: %b\r\ncontent-length: %d\r\n" % (status, named, size)
    head += b"connection: close\r\n"
    if rng.random() < 0.05:
        head += rng.choice(
            (b"retry-after: soon\r\n", b"x: \xff\r\n", b"content-encoding: gzip\r\n", b"bad\r\n")
        )
    return rng.randbytes(rng.randrange(60)) if rng.random() < 0.03 else head + b"\r\n" + body


def dumps(data: Any) -> bytes:
    """Give it as JSON."""
    return json.dumps(data, ensure_ascii=False).encode("utf-8", "surrogatepass")
