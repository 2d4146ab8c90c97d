"""What the next records would bring."""

import numpy as np
import pytest

from training.learning_curve import N_DRAWS, _extrapolate, _fit_law


def drawn(totals: np.ndarray, noise: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    settled = 1 - 0.04 - 20 * totals**-0.6
    return np.clip(settled[:, None] + rng.normal(scale=noise, size=(len(totals), N_DRAWS)), 0, 1)


TOTALS = np.array([500.0, 1000.0, 2000.0, 3500.0])


def test_a_curve_that_follows_the_law_is_carried_on() -> None:
    truth = 1 - 0.04 - 20 * np.array([4000.0, 5000.0]) ** -0.6
    found = _extrapolate(TOTALS, drawn(TOTALS, 0.0, 0), float(truth[0]), 4000, 1000, np.random.default_rng(0))
    assert found is not None
    assert abs(found.settled_next - truth[1]) < 0.005
    assert found.settled_now < found.settled_next <= 1
    assert abs(found.at(np.array([4000.0]))[0] - truth[0]) < 1e-9


def test_the_interval_holds_what_comes_about_as_often_as_it_says() -> None:
    inside = 0
    for seed in range(60):
        rng = np.random.default_rng(1000 + seed)
        truth = 1 - 0.04 - 20 * np.array([4000.0, 5000.0]) ** -0.6 + rng.normal(scale=0.03, size=2)
        found = _extrapolate(TOTALS, drawn(TOTALS, 0.03, seed), float(truth[0]), 4000, 1000, rng)
        assert found is not None
        inside += found.low <= truth[1] <= found.high
    assert inside >= 48  # 90 % of 60 is 54


def test_a_flat_curve_promises_nothing() -> None:
    flat = np.full((4, N_DRAWS), 0.8)
    found = _extrapolate(TOTALS, flat, 0.8, 4000, 1000, np.random.default_rng(0))
    assert found is not None
    assert abs(found.settled_next - 0.8) < 0.01


def test_where_nearly_all_is_refused_there_is_no_forecast() -> None:
    refused = np.zeros((4, N_DRAWS))
    refused[3] = 0.6
    assert _extrapolate(TOTALS, refused, 0.0, 4000, 1000, np.random.default_rng(0)) is None


def test_the_law_never_settles_more_than_all() -> None:
    floor, slope, exponent = _fit_law(TOTALS, np.array([0.5, 0.8, 0.97, 0.99]))
    gaps = floor + slope * np.array([4000.0, 1e6]) ** -exponent
    assert (gaps >= 0).all()
    assert gaps[1] <= gaps[0]


def test_what_the_proof_keeps_back_shrinks_by_itself_and_not_by_the_models_law() -> None:
    could = np.full((4, N_DRAWS), 0.9)  # a flat curve: more records teach the models nothing
    kept = [np.full(N_DRAWS, 0.8), np.full(N_DRAWS, 0.85)]  # and the proof keeps back half as much then
    found = _extrapolate(TOTALS, could, 0.8, 4000, 1000, np.random.default_rng(0), kept)
    assert found is not None
    assert abs(found.settled_next - 0.85) < 0.01


def test_after_a_refusal_the_forecast_starts_from_the_curve_less_what_a_proof_keeps() -> None:
    could = np.full((4, N_DRAWS), 0.9)
    kept = [np.full(N_DRAWS, 0.8), np.full(N_DRAWS, 0.85)]
    found = _extrapolate(TOTALS, could, 0.0, 4000, 1000, np.random.default_rng(0), kept)
    assert found is not None
    assert abs(found.settled_next - 0.85) < 0.01


@pytest.mark.parametrize("share", [0.0, 0.1, 0.4])
def test_after_a_refusal_that_would_come_again_there_is_no_forecast(share: float) -> None:
    """Of random labels the luckiest prefix can settle 2 % in hindsight, and no proof ever will."""
    lucky = np.full((4, N_DRAWS), 0.02)
    later = np.where(np.arange(N_DRAWS) < share * N_DRAWS, 0.02, 0.0)
    proofs = [np.zeros(N_DRAWS), later]
    assert _extrapolate(TOTALS, lucky, 0.0, 4000, 1000, np.random.default_rng(0), proofs) is None
    assert _extrapolate(TOTALS, lucky, 0.5, 4000, 1000, np.random.default_rng(0), proofs) is not None


def test_where_the_next_proof_may_fail_again_the_interval_says_so() -> None:
    could = np.full((4, N_DRAWS), 0.9)
    later = np.where(np.arange(N_DRAWS) < 0.8 * N_DRAWS, 0.85, 0.0)
    kept = [np.full(N_DRAWS, 0.8), later]
    found = _extrapolate(TOTALS, could, 0.0, 4000, 1000, np.random.default_rng(0), kept)
    assert found is not None
    assert found.low == 0
    assert found.settled_next > 0.8
