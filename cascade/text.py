"""The forms of a text that models read."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable


def normalise(text: str) -> str:
    """Bring a text to the form that features are read from: NFKC, lower case, single spaces.

    Examples
    --------
    >>> normalise("  Hello    WORLD ")
    'hello world'
    """
    if text.isascii():
        return " ".join(text.lower().split())
    return " ".join(unicodedata.normalize("NFKC", text).lower().split())


def flatten_messages(messages: Iterable[tuple[str, str]]) -> str:
    """Join a chat into the one text that local rungs read: a line per message, `role: content`."""
    return "\n".join(f"{role}: {content}" for role, content in messages)
