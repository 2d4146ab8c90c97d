"""What a report is made of, whatever it is rendered to: sections of texts, tables, figures and quotes.

Everything here is plain text, and much of it comes from traffic: a renderer escapes all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from matplotlib.figure import Figure

Tone = Literal["plain", "good", "bad", "note"]


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str
    tone: Tone = "plain"


@dataclass(frozen=True)
class Facts:
    """A few large numbers: (number, what it is)."""

    facts: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Rows:
    """A table; the first column is text, the others are figures unless `text_columns` says otherwise."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    text_columns: frozenset[int] = frozenset({0})


@dataclass(frozen=True)
class Plot:
    """A figure: a file name without suffix, what it shows in words, and how it is drawn."""

    name: str
    alt: str
    draw: Callable[[Figure], None] = field(repr=False)
    width: float = 6.0
    height: float = 3.8


@dataclass(frozen=True)
class Quote:
    """A piece of traffic, with what is to be said about it."""

    text: str
    about: str


Block = Text | Facts | Rows | Plot | Quote


@dataclass(frozen=True)
class Section:
    """A part of a report."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Document:
    """A report: a title, the answer, and sections."""

    title: str
    lead: Sequence[Block]
    sections: Sequence[Section]
