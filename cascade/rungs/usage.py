"""What a chat model says that a call took, read with care: a bill and a tenant's budget follow from it."""

from __future__ import annotations

from typing import Any

_MOST_TOKENS = 1 << 40  # no completion has as many: who says so counts nothing


def token_count(value: Any) -> int:
    """Give a number of tokens as a model's `usage` has it; 0 for what is none.

    Examples
    --------
    >>> token_count(12), token_count(-12), token_count("12"), token_count(True), token_count(None)
    (12, 0, 0, 0, 0)
    """
    known = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_TOKENS
    return value if known else 0
