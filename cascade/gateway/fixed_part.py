"""What stays the same in every call of one kind: system prompt, tools and response format.

Recognition and discovery use this one fingerprint, so that what discovery writes into the configuration
is what serving finds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from cascade.contract import JsonValue

FIXED_ROLES = frozenset({"system", "developer"})
"""Roles whose messages belong to the fixed part."""

CONTEXT_KEY = "fixed_part"
"""The key of a captured call's context under which its fingerprint is kept, taken before redaction."""


def content_text(content: Any) -> str | None:
    """Give a message's content as one text; None where a part of it is no text.

    Examples
    --------
    >>> content_text([{"type": "text", "text": "a"}, {"type": "text", "text": ""}])
    'a'
    >>> content_text([{"type": "image_url", "image_url": {"url": "data:"}}]) is None
    True
    """
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        return None
    texts = []
    for part in content:
        if not isinstance(part, Mapping) or not isinstance(part.get("text"), str):
            return None
        texts.append(part["text"])
    return "\n".join(text for text in texts if text)


def is_fixed(message: Mapping[str, Any]) -> bool:
    """Say whether a message belongs to the fixed part."""
    role = message.get("role")
    return isinstance(role, str) and role in FIXED_ROLES


def has_fixed_part(
    messages: Sequence[Mapping[str, Any]], tools: JsonValue = None, response_format: JsonValue = None
) -> bool:
    """Say whether anything of a call could be fixed; a bare question cannot be recognised."""
    return bool(tools) or bool(response_format) or any(is_fixed(m) for m in messages)


def fingerprint(
    messages: Sequence[Mapping[str, Any]], tools: JsonValue = None, response_format: JsonValue = None
) -> str:
    """Give the fingerprint of a call's fixed part.

    Parameters
    ----------
    messages : sequence of JSON objects
        The call's messages, as sent. Only those of a system or developer count.
    tools, response_format : JSON value
        As sent; None where they were not.

    Returns
    -------
    str
        16 hexadecimal characters of a SHA-256. White space around the system prompt does not change it, nor
        does the order of keys; the order of tools does.

    Examples
    --------
    >>> call = [{"role": "system", "content": "Pick a tool."}, {"role": "user", "content": "hi"}]
    >>> fingerprint(call) == fingerprint([call[0], {"role": "user", "content": "bye"}])
    True
    """
    system = [
        (content_text(message.get("content")) or "").strip() for message in messages if is_fixed(message)
    ]
    fixed = {"system": system, "tools": tools or None, "response_format": response_format or None}
    canonical = json.dumps(fixed, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
