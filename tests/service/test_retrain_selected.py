"""Once a ladder serves, what is known of live traffic is selected; a retraining holds a fair sample out."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from cascade.bundle import Bundle, load_bundle
from cascade.config import Config
from cascade.errors import RetrainRefused
from cascade.rollout.audit import coin
from cascade.rollout.database_store import DatabaseRolloutStore
from cascade.rollout.records import Audit, AuditResult
from cascade.traffic import TrafficStore, TrainingRecord, open_store
from cascade.traffic.records import LiveShare
from tests.conftest import NODE
from tests.traffic_records import decision, outcome
from training.compare import outcome as serve
from training.curate import curate
from training.node_rungs import encoders_of
from training.retrain import RetrainResult, retrain

LABELS = ("order", "refund", "parcel", "login")
FIRST, THEN = 900, 2500
DAY = 86_400.0
Row = tuple[str, str, str, float]
"""Id, text, the teacher's label, time."""


def requests(n: int, seed: int, begin: int = 0, strange: float = 0.0) -> list[Row]:
    """One a minute. The fewer words a text has of its label's, the harder it is; strange ones have none."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        label = LABELS[rng.integers(len(LABELS))]
        own = int(rng.integers(1, 6))
        words = [*(f"{label}{k}" for k in rng.integers(0, 25, own))]
        words += [f"filler{k}" for k in rng.integers(0, 60, 9 - own)]
        words += [f"{other}{rng.integers(25)}" for other in rng.choice(LABELS, 6 - own)]
        if rng.random() < strange:
            words = [f"strange{rng.integers(3000)}" for _ in range(9)]
        rows.append((f"{begin + i:06d}", " ".join(rng.permutation(words)), label, 60.0 * (begin + i)))
    return rows


class Life:
    """A node whose teacher answers everything, then a first bundle that serves, then a retraining."""

    def __init__(self, config: Config, store: TrafficStore) -> None:
        self.config, self.store = config, store

    def passed(self, rows: list[Row]) -> None:
        """The teacher answers."""
        for id_, text, label, time in rows:
            self.store.record(
                decision(
                    id_, node=NODE, text=text, time=time, context={}, output=label, by_teacher=True,
                    bundle_version="", error=None,
                )
            )  # fmt: skip
        assert self.store.flush(30)

    def train(self) -> RetrainResult:
        return retrain(NODE, self.config, self.store.training_records(NODE), encoders_of(self.config))

    def bundle(self, version: str) -> Bundle:
        return load_bundle(self.config.models_path / NODE / version, encoders_of(self.config), NODE)

    def settles(self, bundle: Bundle, rows: list[Row]) -> np.ndarray:
        records = [TrainingRecord(*row[:2], None, row[2], "teacher", None, row[3]) for row in rows]
        curated = curate(records, None)
        found = serve(bundle, curated.records).settled
        settled = {record.id for record, here in zip(curated.records, found, strict=True) if here}
        return np.array([row[0] in settled for row in rows])

    def served(self, bundle: Bundle, rows: list[Row], rate: float, reported: float = 0.0) -> float:
        """Serve, audit at a rate, have callers report a share as right; give the share that settled."""
        settled = self.settles(bundle, rows)
        audits = []
        for (id_, text, label, time), here in zip(rows, settled, strict=True):
            self.store.record(
                decision(
                    id_, node=NODE, text=text, time=time, context={}, output=label, by_teacher=not here,
                    bundle_version=bundle.version, error=None,
                )
            )  # fmt: skip
            if here and coin(id_) < rate:
                audits.append(Audit(id_, NODE, bundle.version, 0, time, rate, "linear"))
        assert self.store.flush(30)
        rollouts, told = DatabaseRolloutStore(self.store), {row[0]: row[2] for row in rows}
        rollouts.add_audits(audits, "me", 0.0)
        rollouts.finish_audits([AuditResult(a, a.time, told[a.decision_id], True) for a in audits])
        for k, ((id_, *_), here) in enumerate(zip(rows, settled, strict=True)):
            if here and coin(f"reported {id_}") < reported:
                self.store.report(outcome(f"o{k}", id_, right=True))
        assert self.store.flush(30)
        return float(settled.mean())


@pytest.fixture
def life(configure: Callable[..., Config], tmp_path: Path) -> Iterator[Life]:
    node = {"ladder": ["linear", "frontier"], "bar": {"agreement": 0.9, "confidence": 0.9}}
    store = open_store(f"sqlite:///{tmp_path}/life.db")
    yield Life(configure(node=node), store)
    store.close()


def first_bundle(life: Life) -> Bundle:
    life.passed(requests(FIRST, 1))
    first = life.train()
    assert first.version, first.certificate.reason
    assert first.statement["live_sample"] == {
        "audited": 0, "escalated": 0, "unselected": first.n_held_out, "only_learned_from": 0,
    }  # fmt: skip
    assert first.n_train + first.n_held_out == first.n_records
    return life.bundle(first.version)


def test_without_drift_a_retraining_after_a_ladder_served_is_not_refused(life: Life) -> None:
    bundle = first_bundle(life)
    settled = life.served(bundle, requests(THEN, 2, FIRST), 0.25)
    assert 0.4 < settled < 0.95
    again = life.train()
    assert again.certificate.valid, again.certificate.reason
    live = again.statement["live_sample"]
    assert live["only_learned_from"] > 0
    of_settled = live["audited"] / (live["audited"] + live["escalated"])
    assert abs(of_settled - settled) < 0.12, "the held-out mix is the live one"
    said = f"{live['audited']:,} are answers that a serving ladder settled and an audit checked"
    assert said in " ".join(again.report.read_text().split())


def test_with_drift_it_still_is(life: Life) -> None:
    bundle = first_bundle(life)
    life.served(bundle, requests(THEN, 2, FIRST, strange=0.4), 0.25)
    again = life.train()
    assert not again.version
    assert "held-out records are not like training records" in again.certificate.reason


def test_too_few_audits_refuse_it_and_say_what_to_do(life: Life) -> None:
    bundle = first_bundle(life)
    life.served(bundle, requests(THEN, 2, FIRST), 0.01)
    with pytest.raises(RetrainRefused, match=r"rollout\.audit\.floor.* or wait about [\d,]+ days") as caught:
        life.train()
    assert "50 are needed" in str(caught.value)


def test_without_audits_nothing_is_guessed(life: Life) -> None:
    bundle = first_bundle(life)
    life.served(bundle, requests(THEN, 2, FIRST), 0.0, reported=0.3)
    with pytest.raises(RetrainRefused, match=r"0 are, and 50 are needed.*wait for audits to be answered"):
        life.train()


def test_of_a_fenced_bundle_that_settles_nothing_all_answers_count(life: Life) -> None:
    bundle = first_bundle(life)
    life.served(bundle, requests(300, 2, FIRST), 0.0)
    rows = requests(1200, 3, FIRST + 300)
    for id_, text, label, time in rows:
        life.store.record(
            decision(
                id_, node=NODE, text=text, time=time, context={}, output=label, by_teacher=True,
                bundle_version=bundle.version, error=None,
            )
        )  # fmt: skip
    assert life.store.flush(30)
    again = life.train()
    assert again.certificate.valid, again.certificate.reason
    assert again.statement["live_sample"]["unselected"] == again.n_held_out


def test_reports_take_nothing_out_of_the_sample_and_bring_nothing_in(
    life: Life,
) -> None:
    ids = ["audited-wrong", "audited-as-settled", "audited-right", "reported-only", "escalated"]
    for k, id_ in enumerate(ids):
        life.store.record(
            decision(
                id_, node=NODE, text=id_, time=float(k), context={}, output="order",
                by_teacher=id_ == "escalated", bundle_version="b", error=None,
            )
        )  # fmt: skip
    assert life.store.flush(30)
    audits = [Audit(id_, NODE, "b", 0, 1.0, 0.5, "linear") for id_ in ids[:3]]
    told = {"audited-wrong": "refund", "audited-as-settled": "order", "audited-right": "order"}
    rollouts = DatabaseRolloutStore(life.store)
    rollouts.add_audits(audits, "me", 0.0)
    rollouts.finish_audits([AuditResult(a, 2.0, told[a.decision_id], True) for a in audits])
    for k, (id_, right) in enumerate(zip(ids, (False, False, True, True), strict=False)):
        life.store.report(outcome(f"o{k}", id_, right=right))
    assert life.store.flush(30)
    found = {r.id: (r.output, r.live) for r in life.store.training_records(NODE)}
    assert found == {
        "audited-wrong": ("refund", LiveShare("settled", 1.0, 4 / 3)),
        "audited-as-settled": ("order", LiveShare("settled", 1.0, 4 / 3)),
        "audited-right": ("order", LiveShare("settled", 1.0, 4 / 3)),
        "escalated": ("order", LiveShare("escalated", 0.75, 1.0)),
    }
