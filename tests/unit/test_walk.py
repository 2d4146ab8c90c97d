"""Where a request starts, and what a rung's answer needs to settle: the same of one request and of many."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cascade.policy.walk import LadderPolicy, LocalRung

P = st.floats(0, 1, width=32)


@given(st.lists(P, min_size=1, max_size=4).flatmap(
    lambda floors: st.tuples(st.just(floors), arrays(np.float32, (5, len(floors)), elements=P))
))  # fmt: skip
def test_one_request_starts_where_it_would_among_many(drawn: tuple[list[float], np.ndarray]) -> None:
    floors, p_right = drawn
    rungs = tuple(LocalRung(str(r), 0.5, floor) for r, floor in enumerate(floors))
    policy = LadderPolicy(rungs, certified=True)
    worth = policy.worth_running(p_right)
    for row, each in zip(worth.tolist(), p_right.tolist(), strict=True):
        start = policy.start(each)
        assert row == [r >= start for r in range(len(floors))]


def test_a_request_that_no_rung_is_worth_starts_above_them_all() -> None:
    policy = LadderPolicy((LocalRung("linear", 0.5, 0.9), LocalRung("encoder", 0.5, 0.8)), certified=True)
    assert policy.start([0.1, 0.2]) == 2
    assert policy.start([0.1, 0.875]) == 1
    assert policy.start([0.95, 0.0]) == 0
