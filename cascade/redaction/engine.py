"""Engines find personal data and secrets in a text; the built-in one does so by patterns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from cascade.redaction import patterns, postal
from cascade.redaction.screening import Detector, screen, screen_many


@dataclass(frozen=True, slots=True)
class Span:
    """One value that was found: `text[start:end]` is a `kind`; `value` is it without its punctuation."""

    start: int
    end: int
    kind: str
    value: str


class Engine(Protocol):
    """Finds values."""

    name: str
    """With what decides its results, such as a version; part of the fingerprint."""

    def find(self, text: str) -> Iterable[Span]:
        """Give what it finds, overlaps included, the more certain first."""


class PatternEngine:
    """The built-in detectors.

    Parameters
    ----------
    kinds : sequence of str
        Names in `cascade.redaction.patterns.DETECTORS`.
    """

    def __init__(self, kinds: Sequence[str] = patterns.DEFAULT_KINDS) -> None:
        self.kinds = frozenset(kinds)
        # In the table's order, which is the order of precedence.
        self._detectors = [detector for detector in patterns.DETECTORS if detector.kind in kinds]
        self.name = f"patterns-{patterns.VERSION}:{','.join(k for k in patterns.KINDS if k in kinds)}"
        if "ADDRESS" in kinds:
            self.name += f"-{postal.VERSION}"

    def find(self, text: str) -> Iterator[Span]:
        """See `Engine.find`."""
        return self._found_by(screen(text, self._detectors), text)

    def holding(self, texts: Sequence[str]) -> set[int]:
        """Give the places of those texts in which it finds something."""
        screened = screen_many(texts, self._detectors)
        return {i for i, some in screened.items() if next(self._found_by(some, texts[i]), None) is not None}

    def _found_by(self, detectors: Iterable[Detector], text: str) -> Iterator[Span]:
        for detector in detectors:
            for start, end, value in detector.find(text):
                yield Span(start, end, detector.kind, value)
