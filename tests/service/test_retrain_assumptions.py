"""What a certificate takes for granted is checked by retraining itself, end to end on small traffic."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cascade.config import Config
from cascade.fences import teacher_of
from cascade.manifest import MANIFEST
from cascade.traffic import TrainingRecord
from tests.conftest import NODE
from training.learning_curve import forecast
from training.node_rungs import encoders_of
from training.retrain import RetrainResult, retrain

LABELS = ("order", "refund", "parcel", "login")
WORDS = {label: [f"{label}{i}" for i in range(25)] for label in LABELS}


def traffic(n: int, changed: bool = False, bad_tenant: float = 0.0, seed: int = 0) -> list[TrainingRecord]:
    """One text a second. What is newest may come from elsewhere; a tenant's teacher may answer at random."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        label = LABELS[rng.integers(len(LABELS))]
        tenant = "abc"[rng.integers(3)]
        words = [*rng.choice(WORDS[label], 4), *rng.choice([f"filler{k}" for k in range(40)], 3)]
        if changed and i > 0.7 * n:
            words = [f"strange{rng.integers(3000)}" for _ in range(9)]
        told = LABELS[rng.integers(len(LABELS))] if tenant == "c" and rng.random() < bad_tenant else label
        rows.append(
            TrainingRecord(
                f"{i:05d}", " ".join(words), None, told, "import", None, 1000.0 + i, {"tenant": tenant}
            )
        )
    return rows


@pytest.fixture
def train(configure: Callable[..., Config]) -> Callable[..., tuple[RetrainResult, Config]]:
    def run(records: list[TrainingRecord], **node: Any) -> tuple[RetrainResult, Config]:
        asked = {"ladder": ["linear", "frontier"], "bar": {"agreement": 0.9, "confidence": 0.9}}
        config = configure(node=asked | node)
        return retrain(NODE, config, records, encoders_of(config)), config

    return run


def manifest_of(result: RetrainResult, config: Config) -> dict[str, Any]:
    path: Path = config.models_path / NODE / result.version / MANIFEST
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_a_certified_bundle_names_its_teacher_its_slices_and_its_disagreement_end_to_end(
    train: Callable[..., tuple[RetrainResult, Config]],
) -> None:
    result, config = train(traffic(700), slices=["tenant"])
    assert result.certificate.valid, result.certificate.reason
    certificate = manifest_of(result, config)["certificate"]
    assert certificate == json.loads(json.dumps(result.statement))
    assert certificate["teacher"] == teacher_of(config, NODE).to_json()
    assert not certificate["exchangeability"]["failed"]
    assert {(row["dimension"], row["value"]) for row in certificate["slices"]["table"]} == {
        *(("label", label) for label in LABELS),
        *(("tenant", tenant) for tenant in "abc"),
    }
    whole = certificate["end_to_end"]
    assert whole["n"] == certificate["n_held_out"]
    assert whole["n_disagreed"] == certificate["n_wrong"]
    assert whole["low"] <= whole["disagreement"] <= whole["high"]
    folder = config.models_path / NODE / result.version
    assert np.load(folder / "scores.npy").shape == (whole["n"],)


def test_held_out_records_unlike_the_training_ones_void_the_certificate(
    train: Callable[..., tuple[RetrainResult, Config]],
) -> None:
    result, config = train(traffic(700, changed=True))
    assert result.version == ""
    assert result.certificate.reason.startswith(
        "the certificate is void: held-out records are not like training records"
    )
    assert result.statement["exchangeability"]["failed"]
    assert set(result.thresholds) == {2.0}
    assert not (config.models_path / NODE / "serving").exists()


def test_a_tenant_whose_answers_cannot_be_learned_is_not_settled_and_the_others_are(
    train: Callable[..., tuple[RetrainResult, Config]],
) -> None:
    result, _ = train(traffic(1200, bad_tenant=0.9), slices={"context": ["tenant"]})
    assert result.certificate.valid, result.certificate.reason
    lines = {row["value"]: row for row in result.statement["slices"]["table"] if row["dimension"] == "tenant"}
    assert lines["c"]["state"] == "fenced"
    assert "break" in lines["c"]["reason"]
    assert {lines["a"]["state"], lines["b"]["state"]} <= {"proven", "covered"}
    assert result.certificate.n_settled > 0.4 * result.n_held_out


def test_answers_of_another_teacher_are_not_learned_from(configure: Callable[..., Config]) -> None:
    config = configure(node={"ladder": ["linear", "frontier"]})
    rows = [
        TrainingRecord(r.id, r.text, None, r.output, "teacher", None, r.time, {}, "old-model/000000000000")
        for r in traffic(700)
    ]
    with pytest.raises(Exception, match=r"0 usable records.*700 answers of another teacher are left out"):
        retrain(NODE, config, rows, encoders_of(config))


def test_the_forecast_takes_it_that_as_many_of_more_records_are_near_copies(
    train: Callable[..., tuple[RetrainResult, Config]], monkeypatch: pytest.MonkeyPatch
) -> None:
    records = traffic(700)
    for i in range(1, 700, 2):  # with long words in common, so that the copy is near
        records[i] = replace(records[i - 1], id=records[i].id, text=records[i - 1].text + " x")
    proven: list[Callable[[int], int]] = []

    def noted(*given: Any) -> Any:
        proven.append(given[3])
        return forecast(*given)

    monkeypatch.setattr("training.retrain.forecast", noted)
    result, config = train(records)
    dataset = manifest_of(result, config)["dataset"]
    assert dataset["held_out_groups"] <= 0.6 * dataset["held_out"], "half of them are copies"
    (counted,) = proven
    n = dataset["train"] + dataset["held_out"]
    assert counted(n) == dataset["held_out_groups"]
    assert counted(4 * n) == pytest.approx(4 * counted(n), rel=0.1)
