"""`cascade simulate --outcomes`, as a person runs it, on a synthetic table and on one made from BANKING77."""

import gzip
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from cascade.cli import app
from cascade.features import Featurizer
from tests.conftest import ROOT
from training.linear import fit_softmax, to_matrix


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["simulate", *arguments])


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return path


def synthetic(n: int = 300) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    rows = []
    for i in range(n):
        hard = rng.random() < 0.5
        prompt = f"{'prove theorem' if hard else 'say hello to'} {rng.integers(1e6)}"
        small, big = rng.random() < (0.1 if hard else 0.95), rng.random() < 0.95
        rungs = {"small": {"right": int(small), "cost": 0.001}, "big": {"right": int(big), "cost": 0.02}}
        rows.append({"id": str(i), "prompt": prompt, "rungs": rungs})
    return rows


@pytest.fixture(scope="module")
def banking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outcomes of two linear models, one trained on a quarter of the records, and of the label itself."""
    folder = os.environ.get("CASCADE_DATA")
    if folder is None or not (Path(folder) / "banking77").is_dir():
        if os.environ.get("CASCADE_REQUIRE_DATA"):
            pytest.fail("CASCADE_DATA does not hold banking77")
        pytest.skip("set CASCADE_DATA to the folder of BANKING77")
    train, asked = (
        [
            json.loads(line)
            for line in gzip.decompress((Path(folder) / "banking77" / part).read_bytes()).splitlines()
        ]
        for part in ("train.jsonl.gz", "test.jsonl.gz")
    )
    train, asked = train[::4], asked[::2]
    labels = {label: i for i, label in enumerate(sorted({row["label"] for row in train}))}
    y = np.array([labels[row["label"]] for row in train])
    featurizer = Featurizer.fit([row["text"] for row in train], max_columns=8192)
    matrix = to_matrix(featurizer([row["text"] for row in train]), featurizer.n_columns)
    target = np.array([labels.get(row["label"], -1) for row in asked])
    questions = to_matrix(featurizer([row["text"] for row in asked]), featurizer.n_columns)
    right = [
        fit_softmax(matrix[::step], y[::step], len(labels), 10.0).logits(questions).argmax(axis=1) == target
        for step in (4, 1)
    ]
    rows = [
        {
            "id": row["id"],
            "prompt": row["text"],
            "rungs": {
                "tiny": {"right": int(right[0][i]), "cost": 1e-6},
                "small": {"right": int(right[1][i]), "cost": 1e-5},
                "big": {"right": 1, "cost": 1e-4},
            },
        }
        for i, row in enumerate(asked)
    ]
    return write(tmp_path_factory.mktemp("outcomes") / "banking.jsonl", rows)


def test_banking77_is_learnable_and_the_oracle_bounds_the_router(banking: Path, tmp_path: Path) -> None:
    plot = tmp_path / "curve.png"
    done = run("--outcomes", str(banking), "--encoder", "none", "--plot", str(plot), "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    areas = {name: entry["value"] for name, entry in found["areas"].items()}
    assert areas["random mix"] < areas["router"] < areas["oracle"]
    assert found["learnable"]
    assert found["areas"]["gain"]["interval"][0] > 0
    assert plot.stat().st_size > 10_000
    kept = next(plan for plan in found["plans"] if plan["target"] == 0.95)
    assert 0 < kept["saving"] < 1
    assert kept["point"]["quality"] >= 0.95


def test_the_table_names_each_rung_the_best_fixed_the_mix_and_the_oracle(tmp_path: Path) -> None:
    done = run("--outcomes", str(write(tmp_path / "o.jsonl", synthetic())), "--encoder", "none")
    assert done.exit_code == 0, done.output
    for word in ("always small", "always big (best fixed)", "random mix", "oracle", "can be learned"):
        assert word in " ".join(done.output.split())


def test_the_encoders_nearest_prompts_can_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    done = run("--outcomes", str(write(tmp_path / "o.jsonl", synthetic(150))), "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["n"] == 150


def test_bad_lines_are_named_and_nothing_is_simulated(tmp_path: Path) -> None:
    rows = synthetic(120)
    rows[4]["rungs"].pop("big")
    rows[7]["rungs"]["big"]["cost"] = "free"
    path = write(tmp_path / "o.jsonl", rows)
    done = run("--outcomes", str(path), "--encoder", "none")
    assert done.exit_code == 1
    assert "2 bad lines, nothing was simulated" in done.output
    assert "line 5: " in done.output
    assert "misses big" in done.output
    assert "line 8: rungs.big.cost" in done.output
    skipped = json.loads(run("--outcomes", str(path), "--encoder", "none", "--skip-bad", "--json").stdout)
    assert [line["line"] for line in skipped["skipped"]] == [5, 8]
    assert skipped["n"] == 118
