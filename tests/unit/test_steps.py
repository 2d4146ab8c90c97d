"""The steps of a rollout: who may move it, and that the guard wins."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.errors import RolloutRefused
from cascade.policy.guard import Action
from cascade.policy.steps import (
    SHARES,
    Approve,
    Event,
    Hold,
    Judged,
    RollBack,
    Rollout,
    Start,
    Status,
    apply,
)


def replay(*events: Event) -> Rollout:
    rollout = None
    for event in events:
        rollout = apply(rollout, event)
    assert rollout is not None
    return rollout


START = Start("0002", "ada")


def promote(step: int) -> Judged:
    return Judged(Action.PROMOTE, step, "good enough")


def test_evidence_alone_leads_from_shadow_to_all_traffic() -> None:
    rollout = replay(START, *(promote(step) for step in range(4)))
    assert rollout.share == 100
    assert rollout.full


def test_with_approval_it_waits_for_a_person_at_each_step() -> None:
    start = Start("0002", "ada", automatic=False)
    waiting = replay(start, promote(0))
    assert (waiting.status, waiting.share) == (Status.AWAITING, 0)
    assert apply(waiting, Approve("bob")).share == 1


def test_two_workers_that_judge_the_same_evidence_promote_once() -> None:
    assert replay(START, promote(0), promote(0)).step == 1


def test_approval_without_evidence_is_refused_unless_forced() -> None:
    running = replay(START)
    with pytest.raises(RolloutRefused, match="--force"):
        apply(running, Approve("bob"))
    assert "without the evidence" in apply(running, Approve("bob", force=True)).reason


def test_held_it_stays_whatever_the_evidence_until_approved() -> None:
    held = replay(START, Hold("ada", "launch day"), promote(0))
    assert (held.status, held.step) == (Status.HELD, 0)
    assert apply(held, Approve("ada")).status is Status.RUNNING


def test_the_guard_rolls_back_even_what_is_held_and_whatever_step_it_judged() -> None:
    rollout = replay(START, promote(0), Hold("ada"), Judged(Action.ROLL_BACK, 0, "12 of 30 disagreed"))
    assert rollout.status is Status.ROLLED_BACK
    assert rollout.share == 0
    assert rollout.reason == "12 of 30 disagreed"


def test_what_is_rolled_back_only_a_new_start_brings_back() -> None:
    over = replay(START, Judged(Action.ROLL_BACK, 0, "bad"))
    for event in (Approve("bob", force=True), Hold("bob")):
        with pytest.raises(RolloutRefused, match="start"):
            apply(over, event)
    assert apply(over, promote(0)) == over
    assert apply(over, START).status is Status.RUNNING


def test_doubt_takes_back_the_waiting_for_approval() -> None:
    rollout = replay(Start("0002", "ada", automatic=False), promote(0), Judged(Action.HOLD, 0, "looks bad"))
    assert rollout.status is Status.RUNNING


@pytest.mark.parametrize("shares", [(), (5, 1), (1, 1), (0, 120), (-1, 5)])
def test_steps_that_do_not_rise_within_0_and_100_are_refused(shares: tuple[int, ...]) -> None:
    with pytest.raises(RolloutRefused, match="rise"):
        replay(Start("0002", "ada", shares=shares))


def test_nothing_can_be_done_before_a_start() -> None:
    with pytest.raises(RolloutRefused, match="start"):
        apply(None, Hold("ada"))


events = st.one_of(
    st.builds(Approve, st.just("bob"), force=st.booleans()),
    st.builds(Hold, st.just("bob")),
    st.builds(Judged, st.sampled_from(Action), st.integers(0, 4), st.just("why")),
)


@given(st.lists(events, max_size=15), st.booleans())
def test_whatever_happens_only_the_guard_or_a_person_ends_it_and_steps_never_fall(
    more: list[Event], automatic: bool
) -> None:
    rollout = apply(None, Start("0002", "ada", automatic))
    for event in more:
        try:
            after = apply(rollout, event)
        except RolloutRefused:
            continue
        assert rollout.step <= after.step <= len(SHARES) - 1
        assert after.step - rollout.step <= 1
        if after.status is Status.ROLLED_BACK and rollout.status is not Status.ROLLED_BACK:
            assert isinstance(event, RollBack | Judged)
        if isinstance(event, Judged) and event.action is Action.ROLL_BACK:
            assert after.share == 0
        rollout = after
