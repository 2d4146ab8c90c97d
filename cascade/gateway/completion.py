"""A locally settled answer as a chat completion, whole or as a stream."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

from cascade.ask import Decided
from cascade.gateway.shape import AnswerShape

_NOTHING = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
"""No model was paid, so no tokens were used."""


def completion_of(body: Mapping[str, Any], decided: Decided, shape: AnswerShape) -> dict[str, Any]:
    """Give a decision as a `chat.completion`.

    Parameters
    ----------
    body : JSON object
        The request.
    decided : Decided
    shape : AnswerShape
        The request's.

    Raises
    ------
    Unfit
        The decision's output does not have the request's shape.
    """
    message = shape.message(decided.output, f"call_{decided.decision_id}")
    return _head(body, decided, "chat.completion") | {
        "choices": [{
            "index": 0, "message": message, "logprobs": None,
            "finish_reason": "tool_calls" if message.get("tool_calls") else "stop",
        }],
        "usage": _NOTHING,
    }  # fmt: skip


def stream_of(body: Mapping[str, Any], completion: Mapping[str, Any]) -> Iterator[bytes]:
    """Give a completion as the events of a stream, as the request's `stream_options` want it."""
    head = {**completion, "object": "chat.completion.chunk"}
    del head["choices"], head["usage"]
    choice = completion["choices"][0]
    message = dict(choice["message"])
    delta: dict[str, Any] = {"role": "assistant", "content": message["content"] or ""}
    if message.get("tool_calls"):
        calls = [{"index": index} | call for index, call in enumerate(message["tool_calls"])]
        delta = {"role": "assistant", "content": None, "tool_calls": calls}
    options = body.get("stream_options")
    wants_usage = isinstance(options, Mapping) and bool(options.get("include_usage"))
    extra = {"usage": None} if wants_usage else {}
    for part, finish in ((delta, None), ({}, choice["finish_reason"])):
        yield _event(
            head
            | {"choices": [{"index": 0, "delta": part, "logprobs": None, "finish_reason": finish}]}
            | extra
        )
    if wants_usage:
        yield _event(head | {"choices": [], "usage": completion["usage"]})
    yield b"data: [DONE]\n\n"


def _head(body: Mapping[str, Any], decided: Decided, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{decided.decision_id}",
        "object": kind,
        "created": int(time.time()),
        "model": str(body.get("model", "")),
        "system_fingerprint": f"cascade-{decided.bundle_version}",
    }


def _event(data: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(data, ensure_ascii=False).encode() + b"\n\n"
