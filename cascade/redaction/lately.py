"""Remembers in which texts nothing was found lately."""

from __future__ import annotations

from collections.abc import Sequence

_MOST_CHARACTERS = 1 << 18


class Lately:
    """Texts of a moment ago: the last 260,000 characters at least, twice as many at most, and what came last.

    Threads use it side by side. A text that is forgotten too early is looked at again, which is all.
    """

    def __init__(self) -> None:
        self._now: set[str] = set()
        self._before: set[str] = set()
        self._characters = 0

    def add(self, texts: Sequence[str]) -> None:
        """Remember texts."""
        self._now.update(texts)
        self._characters += sum(map(len, texts))
        if self._characters > _MOST_CHARACTERS:
            self._now, self._before, self._characters = set(), self._now, 0

    def others(self, texts: Sequence[str]) -> list[int]:
        """Give the places of the texts that are not remembered."""
        now, before = self._now, self._before
        return [i for i, text in enumerate(texts) if text not in now and text not in before]
