import json

import pytest

from cascade.errors import InvalidInput, TrafficFileError
from training.outcome_table import load_outcomes, read_outcomes


def line(id_: str = "a", **changes: object) -> dict[str, object]:
    row: dict[str, object] = {
        "id": id_,
        "prompt": "What is 2 + 2?",
        "rungs": {"big": {"right": 1, "cost": 0.01}, "small": {"right": 0.25, "cost": 0.001}},
    }
    return row | changes


def encode(*rows: object) -> list[bytes]:
    return [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]


def test_rungs_come_cheapest_first_and_scores_may_lie_between() -> None:
    table, bad = read_outcomes(encode(line("a"), b"", line("b", prompt=[{"role": "user", "content": "hi"}])))
    assert not bad
    assert table is not None
    assert table.rungs == ("small", "big")
    assert table.right.tolist() == [[0.25, 1.0], [0.25, 1.0]]
    assert table.prompts == ("What is 2 + 2?", "user: hi")


def test_right_may_be_a_boolean() -> None:
    table, bad = read_outcomes(
        encode(line(rungs={"a": {"right": True, "cost": 0}, "b": {"right": False, "cost": 1.0}}))
    )
    assert not bad
    assert table is not None
    assert table.right.tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (b"{not json", "Invalid JSON"),
        (b'{"id": "\xff"}', "JSON"),
        (line(id=7), "id"),
        (line(extra=1), "extra"),
        (line(rungs={}), "rungs"),
        (
            line(rungs={"big": {"right": 2, "cost": 0.1}, "small": {"right": 0, "cost": 0.1}}),
            "rungs.big.right",
        ),
        (line(rungs={"big": {"right": 1, "cost": -1}, "small": {"right": 0, "cost": 0.1}}), "rungs.big.cost"),
        (line(rungs={"big": {"right": 1}, "small": {"right": 0, "cost": 0.1}}), "rungs.big.cost"),
        (line(rungs={"big": {"right": 1, "cost": 1}}), "misses small"),
        (line("first"), "is that of line 1"),
        (
            b'{"id":"n","prompt":"p","rungs":{"big":{"right":NaN,"cost":1}}}',
            "rungs.big.right: Input should be a finite number",
        ),
    ],
)
def test_a_bad_line_is_named_with_its_number_and_reason(broken: object, reason: str) -> None:
    table, bad = read_outcomes(encode(line("first"), broken, line("last")))
    assert [b.line for b in bad] == [2]
    assert reason in bad[0].reason
    assert table is not None
    assert table.ids == ("first", "last")


def test_a_file_with_bad_lines_is_refused_unless_they_are_skipped(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "outcomes.jsonl"
    path.write_bytes(b"\n".join(encode(line("a"), b"[]", line("b"))))
    with pytest.raises(TrafficFileError, match="nothing was simulated") as caught:
        load_outcomes(path)
    assert list(caught.value.lines) == [2]
    table, bad = load_outcomes(path, skip_bad=True)
    assert len(table) == 2
    assert [b.line for b in bad] == [2]


def test_a_missing_or_empty_file_is_a_clear_error(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidInput, match="cannot be read"):
        load_outcomes(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n\n")
    with pytest.raises(InvalidInput, match="no usable line"):
        load_outcomes(tmp_path / "empty.jsonl")
