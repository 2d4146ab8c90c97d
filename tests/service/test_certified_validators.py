"""A node's own validators: certified with them, served with them, fenced off without them."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cascade.ask import Ask
from cascade.bundle import load_bundle
from cascade.config import Config
from cascade.contract import Contract
from cascade.server.engine import Engine
from cascade.server.latency import LatencyRecord
from cascade.server.local import walk_local
from cascade.standing import standing
from cascade.traffic import TrafficStore, TrainingRecord, open_store
from cascade.validators import identity
from tests.conftest import NODE, sample
from training.compare import Comparison
from training.curate import CuratedRecord
from training.held_out import read_held_out, text_hashes
from training.loop import _compared
from training.node_rungs import encoders_of
from training.retrain import retrain

Configure = Callable[..., Config]
PICKY, LATER = (f"{__name__}:{name}" for name in ("picky", "later"))
TRAINED = {
    "ladder": ["linear", "frontier"], "bar": {"agreement": 0.85, "confidence": 0.9}, "validators": [PICKY],
}  # fmt: skip


def picky(ask: Ask, value: Any) -> str | None:
    """Refuses short questions, and one label."""
    return "no" if len(ask.text) < 45 or value == "refund_status" else None


def later(ask: Ask, value: Any) -> bool:
    """Refuses all but long questions."""
    return len(ask.text) > 60


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TrafficStore]:
    opened = open_store(f"sqlite:///{tmp_path}/traffic.db")
    yield opened
    opened.close()


def test_what_is_certified_is_what_is_served_with_the_validators_on(
    configure: Configure, store: TrafficStore
) -> None:
    config = configure(node=TRAINED)
    records = [
        TrainingRecord(r["id"], r["text"], None, r["label"], "import", r["session"], r["time"])
        for r in sample(f"{NODE}.jsonl")[:1200]
    ]
    result = retrain(NODE, config, records, encoders_of(config))
    certificate = result.certificate
    assert certificate.valid, certificate.reason
    folder = config.models_path / NODE / result.version
    bundle = load_bundle(folder, encoders_of(config), NODE)
    held_out = read_held_out(folder, bundle.manifest)
    assert held_out is not None
    assert held_out.scored.refused is not None
    by_hash = {int(h): r for h, r in zip(text_hashes(r.text for r in records), records, strict=True)}
    mine = [by_hash[int(h)] for h in held_out.texts]
    latency = {rung.name: LatencyRecord() for rung in bundle.policy.rungs}
    walks = walk_local(
        [Ask(NODE, r.text) for r in mine], bundle, Contract(open_labels=True), (picky,), latency
    )
    settled = [bool(walk.rung) for walk in walks]
    wrong = [bool(w.rung) and w.output != r.output for w, r in zip(walks, mine, strict=True)]
    assert result.counted is not None
    once = result.counted.tolist()  # one of each group of near copies
    counted = sum(settled[i] for i in once), sum(wrong[i] for i in once)
    assert counted == (certificate.n_settled, certificate.n_wrong)
    refused = [w for w in walks if w.attempts[-1].reason.startswith("validator: picky")]
    assert len(refused) > 20
    assert not np.array(settled)[[len(r.text) < 45 for r in mine]].any()
    assert bundle.manifest["validators"] == [identity(picky)]

    fenced = standing(configure(node=TRAINED | {"validators": []}), NODE, folder, bundle.manifest, store)
    assert len(fenced.fences) == 1
    assert "counts on the validator" in fenced.fences[0]
    assert not standing(config, NODE, folder, bundle.manifest, store).fences
    more = configure(node=TRAINED | {"validators": [PICKY, LATER]})
    assert not standing(more, NODE, folder, bundle.manifest, store).fences


def test_what_a_later_validator_refuses_goes_straight_to_the_teacher_so_wrong_answers_only_become_fewer(
    configure: Configure, models: Path, unseen: list[dict[str, Any]], store: TrafficStore
) -> None:
    engine = Engine(configure(), store, refresh_seconds=0)
    try:
        node = engine.nodes[NODE]
        asks = [Ask(NODE, record["text"]) for record in unseen[:120]]
        before = engine.decide_many(asks)
        node.validators = (later,)
        after = engine.decide_many(asks)
    finally:
        engine.close()
    refused = 0
    for ask, was, now in zip(asks, before, after, strict=True):
        assert not isinstance(was, Exception)
        assert not isinstance(now, Exception)
        if now.rung != "frontier":
            assert (now.rung, now.output) == (was.rung, was.output)
        reasons = [attempt.reason for attempt in now.attempts]
        if any(reason.startswith("validator: not certified: later") for reason in reasons):
            refused += 1
            assert len(ask.text) <= 60
            assert reasons[-2].startswith("validator: not certified: later")  # the teacher is next
            assert now.rung == "frontier"
    assert refused > 10


def test_a_certified_validator_that_is_gone_or_changed_fences_the_bundle_off(
    configure: Configure, models: Path, unseen: list[dict[str, Any]], store: TrafficStore
) -> None:
    from cascade.manifest import MANIFEST, content_hash
    from cascade.pointer import POINTER

    (folder,) = [p for p in (models / NODE).iterdir() if p.is_dir()]
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["validators"] = [identity(picky)]
    manifest["version"] = f"{folder.name.split('-')[0]}-{content_hash(manifest)[:8]}"
    (folder / MANIFEST).write_text(json.dumps(manifest))
    folder.rename(folder.with_name(manifest["version"]))
    (models / NODE / POINTER).write_text(manifest["version"] + "\n")
    for paths, settles in (([PICKY], True), ([LATER], False), ([], False)):
        engine = Engine(configure(node={"validators": paths}), store, refresh_seconds=0)
        try:
            decided = [engine.decide(Ask(NODE, record["text"])) for record in unseen[:30]]
        finally:
            engine.close()
        assert any(d.rung != "frontier" for d in decided) is settles
        if not settles:
            assert "the certificate counts on the validator" in decided[0].attempts[0].reason
            assert decided[0].attempts[0].reason.startswith("uncertified: ")


def test_the_loop_compares_bundles_with_the_validators_that_are_served(
    configure: Configure, models: Path
) -> None:
    records = [
        CuratedRecord(r["id"], r["text"], None, r["label"], "import", r["session"], r["time"], 1)
        for r in sample(f"{NODE}.jsonl")[:600]
    ]
    serving = next(p.name for p in (models / NODE).iterdir() if p.is_dir())

    def compared(paths: list[str], certified: list[str]) -> Comparison:
        config = configure(node={"validators": paths})
        encoders = encoders_of(config)
        candidate = load_bundle(models / NODE / serving, encoders, NODE)
        candidate.manifest["validators"] = certified
        found = _compared(config, NODE, records, candidate, serving, encoders, None, 0, True)
        assert found is not None
        return found

    bare = compared([], [])
    assert bare.settled == bare.settled_before > 0.5
    asked = compared([PICKY], [identity(picky)])
    assert asked.settled_before <= asked.settled < bare.settled - 0.1
    gone = compared([], [identity(picky)])
    assert gone.settled == 0, "it would be fenced off"
    assert gone.settled_before == bare.settled
