"""What a call took that is passed on as it is, read from its answer on the way."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import Any

from cascade.gateway.accumulate import Events, data_of
from cascade.gateway.unstated import said_bytes, tokens
from cascade.rungs.usage import token_count
from cascade.traffic.strict_json import Refused, parse

_MOST_BYTES = 1 << 20  # of a JSON answer that is read as JSON for its usage
_END_BYTES = 1 << 16  # of a larger one, whose usage is looked for where all put it
_USAGE = re.compile(r'"usage"\s*:\s*(?=\{)')  # within a text of the answer its quotes would be escaped
_READ, _WRITTEN = ("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens")
_ASKED = ("messages", "input", "prompt", "instructions")


class Bill:
    """Reads one answer's usage: of a JSON object, or of the events of a stream.

    Where an answer was not read to its end, or says nothing, what was asked and said is counted by its bytes.
    An answer that came whole, is no stream and has no `usage` took nothing.

    Parameters
    ----------
    content : bytes
        The request's body.
    kind : str
        The answer's content type.
    """

    def __init__(self, content: bytes, kind: str) -> None:
        self._content = content
        self._events = Events() if kind.startswith("text/event-stream") else None
        self._json = kind.startswith("application/json")
        self._parts: list[bytes] = []
        self._size = self._said = 0
        self._usage: dict[str, int] = {}
        self._whole = False

    def feed(self, raw: bytes) -> None:
        """Take some bytes of the answer."""
        if self._events is not None:
            for event in self._events.feed(raw):
                self._take(data_of(event))
        elif self._json:
            self._size += len(raw)
            self._parts.append(raw)
            if self._size > _MOST_BYTES:
                self._parts = [b"".join(self._parts)[-_END_BYTES:]]

    def end(self) -> None:
        """Say that the answer came whole."""
        self._whole = True
        if self._events is not None:
            self._take(data_of(self._events.rest()))
        elif self._json and self._size <= _MOST_BYTES:
            with suppress(Refused):
                self._take(parse(b"".join(self._parts), repeated_keys=True))
        elif self._json:
            end = b"".join(self._parts).decode("utf-8", "replace")
            for found in list(_USAGE.finditer(end))[-4:]:  # a tool's parameter may be called so, too
                with suppress(ValueError, RecursionError):
                    self._take({"usage": json.JSONDecoder().raw_decode(end, found.end())[0]})

    def used(self) -> tuple[int, int]:
        """Give the tokens that went in and came out."""
        read, written = (
            next((self._usage[name] for name in names if name in self._usage), 0)
            for names in (_READ, _WRITTEN)
        )
        known = bool(self._usage) or (self._events is None and self._size <= _MOST_BYTES)
        if self._whole and known:
            return read, written
        asked = 0
        with suppress(Refused):
            body = parse(self._content, repeated_keys=True)
            asked = said_bytes([body.get(name) for name in _ASKED])
        return max(read, tokens(asked)), max(written, tokens(self._said))

    def _take(self, data: Any) -> None:
        if not isinstance(data, dict):
            return
        choices = data.get("choices")
        # Not its `text`, which says once more what came in pieces.
        self._said += said_bytes(data.get("delta"))
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict):
                self._said += said_bytes([choice.get("delta"), choice.get("text")])
        for holder in (data, data.get("response"), data.get("message")):
            usage = holder.get("usage") if isinstance(holder, dict) else None
            if not isinstance(usage, dict):
                continue
            # Some streams give a part of it at the start, and another, or what there is so far, later.
            for name in _READ + _WRITTEN:
                if name in usage:
                    self._usage[name] = max(token_count(usage[name]), self._usage.get(name, 0))
