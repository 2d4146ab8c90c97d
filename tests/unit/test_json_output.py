"""What commands print with `--json` is JSON, whatever was not measured."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cascade.cli import report
from cascade.cli.console import emit, json_text
from cascade.config import Config

FIGURES: dict[str, Any] = {
    "teacher_ms": math.nan,
    "rungs": [{"ms": np.float64("inf"), "usd": 0.5}, (-math.inf, 1)],
    "settled": True,
    "node": "naïve",
}
AS_JSON = {
    "teacher_ms": None, "rungs": [{"ms": None, "usd": 0.5}, [None, 1]], "settled": True, "node": "naïve",
}  # fmt: skip


def strictly(text: str) -> Any:
    """Read JSON as others do: Python's reader alone takes NaN."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_numbers_that_json_does_not_have_are_null(capsys: pytest.CaptureFixture[str]) -> None:
    emit(FIGURES)
    assert strictly(capsys.readouterr().out) == AS_JSON
    assert strictly(json_text(FIGURES, indent=1)) == AS_JSON


def test_the_json_file_of_a_report_has_null_for_what_was_not_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = SimpleNamespace(to_json=lambda: FIGURES)
    monkeypatch.setattr("training.offline.open_node", lambda *_: None)
    monkeypatch.setattr("cascade.traffic.open_traffic", lambda *_: SimpleNamespace(close=lambda: None))
    monkeypatch.setattr("training.node_report.gather", lambda *_: found)
    output = tmp_path / "report.json"
    report._write(Config.model_construct(), "n", "1", report.Format.JSON, output)
    assert strictly(output.read_text()) == AS_JSON
