"""A report as Markdown, and on the terminal."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text as RichText

from training.document import Block, Document, Facts, Plot, Quote, Rows, Text

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_MARKS = re.compile(r"([\\`*_\[\]<>#|~!])")
STYLES = {"plain": "", "good": "green", "bad": "yellow", "note": "dim"}

PlotFile = Callable[[Plot], str | None]
"""Saves a plot and gives the path to link; None where plots are left out."""


def to_markdown(document: Document, plot_file: PlotFile = lambda _: None) -> str:
    """Render a report as Markdown. What comes from traffic is escaped, so it stays text in any viewer."""
    parts = [f"# {_line(document.title)}", *(_block(block, plot_file) for block in document.lead)]
    for section in document.sections:
        parts.append(f"## {_line(section.title)}")
        parts += [_block(block, plot_file) for block in section.blocks]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Give a Markdown table."""
    lines = [[_line(cell) for cell in line] for line in (header, *rows)]
    lines.insert(1, ["---"] * len(header))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def clean(text: str) -> str:
    """Take out what could move a terminal's cursor or turn the direction of a line."""
    return _CONTROL.sub("\ufffd", text)


def _line(text: str) -> str:
    return _MARKS.sub(r"\\\1", " ".join(clean(text).split()))


def _block(block: Block, plot_file: PlotFile) -> str:
    if isinstance(block, Text):
        return f"**{_line(block.text)}**" if block.tone in {"good", "bad"} else _line(block.text)
    if isinstance(block, Facts):
        return "\n".join(f"- **{_line(number)}** {_line(what)}" for number, what in block.facts)
    if isinstance(block, Rows):
        return table(block.header, block.rows)
    if isinstance(block, Quote):
        return f"> {_line(block.text)}\n>\n> {_line(block.about)}"
    path = plot_file(block)
    return f"![{_line(block.alt)}]({path})" if path else ""


def print_document(console: Console, document: Document) -> None:
    """Print a report on the terminal, without plots."""
    console.print(RichText(clean(document.title), style="bold"))
    for block in document.lead:
        _print(console, block)
    for section in document.sections:
        console.print()
        console.print(RichText(clean(section.title), style="bold underline"))
        for block in section.blocks:
            _print(console, block)


def _print(console: Console, block: Block) -> None:
    if isinstance(block, Text):
        console.print(RichText(clean(block.text), style=STYLES[block.tone]))
    elif isinstance(block, Facts):
        for number, what in block.facts:
            console.print(RichText.assemble("  ", (clean(number), "bold"), " ", clean(what)))
    elif isinstance(block, Quote):
        console.print(
            RichText(f"  “{clean(block.text)}”"), RichText(f"    {clean(block.about)}", style="dim"), sep="\n"
        )
    elif isinstance(block, Rows):
        shown = Table()
        for i, name in enumerate(block.header):
            shown.add_column(
                RichText(clean(name)), justify="left" if i in block.text_columns else "right", overflow="fold"
            )
        for row in block.rows:
            shown.add_row(*(RichText(clean(cell)) for cell in row))
        console.print(shown)
