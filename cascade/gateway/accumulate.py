"""What a completion said, read from its JSON or from the chunks of its stream."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from cascade.gateway.unstated import said_bytes
from cascade.rungs.usage import token_count
from cascade.traffic.strict_json import Refused, parse

_MAX_EVENT = 8 << 20


@dataclass
class Said:
    """What is known of a completion so far.

    Attributes
    ----------
    message : dict
        The assistant's message: `role`, `content`, `refusal`, `tool_calls`.
    finish_reason : str
        Empty while it is not known.
    model : str
    input_tokens, output_tokens : int
    told : bool
        Whether it was said how many tokens there were.
    bytes : int
        How much text was said, in all choices and in whatever the model thought aloud.
    complete : bool
        Whether the completion came to its end.
    """

    message: dict[str, Any] = field(default_factory=lambda: {"role": "assistant", "content": None})
    finish_reason: str = ""
    model: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    told: bool = False
    bytes: int = 0
    complete: bool = False

    def take_completion(self, completion: Any) -> None:
        """Read a whole completion. What is no completion leaves everything as it was."""
        if not isinstance(completion, dict):
            return
        self._common(completion, "message")
        choice = _first_choice(completion)
        message = choice.get("message") if choice else None
        if choice and isinstance(message, dict):
            self.message = message
            self.finish_reason = str(choice.get("finish_reason") or "")
            self.complete = True

    def take_chunk(self, chunk: Any) -> None:
        """Add one chunk of a stream."""
        if not isinstance(chunk, dict):
            return
        self._common(chunk, "delta")
        choice = _first_choice(chunk)
        if not choice:
            return
        delta = choice.get("delta")
        if isinstance(delta, dict):
            for name in ("content", "refusal"):
                if isinstance(delta.get(name), str):
                    self.message[name] = (self.message.get(name) or "") + delta[name]
            calls = delta.get("tool_calls")
            for call in calls if isinstance(calls, list) else ():
                if isinstance(call, dict):
                    self._add_call(call)
        if choice.get("finish_reason"):
            self.finish_reason = str(choice["finish_reason"])
            self.complete = True

    def _common(self, data: dict[str, Any], said: str) -> None:
        choices = data.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict):
                self.bytes += said_bytes(choice.get(said))
        if isinstance(data.get("model"), str):
            self.model = data["model"]
        usage = data.get("usage")
        if isinstance(usage, dict) and usage:
            self.told = True
            self.input_tokens = token_count(usage.get("prompt_tokens"))
            self.output_tokens = token_count(usage.get("completion_tokens"))

    def _add_call(self, call: dict[str, Any]) -> None:
        calls: list[dict[str, Any]] = self.message.setdefault("tool_calls", [])
        index = call.get("index", len(calls))
        if not isinstance(index, int) or not 0 <= index <= len(calls):
            return
        if index == len(calls):
            calls.append({"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
        at, function = calls[index], call.get("function")
        if isinstance(call.get("id"), str):
            at["id"] = call["id"]
        for name in ("name", "arguments"):
            if isinstance(function, dict) and isinstance(function.get(name), str):
                at["function"][name] += function[name]


class Events:
    """Cuts the bytes of a `text/event-stream` into its events."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._searched = 0  # so many of those bytes end no event: one may be a picture of megabytes

    def feed(self, raw: bytes) -> Iterator[bytes]:
        """Add bytes, and give each event that is whole, with the empty line that ends it."""
        self._rest += raw
        while True:
            ends = [
                at + len(mark)
                for mark in (b"\n\n", b"\r\n\r\n")
                if (at := self._rest.find(mark, self._searched)) >= 0
            ]
            if not ends:
                break
            event = bytes(self._rest[: min(ends)])
            del self._rest[: min(ends)]
            self._searched = 0
            yield event
        self._searched = max(0, len(self._rest) - 3)
        if len(self._rest) > _MAX_EVENT:  # whatever this is, it is not held up
            yield self.rest()

    def rest(self) -> bytes:
        """Give what came after the last whole event."""
        rest, self._rest, self._searched = bytes(self._rest), bytearray(), 0
        return rest


def data_of(event: bytes) -> Any:
    """Give the JSON object of an event's data; None where it has none, as `[DONE]`."""
    lines = [line[5:].strip() for line in event.splitlines() if line.startswith(b"data:")]
    try:
        return parse(b"\n".join(lines), repeated_keys=True) if lines else None
    except Refused:
        return None


def _first_choice(data: dict[str, Any]) -> dict[str, Any] | None:
    choices = data.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return None
    first: dict[str, Any] = choices[0]
    return first
