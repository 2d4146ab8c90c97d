"""How a decision becomes a row: what is no JSON, and what is encrypted."""

from __future__ import annotations

from typing import Any

import pytest

from cascade.traffic.decision_columns import DECISION_COLUMNS
from cascade.traffic.rows import Rows
from tests.traffic_records import decision, row_of

SAID = "anna b"


class Reversing:
    """A cipher that says of each value where it lies."""

    current = "k"

    def seal(self, text: str, place: str) -> str:
        return f"sealed {place} {text[::-1]}"

    def open(self, sealed: str, place: str) -> str:
        assert sealed.startswith(f"sealed {place} ")
        return sealed.removeprefix(f"sealed {place} ")[::-1]


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("part", ["context", "attempts", "output"])
def test_what_is_no_number_is_no_json(part: str, wrong: float) -> None:
    given: Any = [{"x": wrong}] if part == "attempts" else {"x": wrong}
    with pytest.raises(ValueError, match="JSON"):
        row_of(Rows(), decision("d1", **{part: given}))


@pytest.mark.parametrize("text", ["NaN", "an -Infinity of them", "\ud800", "a\x00b", "😀 é \u2028", '"\\'])
def test_any_text_of_a_context_or_a_reason_is_read_as_it_was(text: str) -> None:
    record = decision("d1", context={"k": text, text: "v"}, attempts=[{"rung": "r", "reason": text}])
    found = Rows().decision_of(row_of(Rows(), record))
    assert (found.context, found.attempts) == (record.context, record.attempts)


def test_all_that_was_said_is_encrypted() -> None:
    rows = Rows(Reversing())
    for said in ({"text": SAID}, {"text": None, "messages": (("user", SAID),)}):
        record = decision(
            "d1", context={"k": SAID}, output={"a": SAID}, attempts=[{"rung": "r", "reason": SAID}],
            error=SAID, **said,
        )  # fmt: skip
        row = row_of(rows, record)
        readable = [
            name for name, value in zip(DECISION_COLUMNS.split(", "), row, strict=False) if SAID in str(value)
        ]
        assert readable == []
        assert rows.decision_of(row) == record
