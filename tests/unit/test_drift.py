"""Drift: what changes is noticed and only holds; what stays, however odd its distribution, is quiet."""

import random
from collections.abc import Callable

from cascade.policy.drift import REFERENCE, Drift
from cascade.policy.guard import Action


def fed(drift: Drift, draw: Callable[[], float], n: int, batch: int = 50) -> Drift:
    for _ in range(n // batch):
        drift = drift.take([draw() for _ in range(batch)])
    return drift


def test_steady_traffic_raises_nothing() -> None:
    rng = random.Random(1)
    assert fed(Drift("scores", "have a confidence"), rng.random, 20_000).raised is None


def test_scores_that_fall_are_noticed_within_a_few_hundred_requests_and_only_hold() -> None:
    rng = random.Random(2)
    drift = fed(Drift("scores", "have a confidence"), rng.random, 5_000)
    raised = fed(drift, lambda: rng.random() ** 2.5, 500).raised
    assert raised is not None
    assert raised.action is Action.HOLD
    assert raised.name == "drift of scores"
    assert "requests have a confidence below" in raised.reason


def test_drift_that_goes_away_is_lowered() -> None:
    rng = random.Random(3)
    drift = fed(fed(Drift("inputs", "have a P(right)"), rng.random, 3_000), lambda: 0.95, 300)
    assert drift.raised is not None
    assert fed(drift, rng.random, 3_000).raised is None


def test_a_value_that_most_requests_have_is_no_drift() -> None:
    rng = random.Random(4)

    def mostly_one() -> float:
        return 1.0 if rng.random() < 0.7 else rng.random()

    assert fed(Drift("scores", "have a confidence"), mostly_one, 10_000).raised is None


def test_all_values_equal_give_no_reference_until_some_differ() -> None:
    rng = random.Random(5)
    drift = fed(Drift("scores", "have a confidence"), lambda: 1.0, 3_000)
    assert drift.raised is None
    assert len(drift.first) < REFERENCE
    assert fed(drift, rng.random, 2_000).settings is not None


def test_no_request_changes_nothing() -> None:
    drift = fed(Drift("scores", "have a confidence"), random.Random(6).random, 2_000)
    assert drift.take([]) is drift
