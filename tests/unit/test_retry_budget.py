"""A client's second tries carry a burst over, and are few where a server is overloaded for long."""

from hypothesis import given
from hypothesis import strategies as st

from cascade.client.retry_budget import RetryBudget


def test_a_burst_is_carried_over_and_time_and_answers_give_second_tries_back() -> None:
    now = 0.0
    budget = RetryBudget(clock=lambda: now)
    assert [budget.spend() for _ in range(200)].count(True) == 100
    now = 2.5
    assert [budget.spend() for _ in range(5)] == [True, True, False, False, False]
    for _ in range(16):
        budget.answered()
    assert [budget.spend() for _ in range(5)] == [True, True, False, False, False]
    now = 1000.0
    assert [budget.spend() for _ in range(200)].count(True) == 100, "a long time gives no more than a burst"


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), max_size=2000))
def test_there_are_no_more_than_the_reserve_those_of_the_seconds_and_a_tenth_of_the_answers(
    calls: list[tuple[bool, float]],
) -> None:
    now = 0.0
    budget, tries = RetryBudget(reserve=20.0, clock=lambda: now), 0
    for answered, seconds in calls:
        now += seconds
        if answered:
            budget.answered()
        else:
            tries += budget.spend()
    assert tries <= 20 + now + 0.1 * sum(answered for answered, _ in calls) + 1e-6
