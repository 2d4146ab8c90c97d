"""Retraining from the store to a bundle, with the real encoder and a slice of the sample traffic."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cascade.bundle import load_bundle
from cascade.config import Config
from cascade.errors import RetrainRefused
from cascade.manifest import read_manifest
from cascade.pointer import serving_version
from cascade.traffic import TrainingRecord
from tests.conftest import NODE, sample
from training.full_disk import NoSpace
from training.node_rungs import encoders_of
from training.retrain import retrain

Configure = Callable[..., Config]
LINEAR = {"ladder": ["linear", "frontier"], "bar": {"agreement": 0.85, "confidence": 0.9}}
"""A linear rung alone and a low bar: certified within seconds on 900 records."""


def records(n: int) -> list[TrainingRecord]:
    return [
        TrainingRecord(r["id"], r["text"], None, r["label"], "import", r["session"], r["time"])
        for r in sample(f"{NODE}.jsonl")[:n]
    ]


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_certified_bundle_is_written_whole_pointed_to_and_loads(configure: Configure) -> None:
    config = configure(node=LINEAR)
    done: list[str] = []
    result = retrain(NODE, config, records(900), encoders_of(config), progress=done.append)
    assert result.certificate.valid
    assert result.n_records == result.n_train + result.n_held_out
    assert serving_version(config.models_path, NODE) == result.version
    folder = config.models_path / NODE / result.version
    assert (folder / "report.md").is_file()
    assert {p.suffix for p in folder.iterdir()} <= {".json", ".onnx", ".npy", ".md", ".png"}
    manifest = read_manifest(folder)
    assert manifest["certificate"]["bar"] == 0.85
    assert manifest["dataset"]["train"] == result.n_train
    bundle = load_bundle(folder, encoders_of(config), NODE)
    assert bundle.policy.certified
    assert done


def test_the_same_traffic_gives_the_same_bundle_and_another_seed_another(configure: Configure) -> None:
    config = configure(node=LINEAR)
    first = retrain(NODE, config, records(900), encoders_of(config))
    before = files(config.models_path / NODE / first.version)
    again = retrain(NODE, config, records(900), encoders_of(config))
    assert again.already_there
    assert again.version == first.version
    assert files(config.models_path / NODE / first.version) == before
    other = retrain(NODE, config, records(900), encoders_of(config), seed=1, activate=False)
    assert not other.already_there
    if other.version:
        assert other.version != first.version
    assert serving_version(config.models_path, NODE) == first.version


def test_a_bar_that_cannot_be_proven_is_refused_and_what_serves_stays(
    configure: Configure, models: Path
) -> None:
    config = configure(
        node={"ladder": ["linear", "frontier"], "bar": {"agreement": 0.985, "confidence": 0.95}}
    )
    served = serving_version(config.models_path, NODE)
    assert served is not None
    before = files(config.models_path / NODE / served)
    result = retrain(NODE, config, records(1300), encoders_of(config))
    assert not result.certificate.valid
    assert result.version == ""
    assert "more records" in result.certificate.reason
    report = result.report.read_text()
    assert report.startswith("# ")
    assert "**98.5%** is the bar, not proven" in report
    assert "agreement proven" not in report
    assert "From that follows" not in report
    assert serving_version(config.models_path, NODE) == served
    assert files(config.models_path / NODE / served) == before
    assert not [p for p in (config.models_path / NODE).iterdir() if p.name.startswith(".new")]


def test_too_few_records_are_refused_with_how_many_it_takes(configure: Configure) -> None:
    config = configure()
    with pytest.raises(RetrainRefused, match=rf"no traffic .* yet.*`cascade import {NODE} FILE`"):
        retrain(NODE, config, [], encoders_of(config))
    with pytest.raises(RetrainRefused, match=r"120 usable records are too few.*at least 352 \(232 more\)"):
        retrain(NODE, config, records(120), encoders_of(config))
    assert not (config.models_path / NODE).exists() or not list((config.models_path / NODE).iterdir())


def test_traffic_of_one_label_is_refused(configure: Configure) -> None:
    config = configure()
    one = [TrainingRecord(r.id, r.text, None, "same", "import", r.session, r.time) for r in records(1500)]
    with pytest.raises(RetrainRefused, match="1,500 usable records have the same answer, 'same'"):
        retrain(NODE, config, one, encoders_of(config))


def test_a_run_that_fails_midway_leaves_nothing_behind(
    configure: Configure, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure(node=LINEAR)
    served = serving_version(config.models_path, NODE)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("training.write_bundle.publish", full)
    with pytest.raises(NoSpace, match=rf"^no space in \S+/{NODE}; nothing was changed$"):
        retrain(NODE, config, records(900), encoders_of(config))
    assert serving_version(config.models_path, NODE) == served
    assert sorted(p.name for p in (config.models_path / NODE).iterdir()) == sorted([str(served), "serving"])


def test_the_manifest_says_what_it_was_made_of(shipped: Path) -> None:
    manifest = json.loads((shipped / "manifest.json").read_text())
    named = set(manifest["files"])
    assert named == {p.name for p in shipped.iterdir()} - {"manifest.json"}
    for key in ("schema", "contract", "features", "dataset", "settings", "certificate", "metrics"):
        assert key in manifest, key
