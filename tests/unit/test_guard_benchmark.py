"""The guard's benchmark, small: what it is there to show holds at a tenth of its size too."""

from benchmarks.guard import BAR, DELTA, Scenario, run, sliced
from cascade.policy.guard_simulation import Truth


def test_at_the_bar_the_guard_keeps_its_promise_and_the_peeked_test_does_not() -> None:
    found = run(Scenario("at the bar", Truth(BAR), False), n_rollouts=200, horizon=3000, seed=1)
    assert found["guard"]["false rollbacks"]["share"] <= DELTA
    assert found["fixed-sample test"]["false rollbacks"]["share"] > 3 * DELTA


def test_what_is_below_the_bar_is_found_and_counted_from_the_change_on() -> None:
    bad = run(Scenario("below", Truth(BAR - 0.1), True), n_rollouts=100, horizon=1500, seed=1)
    assert bad["guard"]["detected"]["share"] == 1.0
    later = run(Scenario("later", Truth(0.99, (), 0.8, 3_000), True), n_rollouts=100, horizon=3000, seed=1)
    assert later["guard"]["detected"]["share"] == 1.0
    assert later["guard"]["median audits"] < 150
    assert later["guard"]["median settled"] < 3_000


def test_one_bad_slice_is_found_under_a_good_mean() -> None:
    found = run(Scenario("slice", sliced(BAR - 0.25, BAR + 0.03), True), n_rollouts=100, horizon=1500, seed=1)
    assert found["guard"]["detected"]["share"] > 0.95
