"""Prints a benchmark's rows as a table, and writes the same figures as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


def show(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows; their keys are the columns."""
    table = Table(title=title, title_justify="left")
    columns = list(rows[0]) if rows else []
    for column in columns:
        table.add_column(column, justify="left" if column == columns[0] else "right", overflow="fold")
    for row in rows:
        table.add_row(*[_text(row.get(column)) for column in columns])
    Console(width=150).print(table)


def save(path: Path | None, figures: Mapping[str, Any]) -> None:
    """Write figures as JSON where a path is given."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n")


def _text(value: Any) -> str:
    if value is None or value != value:
        return "-"
    if isinstance(value, tuple | list):
        return " to ".join(_text(part) for part in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
