"""A node's rollout as the fold of its events."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.errors import RolloutRefused
from cascade.policy.steps import Status
from cascade.rollout.state import GUARD, Event, Life, NodeRollout, What, apply, fold

OLD, NEW, NEXT = "0001-aaaaaaaa", "0002-bbbbbbbb", "0003-cccccccc"


class Story:
    """A state, and the events that came to it."""

    def __init__(self) -> None:
        self.state = NodeRollout("node")
        self.events: list[Event] = []

    def event(self, what: What, bundle: str = NEW, who: str = GUARD, **data: Any) -> Event:
        return Event(
            "node", self.state.seq + 1, 100.0 + self.state.seq, who, what, f"because of {what}", bundle, data
        )

    def tell(self, what: What, bundle: str = NEW, who: str = GUARD, **data: Any) -> NodeRollout:
        event = self.event(what, bundle, who, **data)
        self.state = apply(self.state, event)
        self.events.append(event)
        return self.state

    def start(self, bundle: str = NEW, stable: str = "", **data: Any) -> NodeRollout:
        return self.tell("start", bundle, "ada", stable=stable, shares=[0, 1, 5, 25, 100], **data)

    def promote(self, times: int = 1, bundle: str = NEW) -> NodeRollout:
        for _ in range(times):
            assert self.state.rollout is not None
            self.tell("promote", bundle, step=self.state.rollout.step)
        return self.state


def test_before_any_event_the_pointer_says_what_serves() -> None:
    plan = NodeRollout("node").plan(OLD)
    assert (plan.stable, plan.candidate, plan.share, plan.barred) == (OLD, "", 0, frozenset())


def test_a_rollout_goes_from_shadow_up_to_everybody_and_then_is_stable() -> None:
    story = Story()
    story.start(stable=OLD)
    seen = [story.state.plan(OLD)]
    for _ in range(4):
        seen.append(story.promote().plan(OLD))
    assert [(p.stable, p.candidate, p.share, p.shadow) for p in seen] == [
        (OLD, NEW, 0, True), (OLD, NEW, 0.01, False), (OLD, NEW, 0.05, False), (OLD, NEW, 0.25, False),
        (NEW, "", 0, False),
    ]  # fmt: skip
    assert seen[-1].spare == OLD


def test_a_rolled_back_candidate_is_barred_and_the_stable_bundle_serves() -> None:
    story = Story()
    story.start(stable=OLD)
    story.promote(2)
    plan = story.tell("rollback").plan(OLD)
    assert (plan.stable, plan.candidate, plan.share, plan.barred) == (OLD, "", 0, frozenset({NEW}))
    assert story.state.barred[NEW] == "because of rollback"


def test_a_bundle_that_is_rolled_back_after_the_last_step_gives_way_to_the_one_before() -> None:
    story = Story()
    story.start(stable=OLD)
    story.promote(4)
    assert story.state.plan(NEW).stable == NEW
    assert story.tell("rollback").plan(NEW).stable == OLD


def test_what_only_the_pointer_named_can_be_rolled_back_to_the_teacher() -> None:
    story = Story()
    plan = story.tell("rollback", OLD).plan(OLD)
    assert plan.stable == ""
    assert plan.barred == {OLD}


def test_a_newer_pointer_counts_and_one_that_a_rollout_replaced_does_not() -> None:
    story = Story()
    story.start(stable=OLD)
    story.promote(4)
    assert story.state.stable(OLD) == NEW, "the pointer was not moved on this machine"
    assert story.state.stable(NEXT) == NEXT, "retraining put a newer one there"


def test_the_pointer_that_a_completed_rollout_did_not_move_is_told_and_a_newer_one_is_left() -> None:
    story = Story()
    story.start(stable=OLD)
    assert story.promote(3).overdue(OLD) == "", "it is on its way"
    story.promote()
    assert story.state.overdue(OLD) == story.state.overdue("") == NEW
    assert story.state.overdue(NEW) == story.state.overdue(NEXT) == ""
    assert story.tell("rollback").overdue(OLD) == ""


def test_a_started_bundle_leaves_the_pointer_that_names_it_without_effect() -> None:
    story = Story()
    story.start(NEW, stable="")
    plan = story.state.plan(NEW)
    assert (plan.stable, plan.candidate, plan.shadow) == ("", NEW, True)


def test_a_bundle_that_is_doubted_and_then_given_up_for_another_does_not_come_back_by_the_pointer() -> None:
    story = Story()
    story.start(stable=OLD)
    story.promote(4)
    assert story.state.stable(NEW) == NEW
    story.start(NEW, stable=OLD, step=2)
    assert story.state.plan(NEW).stable == OLD
    story.start(NEXT, stable=OLD, step=2)
    plan = story.state.plan(NEW)
    assert (plan.stable, plan.candidate) == (OLD, NEXT)
    assert story.state.given_up == (NEW,)
    gone = apply(story.state, story.event("rollback", NEXT))
    assert gone.stable(NEW) == OLD
    full = story.promote(2, NEXT)
    assert (full.stable(NEW), full.overdue(NEW)) == (NEXT, NEXT), "the pointer is behind, and nothing newer"
    again = story.start(NEW, stable=NEXT)
    assert again.given_up == ()
    story.promote(4)
    assert story.state.stable(NEW) == NEW, "started again, it has proven itself"


def test_what_the_teacher_alone_stood_in_for_stays_off_the_traffic_when_it_is_given_up() -> None:
    story = Story()
    story.start(NEW, stable="", step=2)  # taken off the traffic, by force; the pointer names it
    assert story.start(NEXT, stable="", step=2).plan(NEW).stable == ""


def test_a_bundle_that_was_given_up_unproven_serves_nobody_when_the_stable_one_is_rolled_back() -> None:
    story = Story()
    story.start(NEW, stable=OLD, step=1)
    story.start(NEXT, stable=OLD, step=1)
    story.tell("rollback", NEXT)
    assert story.tell("rollback", OLD).plan(OLD).stable == ""


def test_what_ended_otherwise_is_not_given_up() -> None:
    story = Story()
    story.start(stable=OLD, step=1)
    assert story.start(stable=OLD, step=1).given_up == (), "started anew itself"
    story.tell("rollback")
    assert story.start(NEXT, stable=OLD).given_up == (), "rolled back"
    story.promote(4, NEXT)
    state = story.start(NEW, stable=NEXT)
    assert (state.given_up, state.replaced) == ((), (OLD,)), "completed"


def test_starting_again_lifts_the_bar_and_begins_a_new_life() -> None:
    story = Story()
    story.start(stable=OLD)
    story.tell("rollback")
    life = story.state.life_of(NEW)
    state = story.start(stable=OLD, marks=[17, 40])
    assert NEW not in state.barred
    assert state.life_of(NEW) == Life(3, 17, 40)
    assert life == Life(1, 0, 0)


def test_a_bundle_keeps_its_life_whoever_is_rolled_out_after_it() -> None:
    story = Story()
    story.start(OLD, marks=[17, 40])
    story.promote(4, OLD)
    state = story.start(NEW, stable=OLD, marks=[90, 95])
    assert state.life_of(OLD) == Life(1, 17, 40)
    assert state.life_of(NEW) == Life(6, 90, 95)
    assert state.life_of(NEXT) == Life(), "what was never started counts all of its evidence"


def test_with_approval_the_guard_waits_for_a_person_and_can_doubt_again() -> None:
    story = Story()
    story.start(stable=OLD, automatic=False)
    assert story.promote().rollout is not None
    assert story.state.rollout is not None
    assert story.state.rollout.status is Status.AWAITING
    assert story.state.plan(OLD).share == 0
    story.tell("doubt", step=0)
    with pytest.raises(RolloutRefused, match="not there yet"):
        apply(story.state, story.event("approve", who="ada"))
    story.promote()
    assert story.tell("approve", who="ada").plan(OLD).share == 0.01


def test_a_hold_keeps_the_share_until_someone_approves() -> None:
    story = Story()
    story.start(stable=OLD)
    story.promote()
    story.tell("hold", who="ada")
    assert story.promote().plan(OLD).share == 0.01, "a promotion while held changes nothing"
    story.tell("approve", who="ada")
    assert story.promote().plan(OLD).share == 0.05


def test_an_event_for_another_place_is_refused_so_that_one_of_two_writers_must_read_again() -> None:
    story = Story()
    first, second = story.event("start", who="ada"), story.event("start", who="bob")
    state = apply(story.state, first)
    with pytest.raises(ValueError, match="does not follow"):
        apply(state, second)


def test_clocks_that_jump_do_not_change_the_order() -> None:
    story = Story()
    story.start(stable=OLD)
    story.promote(2)
    jumped = [
        Event(e.node, e.seq, t, e.who, e.what, e.why, e.bundle, e.data)
        for e, t in zip(story.events, (5e9, -1.0, 0.0), strict=True)
    ]
    assert fold(NodeRollout("node"), jumped).plan(OLD) == story.state.plan(OLD)


def test_a_fence_leaves_the_rollout_where_it_is() -> None:
    story = Story()
    story.start(stable=OLD)
    before = story.promote(2)
    for bundle in (OLD, NEW):
        after = story.tell("fence", bundle, n=900, p_value=1e-9, level=0.01)
        assert (after.rollout, after.since, after.step_seq) == (before.rollout, before.since, before.step_seq)
    assert after.plan(OLD).fenced == {OLD: "because of fence", NEW: "because of fence"}
    assert (after.plan(OLD).candidate, after.plan(OLD).share) == (NEW, 0.05)
    assert story.start(stable=OLD).plan(OLD).fenced == {OLD: "because of fence"}


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["start", "promote", "doubt", "approve", "hold", "rollback", "fence"]),
        st.sampled_from([OLD, NEW, NEXT]), st.sampled_from([GUARD, "ada"]), st.booleans(),
        st.integers(0, 4),
    ),
    max_size=30,
)  # fmt: skip


@given(EVENTS, st.sampled_from(["", OLD, NEW, NEXT]))
def test_any_events_fold_and_what_was_rolled_back_last_is_served_to_nobody(
    told: list[tuple[Any, str, str, bool, int]], pointer: str
) -> None:
    events = [
        Event(
            "node", i + 1, float(i), who, what, "why", bundle,
            {"stable": OLD, "shares": [0, 1, 5, 25, 100], "automatic": flag, "force": flag, "step": step},
        )
        for i, (what, bundle, who, flag, step) in enumerate(told)
    ]  # fmt: skip
    state = fold(NodeRollout("node"), events)
    assert state.seq == len(events)
    # read in pieces, as another worker does
    half = len(events) // 2
    assert fold(fold(NodeRollout("node"), events[:half]), events[half:]) == state
    states = [fold(NodeRollout("node"), events[:n]) for n in range(len(events) + 1)]
    begun = zip(states, events, strict=False)
    if not any(e.what == "start" and s.candidate not in ("", e.bundle, OLD) for s, e in begun):
        assert state.given_up == (), "such histories fold as they always did"
    plan = state.plan(pointer)
    assert plan.stable not in state.given_up
    assert not {plan.stable, plan.candidate, plan.spare} & set(plan.barred)
    marked = {bundle: what for what, bundle, *_ in told if what in ("start", "fence")}
    assert set(state.fenced) == set(plan.fenced) == {b for b, what in marked.items() if what == "fence"}
    last = {bundle: what for what, bundle, *_ in told if what in ("start", "rollback")}
    for bundle, what in last.items():
        assert (bundle in state.barred) == (what == "rollback")
