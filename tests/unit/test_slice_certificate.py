"""Certificates per slice: what they promise holds together with the node's promise, and what they fence."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.errors import RetrainRefused
from cascade.policy.slices import SliceRules
from cascade.policy.walk import LadderPolicy, LocalRung, walk
from training.certificate import LEVELS, counts_by_slice
from training.judge_slices import Judged, judge
from training.slice_certificate import SlicedCertificate, certify_slices
from training.slice_rules import holm, more_for_slice
from training.slices import Demand, Slicing, find_slices, not_fenced, stricter

BAR, DELTA = 0.9, 0.1


@dataclass
class Drawn:
    levels: np.ndarray
    right: np.ndarray
    answer: np.ndarray
    contexts: list[dict[str, str]]

    def take(self, rows: np.ndarray) -> "Drawn":
        return Drawn(self.levels[rows], self.right[rows], self.answer[rows], [self.contexts[i] for i in rows])


class World:
    """Traffic whose truth is known: one rung, whose confidence overstates its agreement in some slices."""

    def __init__(self, label_bias: list[float], tenant_bias: list[float], size: int = 20_000) -> None:
        rng = np.random.default_rng(7)
        n_labels, n_tenants = len(label_bias), len(tenant_bias)
        share = np.arange(n_labels, 0, -1.0)
        answer = rng.choice(n_labels, size, p=share / share.sum())
        tenant = rng.integers(0, n_tenants, size)
        confidence = 1 - rng.beta(0.5, 6.0, size)
        chance = confidence - np.array(label_bias)[answer] - np.array(tenant_bias)[tenant]
        right = rng.random(size) < chance
        self.all = Drawn(
            confidence[:, None], right[:, None], answer[:, None], [{"tenant": str(t)} for t in tenant]
        )
        self.size, self.n_labels = size, n_labels
        self._ids: dict[tuple[str, ...], list[np.ndarray]] = {}

    def ids(self, slicing: Slicing | SlicedCertificate) -> list[np.ndarray]:
        """The slices of all records; told once, as it takes longer than all the rest."""
        members = slicing.members
        if members.dimensions not in self._ids:
            self._ids[members.dimensions] = members.of(self.all.answer, self.all.contexts)
        return self._ids[members.dimensions]

    def slicing(self, require: str, bar: float, keys: tuple[str, ...] = ()) -> Slicing:
        members = find_slices([str(i) for i in range(self.n_labels)], keys, self.all.contexts[:1000])
        return Slicing(members, Demand(require, bar))  # type: ignore[arg-type]

    def certify(
        self, slicing: Slicing, n: int, seed: int, trained_on: int = 0
    ) -> tuple[SlicedCertificate, Judged]:
        rng = np.random.default_rng(seed)
        n_slices = len(slicing.members.slices)
        judged = Judged(0.5, np.ones(n_slices), np.zeros(n_slices, dtype=bool), np.zeros(n_slices))
        if trained_on:
            train = self.all.take(rng.integers(0, self.size, trained_on))
            told = Slicing(slicing.members, slicing.demand, train.contexts)
            judged = judge(train.levels, train.right, train.answer, told, BAR, DELTA)
        rows = rng.integers(0, self.size, n)
        drawn, ids = self.all.take(rows), [which[rows] for which in self.ids(slicing)]
        levels = stricter(drawn.levels, ids, judged.strictness)
        return certify_slices(levels, drawn.right, ids, slicing, BAR, DELTA, judged), judged

    def truth(self, found: SlicedCertificate) -> tuple[float, np.ndarray]:
        """The true agreement of what is settled, of the node and of each slice; NaN where nothing is."""
        ids = self.ids(found)
        levels = stricter(self.all.levels, ids, found.strictness)
        allowed = not_fenced(ids, found.fenced)
        at = np.array([found.certificate.threshold])
        shares = []
        for which in ids:
            n = len(found.members.slices)
            settled, wrong = counts_by_slice(levels, self.all.right, at, which, n, allowed)
            shares.append(np.stack([settled[:, 0], wrong[:, 0]]))
        settled, wrong = np.sum(shares, axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            each = 1 - wrong / settled
            node = 1 - shares[0][1].sum() / shares[0][0].sum()
        return float(node), each


HONEST = World([0.0] * 6, [0.0] * 2)
MIXED = World([0.0, 0.0, 0.02, 0.06, 0.3, 0.01, 0.0, 0.4], [0.0, 0.05, 0.2])
BAD_LABELS = World([0.0, 0.0, 0.02, 0.03, 0.3, 0.01, 0.0, 0.4], [0.0])
LIMIT = World([0.035] * 5, [0.0] * 2)
"""Every slice stands near the bar: the hardest case for a promise."""


@pytest.mark.parametrize("world", [MIXED, LIMIT], ids=["mixed", "at the limit"])
@pytest.mark.parametrize(
    ("require", "bar", "keys"),
    [
        ("not-refuted", BAR, ()),
        ("not-refuted", BAR, ("tenant",)),
        ("proven", BAR, ()),
        ("proven", 0.8, ("tenant",)),
    ],
    ids=["labels", "labels and tenants", "labels, each proven", "labels and tenants, each proven"],
)
@pytest.mark.parametrize("trained_on", [0, 1500], ids=["untrained", "judged on training records"])
def test_promises_of_node_and_slices_are_broken_in_no_more_than_delta_of_the_runs(
    world: World, require: str, bar: float, keys: tuple[str, ...], trained_on: int
) -> None:
    slicing, runs = world.slicing(require, bar, keys), 80
    node_broken = slice_broken = 0
    for seed in range(runs):
        found, _ = world.certify(slicing, 1200, seed, trained_on)
        if not found.certificate.valid:
            assert not any(line.state == "proven" for line in found.lines)
            continue
        node, each = world.truth(found)
        node_broken += node < BAR
        slice_broken += any(
            truth < bar for line, truth in zip(found.lines, each, strict=True) if line.state == "proven"
        )
    allowed = runs * DELTA + 3 * np.sqrt(runs * DELTA * (1 - DELTA))
    assert node_broken <= allowed
    assert slice_broken <= allowed


def test_slices_with_enough_good_records_are_proven_and_small_ones_are_covered() -> None:
    found, _ = HONEST.certify(HONEST.slicing("not-refuted", 0.8), 3000, 1)
    states = {line.value: line.state for line in found.lines}
    assert states["0"] == "proven"
    assert "fenced" not in states.values()
    few, _ = HONEST.certify(HONEST.slicing("not-refuted", 0.8), 150, 1)
    small = [line for line in few.lines if line.state != "proven"]
    assert small
    for line in small:
        assert line.state == "covered"
        assert line.more_records > 0
        assert line.more_traffic > line.more_records
        assert f"{line.more_records:,} more" in line.reason


def test_a_slice_refuted_on_held_out_records_is_fenced_and_the_node_is_proven_without_it() -> None:
    found, _ = BAD_LABELS.certify(BAD_LABELS.slicing("not-refuted", BAR), 4000, 3)
    assert found.certificate.valid
    fenced = [line for line in found.lines if line.state == "fenced"]
    assert {line.value for line in fenced} >= {"4"}
    assert all("breaks the bar" in line.reason for line in fenced)
    _, each = BAD_LABELS.truth(found)
    assert np.isnan(each[4])  # nothing of it settles


def test_a_slice_that_breaks_the_bar_out_of_fold_gets_a_stricter_threshold_or_a_fence() -> None:
    _, judged = BAD_LABELS.certify(BAD_LABELS.slicing("not-refuted", BAR), 2000, 5, trained_on=6000)
    assert judged.strictness[4] < 1 or judged.fenced[4]
    assert judged.fenced[7]  # 40 % wrong at any confidence: no strictness helps
    assert judged.strictness[0] == 1
    assert not judged.fenced[0]


def test_where_each_slice_must_be_proven_the_others_are_not_settled() -> None:
    found, _ = BAD_LABELS.certify(BAD_LABELS.slicing("proven", BAR), 16_000, 2, trained_on=16_000)
    assert found.certificate.valid
    assert {line.state for line in found.lines} == {"proven", "fenced"}
    needy = [line for line in found.lines if line.state == "fenced" and line.more_records > 0]
    assert all("more settled held-out records" in line.reason for line in needy)


def test_where_no_slice_can_be_proven_the_node_is_refused_and_says_why() -> None:
    found, _ = HONEST.certify(HONEST.slicing("proven", 0.99), 400, 2)
    assert not found.certificate.valid
    assert found.certificate.threshold > 1
    assert found.certificate.reason.startswith("no slice could be proven")


def test_what_is_counted_is_what_the_policy_serves() -> None:
    """Certification's arrays and the server's one-at-a-time rules settle the same records."""
    found, judged = MIXED.certify(MIXED.slicing("not-refuted", BAR, ("tenant",)), 4000, 3, trained_on=4000)
    certificate = found.certificate
    rules = SliceRules.from_manifest(certificate.to_json() | {"slices": found.to_json()})
    policy = LadderPolicy((LocalRung("linear", certificate.threshold),), certified=True, slices=rules)
    some = MIXED.all.take(np.arange(3000))
    asked = 1 - (1 - certificate.threshold) * found.asked(some.answer, some.contexts)
    first = walk(np.ones_like(some.right), some.levels, asked, found.allowed(some.answer, some.contexts))
    served = [
        policy.accepts(0, some.levels[i, 0], str(some.answer[i, 0]), some.contexts[i]) is None
        and not policy.uncovered(str(some.answer[i, 0]), some.contexts[i])
        for i in range(3000)
    ]
    assert (np.array(served) == (first == 0)).all()
    assert (judged.strictness < 1).any() or found.fenced.any()


def test_a_value_that_the_certified_traffic_never_held_is_not_settled() -> None:
    found, _ = MIXED.certify(MIXED.slicing("not-refuted", BAR, ("tenant",)), 2000, 3)
    assert not found.allowed(np.array([[0]]), [{"tenant": "new"}]).any()
    rules = SliceRules.from_manifest({"slices": found.to_json()})
    assert rules.why_not("0", {"tenant": "new"}).startswith("uncertified: slice tenant=new:")
    assert rules.why_not("0", {}).startswith("uncertified: slice tenant=:")


def test_a_context_key_with_a_value_for_each_record_is_no_slice() -> None:
    with pytest.raises(RetrainRefused, match="'session' has 2,000 values"):
        find_slices(["a"], ("session",), [{"session": str(i)} for i in range(2000)])


@given(
    settled=st.integers(0, 500), wrong=st.integers(0, 50), rate=st.floats(0, 0.2),
    bar=st.floats(0.5, 0.99), alpha=st.floats(1e-5, 0.2),
)  # fmt: skip
def test_the_records_that_a_slice_needs_are_some_or_said_to_be_hopeless(
    settled: int, wrong: int, rate: float, bar: float, alpha: float
) -> None:
    more = more_for_slice(settled, min(wrong, settled), rate, bar, alpha)
    assert more == -1 or more >= 1


@settings(max_examples=60)
@given(data=st.data())
def test_slices_cut_the_settled_records_up_without_losing_any(data: st.DataObject) -> None:
    n, rungs, k = 40, 2, 4
    rng = np.random.default_rng(data.draw(st.integers(0, 10_000)))
    confidence = np.where(rng.random((n, rungs)) < 0.1, -np.inf, rng.random((n, rungs)))
    right = rng.random((n, rungs)) < 0.7
    ids = rng.integers(0, k, (n, rungs))
    closed = data.draw(st.integers(0, k))
    allowed = ids != closed
    settled, wrong = counts_by_slice(confidence, right, LEVELS, ids, k, allowed)
    for at in (0, 40, 100, len(LEVELS) - 1):
        first = walk(np.ones_like(right), confidence, np.full(rungs, LEVELS[at]), allowed)
        rows = np.flatnonzero(first < rungs)
        where = ids[rows, first[rows]]
        assert (np.bincount(where, minlength=k) == settled[:, at]).all()
        assert (np.bincount(where[~right[rows, first[rows]]], minlength=k) == wrong[:, at]).all()


def test_holm_rejects_step_by_step() -> None:
    p = np.array([0.04, 0.001, 0.02, 0.9])
    assert holm(p, 0.05).tolist() == [False, True, False, False]
    assert holm(np.array([0.01, 0.001]), 0.05).tolist() == [True, True]
    assert holm(np.array([]), 0.05).tolist() == []
