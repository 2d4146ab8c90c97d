"""The shape of the thresholds, chosen out of fold before the proof."""

import numpy as np
from numpy.typing import NDArray

from training.certificate import STARTS, learn_then_test
from training.thresholds import choose_starts


def scored(n: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """One rung that is right 85 times in 100, and knows fairly well when."""
    rng = np.random.default_rng(seed)
    confidence = rng.beta(3, 0.5, (n, 1))
    return confidence, rng.random((n, 1)) < confidence


def certified(starts: tuple[tuple[tuple[float, float], ...], int] | None, n: int, seed: int) -> float:
    confidence, right = scored(n, seed)
    if starts is None:
        found = learn_then_test(confidence, right, 0.95, 0.05)
    else:
        found = learn_then_test(confidence, right, 0.95, 0.05, starts[0], least=starts[1])
    return found.n_settled / n


def test_of_few_records_more_is_certified_than_from_fixed_starts() -> None:
    starts = choose_starts(300, 0.95, 0.05)
    chosen = np.mean([certified((starts.chains, starts.least), 300, seed) for seed in range(1, 60)])
    fixed = np.mean([certified(None, 300, seed) for seed in range(1, 60)])
    assert chosen > fixed + 0.05


def test_starts_from_other_records_keep_the_promise() -> None:
    """The starts depend on the number of records only, so at most delta of the certificates are wrong."""
    truth_confidence, truth_right = scored(200_000, 10_000)
    broken = 0
    for seed in range(200):
        starts = choose_starts(300, 0.95, 0.05)
        found = learn_then_test(*scored(300, seed), 0.95, 0.05, starts.chains, least=starts.least)
        settles = truth_confidence[:, 0] >= found.threshold
        broken += bool(settles.any() and truth_right[settles, 0].mean() < 0.95)
    assert broken / 200 <= 0.05 + 3 * (0.05 * 0.95 / 200) ** 0.5


def test_the_first_test_of_few_records_survives_two_wrong_ones() -> None:
    starts = choose_starts(350, 0.95, 0.05)
    confidence = np.full((starts.least, 1), 0.99)
    right = np.ones((starts.least, 1), dtype=bool)
    for wrong, valid in ((2, True), (3, False)):
        right[:wrong] = False
        found = learn_then_test(
            confidence, right, 0.95, 0.05, starts.chains, level=0.95 * 0.05, least=starts.least
        )
        assert found.valid is valid


def test_many_records_are_tested_from_the_fixed_starts() -> None:
    assert choose_starts(2500, 0.95, 0.05).chains == STARTS
