"""Synthetic ladders whose right answer is known."""

import numpy as np
import pytest
from numpy.typing import NDArray

from cascade.errors import InvalidInput
from training.cost_quality import area, hull, quality_at, simulate
from training.cross_fit import cross_fit
from training.outcome_table import OutcomeTable

HARD = ("prove", "derive", "integrate", "factor")
EASY = ("greet", "repeat", "list", "name")
NOUNS = ("apple", "river", "window", "garden", "engine", "letter", "bottle", "island", "mirror", "ladder")


def table(n: int, learnable: bool, seed: int = 0) -> tuple[OutcomeTable, NDArray[np.float64]]:
    """A small rung that is right on easy prompts, a big one that is right on most; the text tells, or not."""
    rng = np.random.default_rng(seed)
    hard = rng.random(n) < 0.5
    told = hard if learnable else rng.random(n) < 0.5
    prompts = tuple(
        " ".join(
            [str(rng.choice(HARD if h else EASY)), *rng.choice(NOUNS, 4).tolist(), str(rng.integers(1e6))]
        )
        for h in told
    )
    p_small = np.where(hard, 0.2, 0.95)
    right = np.stack([rng.random(n) < p_small, rng.random(n) < 0.95], axis=1).astype(float)
    cost = np.tile([0.001, 0.010], (n, 1))
    made = OutcomeTable(tuple(map(str, range(n))), prompts, ("small", "big"), right, cost)
    return made, np.stack([p_small, np.full(n, 0.95)], axis=1)


def test_where_difficulty_shows_in_the_text_the_router_beats_the_random_mix() -> None:
    made, p_true = table(1200, learnable=True)
    found = simulate(made, cross_fit(made), n_bootstrap=100)
    ideal = simulate(made, p_true, n_bootstrap=10)
    assert found.learnable
    assert found.areas["router"][0] == pytest.approx(ideal.areas["router"][0], abs=0.02)
    assert found.areas["router"][0] < found.areas["oracle"][0]
    plan = next(p for p in found.plans if p.target == 0.98)
    # easy prompts, half of all, can go to the rung that costs a tenth: 45 % are saved, not more
    assert plan.saving == pytest.approx(0.45, abs=0.06)
    assert plan.shares["small"] == pytest.approx(0.5, abs=0.07)


@pytest.mark.parametrize("seed", range(4))
def test_where_nothing_can_be_learned_the_router_does_not_beat_the_random_mix(seed: int) -> None:
    made, _ = table(600, learnable=False, seed=seed)
    found = simulate(made, cross_fit(made, seed=seed), seed, n_bootstrap=100)
    assert found.areas["gain"][0] < 0.01
    assert not found.learnable


def test_always_each_and_the_best_fixed_rung_are_the_tables_means() -> None:
    made, p_true = table(400, learnable=True)
    found = simulate(made, p_true, n_bootstrap=50)
    assert found.best_fixed == "big"
    for r, point in enumerate(found.always):
        assert point.quality == pytest.approx(made.right[:, r].mean())
        assert point.cost == pytest.approx(made.cost[:, r].mean())
        low, high = point.quality_interval
        assert low < point.quality < high


def test_the_same_table_and_seed_give_the_same_figures() -> None:
    made, _ = table(200, learnable=True)
    first, second = (simulate(made, cross_fit(made), n_bootstrap=20).to_json() for _ in range(2))
    assert first == second


def test_no_estimate_looks_at_its_own_outcome() -> None:
    made, _ = table(300, learnable=True)
    other = made.right.copy()
    other[0] = 1 - other[0]
    changed = OutcomeTable(made.ids, made.prompts, made.rungs, other, made.cost)
    # the folds follow the mean score, so only the estimate of the prompt itself must stay near
    assert cross_fit(made)[0] == pytest.approx(cross_fit(changed)[0], abs=0.2)


def test_a_rung_that_is_never_worth_its_price_is_never_chosen() -> None:
    made, p_true = table(400, learnable=True)
    worse = OutcomeTable(
        made.ids, made.prompts, ("small", "big", "dear"),
        np.hstack([made.right, made.right[:, :1]]), np.hstack([made.cost, np.full((400, 1), 0.05)]),
    )  # fmt: skip
    found = simulate(worse, np.hstack([p_true, p_true[:, :1]]), n_bootstrap=10)
    assert all(plan.shares["dear"] == 0 for plan in found.plans)
    assert found.mix[-1].tolist() == pytest.approx([0.01, made.right[:, 1].mean()])


def test_too_few_prompts_or_a_single_rung_are_refused() -> None:
    made, _ = table(99, learnable=True)
    with pytest.raises(InvalidInput, match="too few"):
        cross_fit(made)
    made, _ = table(100, learnable=True)
    with pytest.raises(InvalidInput, match="two or more"):
        cross_fit(OutcomeTable(made.ids, made.prompts, ("small",), made.right[:, :1], made.cost[:, :1]))


def test_the_area_is_the_mean_height_over_the_range() -> None:
    line = np.array([[1.0, 0.5], [3.0, 1.0]])
    assert area(line, 1, 3) == pytest.approx(0.75)
    assert area(line, 1, 5) == pytest.approx((0.75 * 2 + 1.0 * 2) / 4)
    assert quality_at(line, 2) == pytest.approx(0.75)


def test_the_hull_drops_what_a_mix_of_others_beats() -> None:
    points = np.array([[1.0, 0.2], [2.0, 0.3], [3.0, 0.9], [4.0, 0.8]])
    assert hull(points).tolist() == [[1.0, 0.2], [3.0, 0.9]]
