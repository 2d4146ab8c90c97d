"""Traffic records that the tests of stores share."""

from dataclasses import replace
from typing import Any

from cascade.traffic import Decision, Outcome
from cascade.traffic.database import Row
from cascade.traffic.rows import Rows

BASE = Decision(
    decision_id="d0",
    node="n",
    time=1.0,
    request_id=None,
    text="hello",
    messages=None,
    choices=("a", "b"),
    context={"session": "s", "tenant": "t"},
    output={"label": ["a", 1, None]},
    rung="linear",
    by_teacher=False,
    confidence=0.5,
    bundle_version="v1",
    mode="full",
    attempts=[{"rung": "linear", "why": "settled"}],
    usd=0.25,
    input_tokens=3,
    output_tokens=4,
    latency_ms=1.5,
    error=None,
)


def decision(id_: str, **changes: Any) -> Decision:
    return replace(BASE, decision_id=id_, **changes)


def outcome(id_: str, of: str, output: Any = None, right: bool | None = None) -> Outcome:
    return Outcome(id_, of, 5.0, output, right)


def row_of(rows: Rows, record: Decision) -> Row:
    """The values of all columns of a decision, as they are written."""
    (row,) = rows.decisions([record]).rows()
    return row
