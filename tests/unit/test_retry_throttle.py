"""A client's second tries carry a burst over, and are few where a server is overloaded for long."""

from hypothesis import given
from hypothesis import strategies as st

from cascade.client.retry_throttle import RetryThrottle


def test_a_burst_is_carried_over_and_lasting_overload_is_not_multiplied() -> None:
    throttle = RetryThrottle()
    assert [throttle.allows() for _ in range(200)].count(True) == 49
    for _ in range(500):
        throttle.answered()
    assert not throttle.allows(), "half of them are there again, and this one took one"
    for _ in range(20):
        throttle.answered()
    assert throttle.allows()


@given(st.lists(st.booleans(), max_size=3000))
def test_there_are_no_more_second_tries_than_at_first_and_a_tenth_of_the_answers(calls: list[bool]) -> None:
    throttle, tries = RetryThrottle(), 0
    for answered in calls:
        if answered:
            throttle.answered()
        else:
            tries += throttle.allows()
    assert tries <= 50 + 0.1 * sum(calls)
