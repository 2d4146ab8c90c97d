"""A bundle that costs more than it saves leaves everything to the teacher, from retraining to the answer."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cascade.ask import Ask
from cascade.config import Config
from cascade.manifest import read_manifest
from cascade.pointer import serving_version
from cascade.server.engine import Engine
from cascade.traffic import TrainingRecord, open_store
from tests.conftest import NODE, sample
from training.journal import read_journal
from training.node_rungs import encoders_of
from training.retrain import RetrainResult, retrain


def records(n: int) -> list[TrainingRecord]:
    return [
        TrainingRecord(row["id"], row["text"], None, row["label"], "import", None, None)
        for row in sample(f"{NODE}.jsonl")[:n]
    ]


def small(configure: Callable[..., Config], **costs: Any) -> Config:
    node = {"bar": {"agreement": 0.8, "confidence": 0.9}, "ladder": ["linear", "frontier"]}
    return configure(node=node, costs=costs)


def train(config: Config, rows: Sequence[TrainingRecord]) -> RetrainResult:
    return retrain(NODE, config, rows, encoders_of(config))


def test_a_ladder_that_costs_more_than_it_saves_asks_the_teacher_and_says_so(
    configure: Callable[..., Config], unseen: list[dict[str, Any]], tmp_path: Path
) -> None:
    config = small(configure, cpu_hour=100_000.0)
    done = train(config, records(700))
    assert done.certificate.valid
    assert done.economy is not None
    assert done.economy.cost.net < 0
    assert "spares" in done.economy.too_dear
    version = serving_version(config.models_path, NODE)
    assert version == done.version
    assert read_manifest(config.models_path / NODE / version)["economy"]["too_dear"] == done.economy.too_dear
    store = open_store(f"sqlite:///{tmp_path / 'traffic.db'}")
    engine = Engine(config, store, refresh_seconds=0)
    try:
        decided = engine.decide(Ask(NODE, unseen[0]["text"]))
    finally:
        engine.close()
        store.close()
    assert decided.rung == "frontier"
    assert decided.attempts[0].reason == f"uneconomic: {done.economy.too_dear}"


def test_the_same_traffic_gives_the_same_version_whatever_the_clock_said(
    configure: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(configure)
    first = train(config, records(700))
    monkeypatch.setattr("training.retrain.measure_ms", lambda ladder, _: np.full(len(ladder.rungs), 9.0))
    second = train(config, records(700))
    assert first.economy is not None
    assert first.economy.too_dear == ""
    assert second.already_there
    assert second.version == first.version
    found = read_journal(config, NODE)
    assert [entry.version for entry in found] == [first.version] * 2
    assert all(entry.usd > 0 and entry.seconds > 0 for entry in found)


def test_a_refused_retraining_is_in_the_journal_too(configure: Callable[..., Config]) -> None:
    config = configure(
        node={"bar": {"agreement": 0.985, "confidence": 0.8}, "ladder": ["linear", "frontier"]},
    )
    done = train(config, records(700))
    assert not done.version
    assert [entry.version for entry in read_journal(config, NODE)] == [""]


def test_half_a_line_of_the_journal_is_left_out(configure: Callable[..., Config]) -> None:
    config = small(configure)
    folder = config.models_path / NODE
    folder.mkdir(parents=True)
    good = json.dumps({"time": 1.0, "version": "v", "records": 1, "seconds": 2.0, "usd": 0.1})
    (folder / "retrains.jsonl").write_text(f'{good}\n{{"time": 2.0, "ver')
    assert [entry.version for entry in read_journal(config, NODE)] == ["v"]
