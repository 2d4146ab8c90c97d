"""The certificate keeps its promise, and refuses where it cannot."""

import re

import numpy as np
import pytest
from scipy.stats import binom

from training.certificate import (
    LEVELS,
    SINGLE_CHAIN,
    STARTS,
    Certificate,
    count_by_level,
    first_count,
    learn_then_test,
)


def traffic(n: int, seed: int, floor: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """Two rungs whose confidence is calibrated: P(right) is the confidence itself."""
    rng = np.random.default_rng(seed)
    confidence = 1 - rng.beta(0.4, 4.0, size=(n, 2)) * (1 - floor)
    return confidence, rng.random((n, 2)) < confidence


def true_agreement(threshold: float) -> float:
    confidence, right = traffic(200_000, seed=10_000)
    settles = confidence >= threshold
    first = settles.argmax(axis=1)
    some = settles.any(axis=1)
    return float(right[np.arange(len(first)), first][some].mean())


def test_the_bar_is_broken_in_no_more_than_delta_of_the_proofs() -> None:
    bar, delta, runs = 0.95, 0.1, 300
    broken = 0
    for seed in range(runs):
        certificate = learn_then_test(*traffic(800, seed), bar, delta)
        broken += certificate.valid and true_agreement_cached(certificate.threshold) < bar
    assert broken <= runs * delta + 3 * np.sqrt(runs * delta * (1 - delta))


def test_the_chains_share_delta_and_one_unlucky_record_at_the_top_does_not_forbid_everything() -> None:
    assert sum(part for _, part in STARTS) == pytest.approx(1.0)
    rng = np.random.default_rng(0)
    confidence = np.linspace(0.9999, 0.5, 2000)[:, None]
    right = rng.random((2000, 1)) < 0.985
    right[:12] = False  # the surest are wrong: a fixed sequence stops where it begins
    assert not learn_then_test(confidence, right, 0.95, 0.05, SINGLE_CHAIN).valid
    assert learn_then_test(confidence, right, 0.95, 0.05).n_settled > 1000


@pytest.mark.parametrize("agreement", [0.93, 0.95])
def test_the_family_wise_error_is_kept_where_no_threshold_keeps_the_bar(agreement: float) -> None:
    """All levels are as bad as can be while the confidence says nothing: any proof is an error."""
    delta, runs = 0.1, 400
    wrong = 0
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        right = rng.random((1000, 1)) < agreement - 1e-6
        wrong += learn_then_test(rng.random((1000, 1)), right, 0.95, delta).valid
    assert wrong <= runs * delta + 3 * np.sqrt(runs * delta * (1 - delta))


_cache: dict[float, float] = {}


def true_agreement_cached(threshold: float) -> float:
    if threshold not in _cache:
        _cache[threshold] = true_agreement(threshold)
    return _cache[threshold]


def test_counts_match_the_walk_done_one_record_at_a_time() -> None:
    confidence, right = traffic(300, 1)
    confidence[::7, 0] = -np.inf
    settled, wrong = count_by_level(confidence, right, LEVELS)
    for i in range(0, len(LEVELS), 13):
        n = bad = 0
        for c, r in zip(confidence, right, strict=True):
            for rung in range(2):
                if c[rung] >= LEVELS[i]:
                    n += 1
                    bad += not r[rung]
                    break
        assert (settled[i], wrong[i]) == (n, bad)


def test_a_proof_is_an_exact_binomial_rejection_at_its_threshold() -> None:
    certificate = learn_then_test(*traffic(3000, 2), 0.95, 0.05)
    assert certificate.valid
    assert binom.cdf(certificate.n_wrong, certificate.n_settled, 0.05) <= 0.05
    assert certificate.agreement_lower >= 0.95
    assert certificate.n_settled >= first_count(0.95, 0.05)


def test_too_few_records_are_refused_with_how_many_more_it_takes() -> None:
    certificate = learn_then_test(*traffic(100, 3), 0.98, 0.05)
    assert not certificate.valid
    assert certificate.threshold > 1
    assert certificate.more_records > 0
    assert f"{certificate.more_records:,}" in certificate.reason


def test_a_bad_model_is_refused_and_told_that_it_has_to_be_a_better_one() -> None:
    rng = np.random.default_rng(4)
    confidence = np.full((2000, 1), 0.99)
    certificate = learn_then_test(confidence, rng.random((2000, 1)) < 0.5, 0.95, 0.05)
    assert not certificate.valid
    assert certificate.more_records == -1
    assert "holding out more would not prove it" in certificate.reason
    assert "better ones, from more records (plan for 2,000 to 5,000)" in certificate.reason


@pytest.mark.parametrize("n", [180, 375, 6000])
def test_where_every_answer_is_fenced_no_number_of_records_is_invented(n: int) -> None:
    confidence, right = traffic(n, 6)
    certificate = learn_then_test(confidence, right, 0.95, 0.05, allowed=np.zeros_like(right))
    assert not certificate.valid
    assert certificate.more_records == -1
    assert "holding out more would not prove it" in certificate.reason
    assert ("plan for 2,000 to 5,000" in certificate.reason) == (n < 5000)


def test_the_number_of_records_says_which_error_rate_it_takes_for_granted() -> None:
    rng = np.random.default_rng(1)  # 4 % wrong: too near to the bar for 300 records
    certificate = learn_then_test(rng.random((300, 1)), rng.random((300, 1)) >= 0.04, 0.95, 0.05)
    assert certificate.more_records > 0
    found = re.search(
        r"if no more than (\d\.\d)% of the surest answers go on being wrong", certificate.reason
    )
    assert found is not None
    assert 0 < float(found[1]) < 5.0


def test_no_records_at_all_are_refused() -> None:
    certificate = learn_then_test(np.empty((0, 2)), np.empty((0, 2), dtype=bool), 0.95, 0.05)
    assert not certificate.valid
    assert certificate.more_records > 0


@pytest.mark.parametrize("bar", [0.9, 0.95, 0.98])
def test_mapie_agrees_about_a_single_rung(bar: float) -> None:
    """MAPIE's fixed-sequence precision control on the same levels picks the same threshold."""
    mapie = pytest.importorskip("mapie.risk_control")
    confidence, right = traffic(4000, 5)
    confidence, right = confidence[:, :1], right[:, :1]
    ours = learn_then_test(confidence, right, bar, 0.05, SINGLE_CHAIN)

    def predict(x: np.ndarray) -> np.ndarray:
        return np.column_stack([1 - x[:, 0], x[:, 0]])

    settled, _ = count_by_level(confidence, right, LEVELS)
    levels = LEVELS[settled >= first_count(bar, 0.05)]
    controller = mapie.BinaryClassificationController(
        predict, "precision", target_level=bar, confidence_level=0.95, fwer_method="fixed_sequence",
        list_predict_params=levels,
    )  # fmt: skip
    controller.calibrate(confidence, right[:, 0].astype(int))
    theirs = float(np.min(controller.valid_predict_params))
    # MAPIE bounds the p-value by Hoeffding and Bentkus; ours is exact, so it may go a little further
    assert isinstance(ours, Certificate)
    assert ours.threshold <= theirs + 1e-9
    assert abs(np.searchsorted(-LEVELS, -ours.threshold) - np.searchsorted(-LEVELS, -theirs)) <= 3
