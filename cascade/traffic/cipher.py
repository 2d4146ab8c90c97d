"""Encryption of what the traffic log holds of people's words."""

from __future__ import annotations

from typing import Protocol


class Cipher(Protocol):
    """Encrypts single values, each bound to its place, so that none can be moved to another row unnoticed."""

    @property
    def current(self) -> str:
        """The id of the key that encrypts."""

    def seal(self, text: str, place: str) -> str:
        """Encrypt a text. Every call gives another result."""

    def open(self, sealed: str, place: str) -> str:
        """Decrypt what `seal` gave.

        Raises
        ------
        StoreError
            The key is not there, or the value was altered or moved.
        """
