"""Which chat model answers, and with which prompt: what bundles and certificates call it by."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class ChatIdentity:
    """A chat model, asked with a prompt: with another of either it is another rung, or another teacher.

    Attributes
    ----------
    model : str
        The name that the server knows it by.
    prompt : str
        SHA-256 of the prompt's template.
    """

    model: str
    prompt: str

    def to_json(self) -> dict[str, str]:
        """Give it as a manifest stores it."""
        return asdict(self)


def digest(text: str) -> str:
    """Give the SHA-256 of a text, as identities name prompts.

    Examples
    --------
    >>> digest("{{ text }}")[:12]
    '511c2f57780c'
    """
    return hashlib.sha256(text.encode()).hexdigest()
