"""Audits: the teacher is asked after the caller was answered, and nobody is blamed for its absence."""

from typing import Any

from cascade.demo.frontier import SimulatedFrontier
from cascade.rollout.audit import coin
from cascade.rungs.breaker import CircuitBreaker
from tests.conftest import NODE
from tests.service.rollout_world import World, rows, send, settle


def test_audits_go_to_the_teacher_after_the_caller_was_answered_and_are_training_truth(
    world: World, unseen: list[dict[str, Any]], frontier: SimulatedFrontier
) -> None:
    engine = world.worker(rollout={"audit": {"ceiling": 0.5, "floor": 0.01}})
    before = frontier.requests
    decided = send(engine, unseen, 200)
    by_teacher = [d for d in decided if d.rung == "frontier"]
    assert frontier.requests == before + len(by_teacher), "nobody waits for an audit"
    drawn = {d.decision_id for d in decided if d.rung != "frontier" and coin(d.decision_id) < 0.5}
    settle(engine)
    assert frontier.requests == before + len(by_teacher) + len(drawn)
    done = rows(world, "SELECT decision_id, propensity, is_right, usd FROM audits WHERE status = 'done'")
    assert {r[0] for r in done} == drawn, "the same decision is drawn by anybody"
    assert all(r[1] == 0.5 and r[3] > 0 for r in done)
    answers = {d.decision_id: d.output for d in decided}
    engine._store.flush(10)
    truth = {r.id: r for r in engine._store.training_records(NODE)}
    by_text = {r["text"]: r["label"] for r in unseen}
    assert set(truth) == drawn | {d.decision_id for d in by_teacher}
    for id_, _, right, _ in done:
        assert truth[id_].output == by_text[truth[id_].text], "what the teacher said, not what was settled"
        assert (answers[id_] == truth[id_].output) == bool(right)
        assert truth[id_].propensity == 0.5
        assert truth[id_].source == "teacher"


def test_the_days_money_is_a_cap_and_what_was_drawn_waits(
    world: World, unseen: list[dict[str, Any]], frontier: SimulatedFrontier
) -> None:
    engine = world.worker(rollout={"audit": {"daily_usd": 0.0}})
    send(engine, unseen, 50)
    before = frontier.requests
    settle(engine, 3)
    assert frontier.requests == before
    assert engine.rollouts.judge.rate(NODE, engine.nodes[NODE].serving.plan.stable) == 0.0


def test_with_the_teacher_down_audits_wait_on_disk_and_nothing_is_blamed(
    world: World, unseen: list[dict[str, Any]], frontier: SimulatedFrontier
) -> None:
    engine = world.worker(rollout={"audit": {"max_in_flight": 4}})
    decided = send(engine, unseen, 60)
    frontier.faults.refuse_all = True
    try:
        settle(engine, 5)
    finally:
        frontier.faults.refuse_all = False
    waiting = rows(world, "SELECT decision_id FROM audits WHERE status = 'waiting'")
    assert waiting
    assert not rows(world, "SELECT 1 FROM evidence")
    assert engine.rollouts.auditor.counts.teacher_failures
    assert {d.bundle_version for d in decided} == {d.bundle_version for d in send(engine, unseen, 20)}
    engine.nodes[NODE].teacher.breaker = CircuitBreaker()
    engine.rollouts.auditor._not_before = 0.0
    settle(engine)
    assert not rows(world, "SELECT 1 FROM audits WHERE status = 'waiting'")
    assert len(rows(world, "SELECT 1 FROM evidence")) >= len(waiting)


def test_audits_of_a_process_that_is_no_more_are_taken_over(
    world: World, unseen: list[dict[str, Any]], frontier: SimulatedFrontier
) -> None:
    dead = world.worker()
    send(dead, unseen, 60)
    dead._store.flush(10)
    dead.rollouts.auditor._put_down()
    left = len(rows(world, "SELECT 1 FROM audits WHERE status = 'waiting'"))
    assert left
    heir = world.worker()
    settle(heir, 3)
    assert len(rows(world, "SELECT 1 FROM audits WHERE status = 'waiting'")) == left, "its lease holds"
    heir.rollouts.auditor.clock = lambda: 4e9  # a minute later, or a clock that jumped: then both may ask
    heir.rollouts.auditor._next_claim = 0.0
    settle(heir)
    assert not rows(world, "SELECT 1 FROM audits WHERE status = 'waiting'")
    assert len(rows(world, "SELECT 1 FROM evidence")) == left
    settle(dead)
    assert len(rows(world, "SELECT 1 FROM evidence")) == left, "asked twice counts once"
