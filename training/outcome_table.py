"""Outcome tables: how models that answered elsewhere did on the same prompts, one JSON object a line.

    {"id": "q1", "prompt": "...", "rungs": {"small-1": {"right": 1, "cost": 0.0001}, "big-1": {...}}}

`right` is 0, 1 or a score between; `cost` is in dollars; `prompt` is a text or a list of
`{"role", "content"}`. Every line names the same rungs: a model that was not asked cannot be compared.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from cascade.errors import InvalidInput, TrafficFileError
from cascade.text import flatten_messages
from cascade.traffic import BadLine

_BOM = b"\xef\xbb\xbf"
_SHOWN = 60  # characters of a wrong value in a reason


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


def _as_score(value: object) -> object:
    return float(value) if isinstance(value, bool) else value


class _Answered(_Row):
    right: Annotated[float, BeforeValidator(_as_score), Field(ge=0, le=1)]
    cost: Annotated[float, Field(ge=0)]


class _Message(_Row):
    role: Annotated[str, Field(min_length=1)]
    content: str


class _Line(_Row):
    id: Annotated[str, Field(min_length=1)]
    prompt: str | Annotated[list[_Message], Field(min_length=1)]
    rungs: Annotated[dict[str, _Answered], Field(min_length=1)]


@dataclass(frozen=True, eq=False)
class OutcomeTable:
    """What each rung did with each of n prompts.

    Attributes
    ----------
    ids, prompts : tuple of n str
        A chat is flattened as local rungs read it.
    rungs : tuple of str
        The cheapest on average first.
    right : float array of shape (n, n_rungs)
        Score of each answer, in [0, 1].
    cost : float array of shape (n, n_rungs)
        Dollars.
    """

    ids: tuple[str, ...]
    prompts: tuple[str, ...]
    rungs: tuple[str, ...]
    right: NDArray[np.float64]
    cost: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.ids)


def read_outcomes(lines: Iterable[bytes]) -> tuple[OutcomeTable | None, list[BadLine]]:
    """Read the lines of an outcome table.

    Parameters
    ----------
    lines : iterable of bytes
        In UTF-8; blank lines are skipped.

    Returns
    -------
    table : OutcomeTable, optional
        The good lines, in order; None where there are none.
    bad : list of BadLine
        The others, in order: number from 1, and why.
    """
    good: list[_Line] = []
    bad: list[BadLine] = []
    first_of: dict[str, int] = {}
    names: frozenset[str] | None = None
    for number, raw in enumerate(lines, start=1):
        line = raw.removeprefix(_BOM) if number == 1 else raw
        if not line.strip():
            continue
        try:
            row = _Line.model_validate_json(line)
        except ValidationError as error:
            bad.append(BadLine(number, _reason(error)))
            continue
        here = frozenset(row.rungs)
        if row.id in first_of:
            bad.append(BadLine(number, f"the id {row.id[:_SHOWN]!r} is that of line {first_of[row.id]}"))
        elif names is not None and here != names:
            bad.append(BadLine(number, _other_rungs(here, names)))
        else:
            names = here
            first_of[row.id] = number
            good.append(row)
    return (_table(good) if good else None), bad


def load_outcomes(path: Path, skip_bad: bool = False) -> tuple[OutcomeTable, list[BadLine]]:
    """Read an outcome table from a file.

    Raises
    ------
    InvalidInput
        The file cannot be read, or holds no usable line.
    TrafficFileError
        It holds bad lines, and `skip_bad` is off.
    """
    try:
        with open(path, "rb") as file:
            table, bad = read_outcomes(file)
    except OSError as error:
        raise InvalidInput("file", f"{path} cannot be read: {error.strerror}") from error
    if bad and not skip_bad:
        raise TrafficFileError(str(path), {line.line: line.reason for line in bad}, "nothing was simulated")
    if table is None:
        raise InvalidInput("file", f"{path} holds no usable line")
    return table, bad


def _table(rows: list[_Line]) -> OutcomeTable:
    names = list(rows[0].rungs)
    right = np.array([[float(row.rungs[name].right) for name in names] for row in rows])
    cost = np.array([[row.rungs[name].cost for name in names] for row in rows])
    order = sorted(range(len(names)), key=lambda r: (cost[:, r].mean(), names[r]))
    prompts = tuple(
        row.prompt
        if isinstance(row.prompt, str)
        else flatten_messages((message.role, message.content) for message in row.prompt)
        for row in rows
    )
    return OutcomeTable(
        tuple(row.id for row in rows),
        prompts,
        tuple(names[r] for r in order),
        right[:, order],
        cost[:, order],
    )


def _other_rungs(here: frozenset[str], names: frozenset[str]) -> str:
    missing, extra = sorted(names - here), sorted(here - names)
    parts = [
        f"{word} {', '.join(which)[:200]}" for word, which in (("misses", missing), ("adds", extra)) if which
    ]
    return f"every line names the same rungs; against the first good line, this one {' and '.join(parts)}"


def _reason(error: ValidationError) -> str:
    parts = []
    for problem in error.errors(include_url=False, include_input=False)[:3]:
        # a union's members are named in the path; the reader knows only the keys
        where = ".".join(
            str(p)
            for p in problem["loc"]
            if not str(p).startswith(("function-", "list[", "constrained", "str"))
        )
        text = problem["msg"][:200]
        part = f"{where[:200]}: {text}" if where else text
        if part not in parts:
            parts.append(part)
    return "; ".join(parts)
