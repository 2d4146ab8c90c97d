"""A small language model between the trained rungs and the teacher, learned, certified and served."""

import hashlib
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from cascade.ask import Ask
from cascade.config import Config
from cascade.demo.frontier import SimulatedFrontier
from cascade.errors import DeadlineExceeded, RetrainRefused
from cascade.manifest import read_manifest
from cascade.pointer import serving_version
from cascade.rungs import breaker
from cascade.server.engine import Engine
from cascade.traffic import TrainingRecord, open_store
from tests.conftest import NODE, sample
from training.node_rungs import encoders_of
from training.retrain import retrain

HISTORY = sample(f"{NODE}.jsonl")[:900]
PROMPT = "Name the intent: {{ text }}"
UNSEEN = sample(f"{NODE}.unseen.jsonl")[:80]
LABELS = sorted({r["label"] for r in HISTORY})


def small_answer(record: dict[str, Any]) -> str:
    """What the small model says: wrong for one text in ten, and always about one of the labels."""
    digest = hashlib.sha256(record["text"].encode()).digest()
    if record["label"] == "refund_status" or digest[0] < 26:
        return LABELS[(LABELS.index(record["label"]) + 1 + digest[1] % 5) % len(LABELS)]
    return str(record["label"])


@pytest.fixture(scope="module")
def small() -> Iterator[SimulatedFrontier]:
    with SimulatedFrontier({r["text"]: small_answer(r) for r in [*HISTORY, *UNSEEN]}) as server:
        yield server


@pytest.fixture(autouse=True)
def new_breakers() -> None:
    """One test's outage is not the next one's."""
    breaker._shared.clear()


def config_of(
    folder: Path, small: SimulatedFrontier, teacher: SimulatedFrontier, prompt: str = PROMPT
) -> Config:
    chat = {
        "kind": "chat", "model": "simulated-frontier", "attempts": 1, "timeout_seconds": 5.0,
    }  # fmt: skip
    document = {
        "rungs": {
            "small": chat | {"base_url": small.url, "price": {"input": 0.1, "output": 0.2}},
            "frontier": chat | {"base_url": teacher.url, "price": {"input": 2.5, "output": 10.0}},
        },
        "nodes": {
            NODE: {
                "prompt": prompt,
                "bar": {"agreement": 0.85, "confidence": 0.9},
                "ladder": ["linear", "small", "frontier"],
            }
        },
    }
    return Config.model_validate(document, context={"base": folder})


def records() -> list[TrainingRecord]:
    return [
        TrainingRecord(r["id"], r["text"], None, r["label"], "import", r["session"], r["time"])
        for r in HISTORY
    ]


@pytest.fixture(scope="module")
def learned(
    small: SimulatedFrontier, frontier: SimulatedFrontier, tmp_path_factory: pytest.TempPathFactory
) -> Config:
    config = config_of(tmp_path_factory.mktemp("learned"), small, frontier)
    result = retrain(NODE, config, records(), encoders_of(config))
    assert result.certificate.valid, result.certificate.reason
    return config


def engine_of(config: Config, tmp_path: Path) -> Engine:
    return Engine(config, open_store(f"sqlite:///{tmp_path}/traffic.db"), refresh_seconds=0)


def test_it_settles_what_the_linear_rung_leaves_and_its_cost_is_counted(
    learned: Config, tmp_path: Path
) -> None:
    engine = engine_of(learned, tmp_path)
    try:
        decided = [engine.decide(Ask(NODE, r["text"])) for r in UNSEEN]
    finally:
        engine.close()
    by_small = [(d, r) for d, r in zip(decided, UNSEEN, strict=True) if d.rung == "small"]
    assert len(by_small) >= 10
    assert sum(d.output == r["label"] for d, r in by_small) >= 0.8 * len(by_small)
    assert all(d.usd > 0 and d.input_tokens for d, _ in by_small)
    assert all(d.attempts[-1].confidence_after for d, _ in by_small)
    asked_twice = [d for d in decided if d.rung == "frontier" and any(a.rung == "small" for a in d.attempts)]
    assert all(d.usd > by_small[0][0].usd for d in asked_twice)


def test_nobody_waits_for_the_small_model_on_account_of_others(learned: Config, tmp_path: Path) -> None:
    engine = engine_of(learned, tmp_path)
    assert engine.alone(NODE)
    engine.close()


def test_the_manifest_names_model_and_prompt(learned: Config) -> None:
    version = serving_version(learned.models_path, NODE)
    manifest = read_manifest(learned.models_path / NODE / str(version))
    assert [e["kind"] for e in manifest["rungs"]] == ["linear", "chat"]
    assert manifest["rungs"][1]["model"] == "simulated-frontier"
    assert len(manifest["rungs"][1]["prompt"]) == 64


def test_when_it_is_down_its_requests_go_on_to_the_teacher(
    learned: Config, small: SimulatedFrontier, tmp_path: Path
) -> None:
    engine = engine_of(learned, tmp_path)
    small.faults.refuse_all = True
    try:
        decided = [engine.decide(Ask(NODE, r["text"])) for r in UNSEEN[:30]]
    finally:
        small.faults.refuse_all = False
        engine.close()
    assert {d.rung for d in decided} <= {"linear", "frontier"}
    assert any(a.rung == "small" and a.reason.startswith("error") for d in decided for a in d.attempts)


def test_another_prompt_is_another_rung_and_the_bundle_is_refused(
    learned: Config, small: SimulatedFrontier, frontier: SimulatedFrontier, tmp_path: Path
) -> None:
    engine = engine_of(config_of(learned.base, small, frontier, "What is meant: {{ text }}"), tmp_path)
    try:
        assert engine.nodes[NODE].bundle is None
        assert "another model or prompt" in engine.nodes[NODE].problem
        assert engine.decide(Ask(NODE, UNSEEN[0]["text"])).rung == "frontier"
    finally:
        engine.close()


def test_a_model_that_is_down_while_it_is_judged_is_a_refusal(
    small: SimulatedFrontier, frontier: SimulatedFrontier, tmp_path: Path
) -> None:
    config = config_of(tmp_path, small, frontier)
    small.faults.refuse_all = True
    try:
        with pytest.raises(RetrainRefused, match=r"chat rung 'small' failed for \d+ of"):
            retrain(NODE, config, records(), encoders_of(config))
    finally:
        small.faults.refuse_all = False
    assert serving_version(config.models_path, NODE) is None


def test_what_its_callers_deadline_ends_is_no_failure_of_its_own(
    learned: Config, small: SimulatedFrontier, tmp_path: Path
) -> None:
    engine = engine_of(learned, tmp_path)
    small.faults.timeout_rate = 1.0
    began = time.time()
    try:
        for record in UNSEEN[:30]:
            with suppress(DeadlineExceeded):
                engine.decide(Ask(NODE, record["text"], deadline=time.monotonic() + 0.3))
        version = str(serving_version(learned.models_path, NODE))
    finally:
        small.faults.timeout_rate = 0.0
        engine.close()
    store = open_store(f"sqlite:///{tmp_path}/traffic.db")
    found = store.sampled_decisions(NODE, version, began, time.time() + 1, 100, 1.0)
    store.close()
    reasons = [a["reason"] for decision in found for a in decision.attempts if a["rung"] == "small"]
    assert any(reason.startswith("deadline") for reason in reasons)
    assert not any(reason.startswith("error") for reason in reasons)
