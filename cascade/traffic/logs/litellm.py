"""LiteLLM's standard logging payload, a JSON object a line: what its file, S3 and GCS loggers write."""

from __future__ import annotations

from typing import Any

from cascade.traffic.logs.entry import (
    LoggedCall,
    Unreadable,
    completion_of,
    messages_of,
    number_of,
    parsed,
    seconds_of,
    text_of,
)


def is_litellm(entry: dict[str, Any]) -> bool:
    """Say whether an entry looks like one of LiteLLM's."""
    return "messages" in entry and "response" in entry


def read_litellm(entry: dict[str, Any]) -> LoggedCall:
    """Read one entry. Raises Unreadable."""
    status = entry.get("status")
    if status not in (None, "success"):
        raise Unreadable(f"the call has the status {str(status)[:40]!r}: {str(entry.get('error_str'))[:80]}")
    id_ = next((text_of(entry.get(k)) for k in ("id", "request_id", "litellm_call_id") if entry.get(k)), None)
    if id_ is None:
        raise Unreadable("it has no id")
    metadata = parsed(entry.get("metadata"))
    metadata = metadata if isinstance(metadata, dict) else {}
    found: dict[str, Any] = {}
    for name in ("model_parameters", "optional_params"):
        given = parsed(entry.get(name))
        found |= given if isinstance(given, dict) else {}
    response = parsed(entry.get("response"))
    return LoggedCall(
        id=id_,
        messages=messages_of(entry["messages"]),
        output=completion_of(response),
        tools=found.get("tools") or None,
        response_format=found.get("response_format"),
        tool_choice=found.get("tool_choice"),
        model=text_of(entry.get("model")) or "",
        time=seconds_of(entry.get("startTime")),
        session=text_of(entry.get("session_id")) or text_of(metadata.get("session_id")),
        tenant=text_of(metadata.get("user_api_key_team_id")) or text_of(entry.get("team_id")),
        usd=number_of(entry.get("response_cost")) or number_of(entry.get("spend")),
        input_tokens=int(number_of(entry.get("prompt_tokens"))),
        output_tokens=int(number_of(entry.get("completion_tokens"))),
    )
