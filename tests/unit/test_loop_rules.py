"""The loop's rules: the paired test, the verdict, the sizes."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from training.compare import Comparison, Outcome, compare
from training.evaluate import Scored
from training.loop import verdict
from training.sizes import ladder_sizes, smallest


def outcome(settled: list[bool], right: list[bool]) -> Outcome:
    return Outcome(np.array(settled), np.array(right) & np.array(settled))


def test_a_comparison_counts_what_only_one_gets_right() -> None:
    new = outcome([True] * 8 + [False] * 2, [True] * 7 + [False] * 3)
    serving = outcome([True] * 5 + [False] * 5, [True] * 4 + [False] * 6)
    found = compare(new, serving)
    assert (found.gained, found.lost) == (3, 0)
    assert found.p_value == binomtest(3, 3, 0.5).pvalue
    assert (found.settled, found.settled_before) == (0.8, 0.5)
    assert (found.agreement, found.agreement_before) == (7 / 8, 4 / 5)
    low, high = found.settled_change
    assert low <= 0.3 <= high


def test_equal_bundles_are_found_different_no_more_often_than_the_level() -> None:
    rng = np.random.default_rng(0)
    false_alarms = 0
    for _ in range(200):
        pair = [outcome([True] * 120, list(rng.random(120) < 0.9)) for _ in range(2)]
        false_alarms += compare(*pair).p_value < 0.05
    assert false_alarms / 200 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)


@given(
    st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=40)
)
def test_a_comparison_turned_round_says_the_opposite(rows: list[tuple[bool, bool, bool, bool]]) -> None:
    a = outcome([row[0] for row in rows], [row[1] for row in rows])
    b = outcome([row[2] for row in rows], [row[3] for row in rows])
    one, other = compare(a, b), compare(b, a)
    assert (one.gained, one.lost, one.p_value) == (other.lost, other.gained, other.p_value)
    assert one.settled_change == pytest.approx((-other.settled_change[1], -other.settled_change[0]))


def compared(gained: int, lost: int) -> Comparison:
    p = binomtest(gained, gained + lost, 0.5).pvalue if gained + lost else 1.0
    return Comparison(1000, 0.8, 0.7, 0.97, 0.97, gained, lost, p, (0.0, 0.1), None)


@pytest.mark.parametrize(
    ("comparison", "due", "start", "why"),
    [
        (None, ["first: 3000"], True, "no bundle serves yet"),
        (compared(60, 20), ["new: 1000"], True, "better"),
        (compared(20, 60), ["shift: 40 %"], False, "worse"),
        (compared(30, 28), ["new: 1000"], False, "not better by more than chance"),
        (compared(30, 28), ["new: 1000", "rollback: 0001"], True, "not worse, and rollback"),
        (compared(0, 0), ["time: 8 days"], False, "not better"),
    ],
)
def test_better_is_rolled_out_and_the_rest_explained(
    comparison: Comparison | None, due: list[str], start: bool, why: str
) -> None:
    found, said = verdict(comparison, due, 0.05)
    assert found is start
    assert said.startswith(why)
    if comparison is not None:
        assert f"alone settles {comparison.gained}" in said


def test_the_smallest_ladder_that_clears_the_bar_is_named() -> None:
    rng = np.random.default_rng(0)
    n = 2000
    hard = rng.random(n)
    # The first rung is sure of half of the records and wrong on the rest; the second is right on nearly all.
    confidence = np.stack([np.where(hard < 0.5, 0.99, 0.3), np.where(hard < 0.9, 0.99, 0.3)], axis=1)
    right = np.stack([hard < 0.5, hard < 0.9], axis=1)
    ones = np.ones((n, 2), dtype=bool)
    y = np.zeros(n, dtype=np.int64)
    scored = Scored(
        confidence=confidence, right=right, p_right=confidence, p_top=confidence, worth=ones, y=y,
        answer=np.zeros((n, 2), dtype=np.int64), rungs=("linear", "encoder"), rung_usd=np.zeros(2),
        rung_ms=np.zeros(2), teacher_usd=0.001, teacher_ms=400.0,
    )  # fmt: skip
    sizes = ladder_sizes(scored, (1.0, 1.0), 0.95, 0.05, (0.1, 2.0), (1_000, 20_000_000), 500)
    assert [size.clears for size in sizes] == [True, True]
    assert sizes[0].settled == pytest.approx(0.5, abs=0.03)
    assert sizes[1].settled == pytest.approx(0.9, abs=0.03)
    assert sizes[0].bytes == 1_500
    assert sizes[1].local_ms == pytest.approx(0.1 + 0.5 * 2.0, abs=0.1)
    assert sizes[0].usd_per_1000 == pytest.approx(0.5, abs=0.03)
    assert smallest(sizes) is sizes[0]
    hopeless = Scored(**{**vars(scored), "right": ~ones})
    assert smallest(ladder_sizes(hopeless, (1.0, 1.0), 0.95, 0.05, (1, 1), (1, 1), 1)) is None


def test_near_copies_clear_no_bar_that_one_of_each_does_not() -> None:
    rng = np.random.default_rng(3)
    right = np.repeat(rng.random(100) < 0.97, 10)[:, None]  # ten copies each, all right or all wrong
    n, ones = len(right), np.ones((len(right), 1), dtype=bool)
    scored = Scored(
        confidence=np.full((n, 1), 0.99), right=right, p_right=np.full((n, 1), 0.99),
        p_top=np.full((n, 1), 0.99), worth=ones, y=np.zeros(n, dtype=np.int64),
        answer=np.zeros((n, 1), dtype=np.int64), rungs=("linear",), rung_usd=np.zeros(1),
        rung_ms=np.zeros(1), teacher_usd=0.001, teacher_ms=400.0,
    )  # fmt: skip
    each = (1.0,), 0.95, 0.05, (0.1,), (1_000,), 500
    assert ladder_sizes(scored, *each)[0].clears
    assert not ladder_sizes(scored, *each, np.arange(0, n, 10))[0].clears


def test_what_slices_and_validators_keep_back_is_not_settled_by_any_size() -> None:
    rng = np.random.default_rng(1)
    n = 2000
    poor = rng.random(n) < 0.3  # a slice in which the first rung is as sure as elsewhere, and often wrong
    right = np.stack([~poor | (rng.random(n) < 0.5), np.ones(n, dtype=bool)], axis=1)
    confidence = np.full((n, 2), 0.99)
    ones = np.ones((n, 2), dtype=bool)
    plain = Scored(
        confidence=confidence, right=right, p_right=confidence, p_top=confidence, worth=ones,
        y=np.zeros(n, dtype=np.int64), answer=np.zeros((n, 2), dtype=np.int64), rungs=("linear", "encoder"),
        rung_usd=np.zeros(2), rung_ms=np.zeros(2), teacher_usd=0.001, teacher_ms=400.0,
    )  # fmt: skip

    def sizes(**more: Any) -> list[Any]:
        scored = Scored(**{**vars(plain), **more})
        return ladder_sizes(scored, (1.0, 1.0), 0.95, 0.05, (0.1, 2.0), (1_000, 20_000_000), 500)

    assert not sizes()[0].clears
    fenced = sizes(allowed=np.stack([~poor, ~poor], axis=1))
    assert [size.clears for size in fenced] == [True, True]
    assert [size.settled for size in fenced] == pytest.approx([1 - poor.mean()] * 2)
    assert fenced[1].local_ms == pytest.approx(0.1), "an answer in a fenced slice goes to the teacher at once"
    for kept_back in (
        {"admitted": np.stack([~poor, np.ones(n, dtype=bool)], axis=1)},
        {"strictness": np.where(poor[:, None], [1e-3, 1.0], 1.0)},
    ):
        first, both = sizes(**kept_back)
        assert first.clears
        assert first.settled == pytest.approx(1 - poor.mean())
        assert both.settled == pytest.approx(1.0)
