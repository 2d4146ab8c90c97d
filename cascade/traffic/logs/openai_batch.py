"""OpenAI's batch files: requests and results, a JSON object a line, joined by `custom_id`."""

from __future__ import annotations

from typing import Any

from cascade.traffic.logs.entry import (
    LoggedCall,
    Unreadable,
    completion_of,
    messages_of,
    number_of,
    seconds_of,
    text_of,
)


def is_openai_batch(entry: dict[str, Any]) -> bool:
    """Say whether an entry is a request or a result of a batch."""
    return "custom_id" in entry and ("body" in entry or "response" in entry or "error" in entry)


def is_request(entry: dict[str, Any]) -> bool:
    """Say whether an entry is a request, not a result."""
    return "body" in entry


def read_openai_batch(entry: dict[str, Any], request: dict[str, Any] | None) -> LoggedCall:
    """Read one result with the request that has its `custom_id`. Raises Unreadable."""
    id_ = text_of(entry.get("custom_id"))
    if id_ is None:
        raise Unreadable("'custom_id' is no text")
    if entry.get("error"):
        raise Unreadable(f"the request {id_[:60]!r} failed: {str(entry['error'])[:80]}")
    response = entry.get("response")
    if not isinstance(response, dict) or response.get("status_code") != 200:
        raise Unreadable(f"the request {id_[:60]!r} was not answered")
    if request is None:
        raise Unreadable(f"no request has the custom_id {id_[:60]!r}: give the batch's input by --requests")
    body, result = request.get("body"), response.get("body")
    if not isinstance(body, dict) or not isinstance(result, dict):
        raise Unreadable("the request or the result has no body")
    usage = result.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return LoggedCall(
        id=id_,
        messages=messages_of(body.get("messages")),
        output=completion_of(result),
        tools=body.get("tools") or None,
        response_format=body.get("response_format"),
        tool_choice=body.get("tool_choice"),
        model=text_of(result.get("model")) or text_of(body.get("model")) or "",
        time=seconds_of(result.get("created")),
        tenant=None,
        input_tokens=int(number_of(usage.get("prompt_tokens"))),
        output_tokens=int(number_of(usage.get("completion_tokens"))),
    )
