"""The betting test: evidence against a true null is rare, whatever an adversary does."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cascade.policy.eprocess import BettingTest, Wealth

STREAMS, LENGTH = 2000, 1500


def highest(test: BettingTest, draw: "Adversary") -> NDArray[np.float64]:
    """The highest evidence of each stream, looked at after every record."""
    wealth, peak = test.start((STREAMS,)), np.ones(STREAMS)
    for _ in range(LENGTH):
        x, weight = draw(test, wealth)
        wealth = test.bet(wealth, x, weight)
        peak = np.maximum(peak, test.evidence(wealth))
    return peak


class Adversary:
    """Chooses each record's distribution after seeing all wealth; its mean is exactly the limit."""

    def __init__(self, kind: str, limit: float) -> None:
        self.kind, self.limit, self.rng = kind, limit, np.random.default_rng(5)

    def __call__(self, test: BettingTest, wealth: Wealth) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        m, rng = self.limit, self.rng
        ones = np.ones(STREAMS)
        hit = (rng.random(STREAMS) < m).astype(float)
        if self.kind == "coin":
            return hit, ones
        if self.kind == "low variance while losing":
            # gambles only while it is close to winning; else gives the limit itself
            risky = test.evidence(wealth) > 1.5
            return np.where(risky, hit, m), ones
        if self.kind == "heavy stakes when poor":
            spread = np.where(test.evidence(wealth) < 1, 1.0, min(m, 1 - m))
            high = m + (1 - m) * spread
            low = m - m * spread
            chance = (m - low) / (high - low)
            return np.where(rng.random(STREAMS) < chance, high, low), ones
        if self.kind == WEIGHTED:
            # two kinds of requests, drawn with propensities 1 and 0.2; one kind is all the disagreement
            easy = rng.random(STREAMS) < 1 / (1 + 0.2)  # among the sampled, of as many easy as hard
            rate = np.where(easy, 0.0, 2 * m)
            return (rng.random(STREAMS) < rate).astype(float), np.where(easy, 0.2, 1.0)
        raise AssertionError(self.kind)


WEIGHTED = "weights that depend on the answer's kind"
KINDS = ["coin", "low variance while losing", "heavy stakes when poor", WEIGHTED]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("direction", "restarts"), [("above", True), ("below", False)])
def test_the_chance_to_ever_see_1_over_delta_is_at_most_delta(
    kind: str, direction: str, restarts: bool
) -> None:
    limit = 0.05
    test = BettingTest.of(limit, direction, restarts)  # type: ignore[arg-type]
    peak = highest(test, Adversary(kind, limit))
    for delta in (0.2, 0.05):
        # 3 standard errors above delta: a valid test fails once in a thousand seeds, and the seed is fixed
        assert (peak >= 1 / delta).mean() <= delta + 3 * np.sqrt(delta * (1 - delta) / STREAMS)


def test_without_its_weights_the_same_records_would_break_the_promise() -> None:
    limit = 0.05
    adversary = Adversary(WEIGHTED, limit)
    test = BettingTest.of(limit, "below", restarts=False)
    peak = highest(test, lambda t, w: (adversary(t, w)[0], np.ones(STREAMS)))  # type: ignore[arg-type]
    assert (peak >= 20).mean() > 0.9


def test_evidence_has_expectation_one_at_the_limit() -> None:
    # every path of four records, weighed by its probability: the mixture is a martingale, exactly
    for direction, restarts in (("above", True), ("below", False), ("below", True)):
        test = BettingTest.of(0.3, direction, restarts)  # type: ignore[arg-type]
        paths = np.array(np.meshgrid(*[[0, 1]] * 4)).reshape(4, -1)
        chance = np.where(paths == 1, 0.3, 0.7).prod(axis=0)
        wealth = test.start((paths.shape[1],))
        for x in paths:
            wealth = test.bet(wealth, x)
        assert float((chance * test.evidence(wealth)).sum()) == pytest.approx(1.0, abs=1e-12)


@given(
    st.floats(0.001, 0.999), st.sampled_from(["above", "below"]), st.booleans(),
    st.lists(st.tuples(st.floats(0, 1), st.floats(0.001, 1)), max_size=60),
)  # fmt: skip
@settings(max_examples=150)
def test_evidence_is_finite_and_never_negative(
    limit: float, direction: str, restarts: bool, records: list[tuple[float, float]]
) -> None:
    test = BettingTest.of(limit, direction, restarts)  # type: ignore[arg-type]
    wealth = test.start()
    for x, weight in records:
        wealth = test.bet(wealth, x, weight)
        evidence = float(test.evidence(wealth))
        assert np.isfinite(evidence)
        assert evidence >= 0


@given(st.floats(0.01, 0.9), st.integers(0, 30), st.integers(0, 30), st.booleans())
@settings(max_examples=100)
def test_a_batch_is_worth_what_its_records_are_where_nothing_restarts(
    limit: float, hits: int, misses: int, hits_first: bool
) -> None:
    test = BettingTest.of(limit, "above", restarts=False)
    order = [1] * hits + [0] * misses if hits_first else [0] * misses + [1] * hits
    one_by_one = test.start()
    for x in order:
        one_by_one = test.bet(one_by_one, x)
    batch = test.bet_counts(test.start(), hits, hits + misses)
    assert float(batch.count) == hits + misses
    assert np.allclose(batch.active, one_by_one.active, rtol=1e-8)


def test_evidence_beyond_all_numbers_stays_a_number() -> None:
    test = BettingTest.of(0.01, "above", restarts=True)
    wealth = test.bet_counts(test.start(), 10_000, 10_000)
    assert np.isfinite(test.evidence(test.bet(wealth, 0)))


def test_many_streams_at_once_are_the_same_as_each_alone() -> None:
    rng = np.random.default_rng(3)
    x, test = rng.integers(0, 2, (50, 7)), BettingTest.of(0.2, "above", restarts=True)
    together = test.start((7,))
    alone = [test.start() for _ in range(7)]
    for row in x:
        together = test.bet(together, row)
        alone = [test.bet(own, value) for own, value in zip(alone, row, strict=True)]
    assert together.active.tolist() == [own.active.tolist() for own in alone]


@pytest.mark.parametrize("limit", [0.0, 1.0, -0.1])
def test_a_limit_outside_0_and_1_is_refused(limit: float) -> None:
    with pytest.raises(ValueError, match="limit"):
        BettingTest.of(limit, "above", restarts=True)
