"""Near copies and the records of a session are one draw: a proof counts one record of each group."""

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.made_up_answers import BAR, DELTA, N_LABELS, certify_answers
from training.certify import Proof
from training.groups import one_a_group
from training.report_verdict import tried_on


def prove(
    sizes: NDArray[np.int64], agreement: float, seed: int, counted: bool = True
) -> tuple[Proof, NDArray[np.int64]]:
    """Certify made-up answers: those of a group are all right or all wrong, and alike in confidence."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(len(sizes)), sizes)
    y = rng.integers(0, N_LABELS, len(sizes))[groups]
    right = (rng.random(len(sizes)) < agreement)[groups]
    sure = (1 - 0.5 * rng.random(len(sizes)))[groups] + rng.normal(0, 0.02, len(groups))
    found = certify_answers(y, right, np.clip(sure, 0, 0.9999), groups if counted else None, seed)
    return found, groups


def bursts(n: int, seed: int) -> NDArray[np.int64]:
    """Sizes of groups with three records on average, some n records in all."""
    sizes = np.random.default_rng(seed).geometric(1 / 3, n)
    return sizes[: int(np.searchsorted(np.cumsum(sizes), n))]


def test_answers_at_the_bar_are_certified_in_no_more_than_delta_of_the_draws() -> None:
    runs = 200
    by_group = sum(prove(bursts(2500, s), BAR, s)[0].certificate.valid for s in range(runs))
    assert by_group <= runs * DELTA + 3 * np.sqrt(runs * DELTA * (1 - DELTA))
    each = sum(prove(bursts(2500, s), BAR, s, counted=False)[0].certificate.valid for s in range(60))
    assert each >= 8, "counted one by one they would break the promise, or this test shows nothing"


def test_what_is_counted_is_said_and_quality_is_of_all_records() -> None:
    proof, groups = prove(bursts(2500, 1), 0.99, 1)
    n = len(np.unique(groups))
    assert proof.certificate.valid
    assert proof.certificate.n_held_out == n == proof.end_to_end.n == len(proof.counted)
    assert proof.certificate.n_wrong == proof.end_to_end.n_disagreed
    assert f"of {len(groups):,} held-out records one counts of each of {n:,} groups" in (
        proof.certificate.reason
    )
    assert proof.to_json()["held_out_records"] == len(groups) == len(proof.scored.y)
    said = tried_on(proof.to_json(), proof.certificate)
    assert said.startswith(f"{n:,} records")
    assert f"among {len(groups):,} held-out records" in said
    settled, agreement = proof.settled()
    sure = proof.scored.confidence[:, 0] >= proof.thresholds[0]
    assert settled == sure.mean()
    assert agreement == pytest.approx(proof.scored.right[sure, 0].mean())
    labels = [line for line in proof.sliced.lines if line.dimension == "label"]
    assert sum(line.n_settled for line in labels) == proof.certificate.n_settled, "slices count groups too"


def test_where_each_record_is_a_group_nothing_changes() -> None:
    ones = np.ones(900, dtype=np.int64)
    for seed in range(5):
        by_group, each = prove(ones, 0.98, seed)[0], prove(ones, 0.98, seed, counted=False)[0]
        assert by_group.certificate.valid
        assert by_group.to_json() == each.to_json()
        assert by_group.thresholds == each.thresholds


def test_the_draw_is_by_seed_and_one_of_each_group() -> None:
    groups = np.array([0, 0, 0, 1, 2, 2, 3, 3, 3, 3])
    at = np.arange(3, 10)
    drawn = [one_a_group(at, groups, np.random.default_rng(seed)) for seed in (1, 1, 2, 3, 4, 5)]
    assert all(groups[each].tolist() == [1, 2, 3] for each in drawn)
    assert (drawn[0] == drawn[1]).all()
    assert len({tuple(each.tolist()) for each in drawn}) > 1
