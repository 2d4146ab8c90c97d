"""Alarms: raised by evidence, lowered by evidence, and not between."""

import json

import pytest

from cascade.policy import alarms
from cascade.policy.guard import Action

STORM = alarms.storm(expected=0.3)


def feed(
    settings: alarms.AlarmSettings, state: alarms.AlarmState, batches: list[tuple[int, list[int]]]
) -> alarms.AlarmState:
    for n, hits in batches:
        state = alarms.count(settings, state, state.seq + 1, n, hits)
    return state


def test_a_storm_is_raised_within_a_few_dozen_requests_and_rolls_back() -> None:
    state = feed(STORM, alarms.new_alarm(STORM), [(10, [9])] * 6)
    raised = alarms.raised(STORM, state)
    assert raised is not None
    assert raised.action is Action.ROLL_BACK
    assert "45 of 50" in raised.reason


def test_what_was_promised_raises_nothing() -> None:
    assert alarms.raised(STORM, feed(STORM, alarms.new_alarm(STORM), [(10, [3])] * 500)) is None


def test_no_alarm_on_fewer_than_the_least_count() -> None:
    assert not feed(STORM, alarms.new_alarm(STORM), [(10, [10])] * 4).raised


def test_an_alarm_at_the_ceiling_does_not_flap() -> None:
    state = feed(STORM, alarms.new_alarm(STORM), [(10, [9])] * 6)
    changes = 0
    for _ in range(300):
        after = feed(STORM, state, [(2, [1])])
        changes += after.raised is not state.raised
        state = after
    assert changes == 0
    assert state.raised


def test_it_is_lowered_when_the_rate_is_proven_to_be_below_and_can_be_raised_again() -> None:
    state = feed(STORM, alarms.new_alarm(STORM), [(10, [9])] * 6 + [(10, [2])] * 40)
    assert not state.raised
    assert state.reason == ""
    assert feed(STORM, state, [(10, [9])] * 8).raised


def test_a_batch_is_counted_once() -> None:
    state = alarms.count(STORM, alarms.new_alarm(STORM), 7, 10, [9])
    assert alarms.count(STORM, state, 7, 10, [9]) is state


def test_the_state_comes_back_from_json() -> None:
    state = feed(STORM, alarms.new_alarm(STORM), [(10, [4])] * 9)
    again = alarms.AlarmState.from_json(json.loads(json.dumps(state.to_json())))
    assert feed(STORM, again, [(10, [9])] * 4).to_json() == feed(STORM, state, [(10, [9])] * 4).to_json()


@pytest.mark.parametrize("hits", [[11], [-1], [1, 2]])
def test_impossible_counts_are_refused(hits: list[int]) -> None:
    with pytest.raises(ValueError, match="storm"):
        alarms.count(STORM, alarms.new_alarm(STORM), 0, 10, hits)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="ceilings"):
        alarms.latency(100, share=0.0)
    with pytest.raises(ValueError, match="bins"):
        alarms.AlarmSettings("drift", "lie", (0.5, 0.5), Action.HOLD, bins=("one",))
