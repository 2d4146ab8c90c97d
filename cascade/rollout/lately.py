"""Which texts were met lately, so that a caller who asks again and again is counted once."""

from __future__ import annotations

SECONDS = 60.0
"""A text is known for so long at least, and for twice that at most."""
MOST = 8_192
"""Texts that are known at least, where there are so many in that time: some half a megabyte a bundle."""


class Lately:
    """Knows texts by their hashes. Not for several threads at once."""

    def __init__(self) -> None:
        self._new: set[int] = set()
        self._old: set[int] = set()
        self._turned = 0.0

    def met(self, name: int) -> bool:
        """Whether a text was met lately; from now on it was."""
        if name in self._new or name in self._old:
            return True
        if len(self._new) >= MOST:
            self._old, self._new = self._new, set()
        self._new.add(name)
        return False

    def forget(self, name: int) -> None:
        """Take a text for one that was not met."""
        self._new.discard(name)
        self._old.discard(name)

    def age(self, now: float) -> None:
        """Forget what is old; to be called now and then."""
        if now - self._turned >= SECONDS:
            self._turned = now
            self._old, self._new = self._new, set()
