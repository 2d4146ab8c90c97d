"""One call to a chat model as some tool logged it, and what is common to reading them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any


class Unreadable(ValueError):
    """An entry of a log is refused; the message says why."""


@dataclass(frozen=True, slots=True)
class LoggedCall:
    """A call.

    Attributes
    ----------
    id : str
        The log's own id of the call.
    messages : list of JSON objects
        As sent, in the form of the chat completions API.
    output : JSON object
        The assistant's message.
    tools : list of JSON objects or None
    response_format, tool_choice : JSON value
        As sent; None where they were not.
    model : str
        Empty where the log does not say.
    time : float or None
        Unix seconds.
    session, tenant : str or None
    usd : float
    input_tokens, output_tokens : int
    """

    id: str
    messages: list[dict[str, Any]]
    output: dict[str, Any]
    tools: list[dict[str, Any]] | None = None
    response_format: Any = None
    tool_choice: Any = None
    model: str = ""
    time: float | None = None
    session: str | None = None
    tenant: str | None = None
    usd: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0

    @property
    def body(self) -> dict[str, Any]:
        """The request, as far as the log holds it."""
        request = {
            "messages": self.messages, "tools": self.tools, "response_format": self.response_format,
            "tool_choice": self.tool_choice,
        }  # fmt: skip
        return {key: value for key, value in request.items() if value is not None}


def text_of(value: Any) -> str | None:
    """Give a text that is not empty; None for anything else."""
    return value if isinstance(value, str) and value else None


def number_of(value: Any) -> float:
    """Give a finite number; 0 for anything else."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return 0.0


def seconds_of(value: Any) -> float | None:
    """Give Unix seconds from seconds, milliseconds, microseconds, nanoseconds or ISO 8601; None for none."""
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            try:
                value = float(value)
            except ValueError:
                return None
        else:
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    seconds = number_of(value)
    while seconds > 1e11:  # in the year 5138 as seconds: it is another unit
        seconds /= 1000
    return seconds or None


def parsed(value: Any) -> Any:
    """Give the JSON value in a text, where it is one; what it was else."""
    if isinstance(value, str) and value[:1] in "[{":
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def messages_of(value: Any) -> list[dict[str, Any]]:
    """Give a list of messages; a plain text is one user message.

    Raises
    ------
    Unreadable
    """
    value = parsed(value)
    if isinstance(value, Mapping) and "messages" in value:
        value = parsed(value["messages"])
    if isinstance(value, str) and value.strip():
        return [{"role": "user", "content": value}]
    if (
        not isinstance(value, list)
        or not value
        or not all(isinstance(m, dict) and "role" in m for m in value)
    ):
        raise Unreadable("it holds no list of messages with roles")
    return value


def completion_of(value: Any) -> dict[str, Any]:
    """Give the assistant's message of a chat completion.

    Raises
    ------
    Unreadable
    """
    value = parsed(value)
    if isinstance(value, str) and value.strip():
        return {"role": "assistant", "content": value}
    if isinstance(value, Mapping):
        choices = value.get("choices")
        if isinstance(choices, list) and choices and isinstance(choices[0], Mapping):
            message = choices[0].get("message")
            if isinstance(message, dict):
                return message
        if "content" in value or "tool_calls" in value:
            return dict(value)
    raise Unreadable("it holds no answer")
