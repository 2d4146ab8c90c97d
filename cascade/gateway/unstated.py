"""What a call took that its model did not say: counted from bytes, where no `usage` came.

An agent that leaves a stream before its last event has had what it wanted, and the upstream bills it. Without
an estimate it would cost its tenant nothing, and a limit of spending would bind only those who stay.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_BYTES_PER_TOKEN = 4  # of English, by the rule of thumb of those who sell tokens
_PER_MESSAGE = 4 * _BYTES_PER_TOKEN  # what stands between messages
_MEDIA = ("image_url", "input_audio", "file")
_LEAST_OF_MEDIA = 4_000  # bytes of text that a picture counts as, however short its address
_MEDIA_AS_TEXT = 10  # as many bytes of base64 count as one of text
_NO_TEXT = ("role", "id", "type", "index")

UNSEEN_PER_SECOND = 50
"""Tokens that a model writes in a second before the first that it shows: what it thinks is billed, too."""


def said_bytes(value: Any) -> int:
    """Give the bytes of text in a message, or in a piece of one, such as a stream's `delta`.

    Examples
    --------
    >>> said_bytes({"role": "assistant", "content": "hello", "tool_calls": [{"id": "1", "name": "f"}]})
    6
    """
    if isinstance(value, str):
        return len(value.encode("utf-8", "replace"))
    if isinstance(value, list):
        return sum(map(said_bytes, value))
    total = 0
    for name, each in value.items() if isinstance(value, Mapping) else ():
        if name in _MEDIA:
            total += max(_LEAST_OF_MEDIA, said_bytes(each) // _MEDIA_AS_TEXT)
        elif name not in _NO_TEXT:
            total += said_bytes(each)
    return total


def tokens(text_bytes: int) -> int:
    """Give how many tokens so many bytes of text are, rounded up."""
    return -(-text_bytes // _BYTES_PER_TOKEN)


def request_tokens(body: Mapping[str, Any]) -> int:
    """Give how many tokens a chat completion request is.

    Examples
    --------
    >>> request_tokens({"model": "m", "messages": [{"role": "user", "content": "What time is it?"}]})
    8
    """
    said = sum(_PER_MESSAGE + said_bytes(message) for message in body["messages"])
    asked = [body[name] for name in ("tools", "response_format") if body.get(name)]
    return tokens(said + sum(len(json.dumps(each)) for each in asked))


def most_tokens(body: Mapping[str, Any]) -> float:
    """Give how many tokens a request lets the model write; without end where it does not say.

    Of two names the upstream knows one, and not the one that an agent would rather be charged by.

    Examples
    --------
    >>> most_tokens({"max_completion_tokens": 500, "max_tokens": 1})
    500
    """
    stated = [body.get(name) for name in ("max_completion_tokens", "max_tokens")]
    return max((n for n in stated if type(n) is int and n > 0), default=float("inf"))
