"""Audits: the teacher is asked after the caller was answered, and nobody is blamed for its absence."""

from dataclasses import replace
from typing import Any

import pytest

from cascade.demo.frontier import SimulatedFrontier
from cascade.observe.rollouts import rollout_metrics
from cascade.policy.guard_settings import ALL
from cascade.rollout.audit import coin
from cascade.rollout.records import BROKEN
from cascade.rungs.breaker import CircuitBreaker
from tests.conftest import NODE
from tests.service.rollout_world import World, rows, send, settle
from training.ledger import unresolved_audits


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


def test_while_the_guard_still_reads_no_more_is_drawn_than_the_ceiling(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = world.worker(rollout={"audit": {"ceiling": 0.3}})
    judge, store = engine.rollouts.judge, engine.rollouts.store
    version = engine.nodes[NODE].serving.plan.stable
    read, rates = store.evidence, [judge.rate(NODE, version)]

    def evidence(*args: Any) -> Any:
        rates.append(judge.rate(NODE, version))
        return read(*args)

    monkeypatch.setattr(store, "evidence", evidence)
    engine.rollouts.turn()
    rates.append(judge.rate(NODE, version))
    assert len(rates) >= 3
    assert set(rates) == {0.3}


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
    engine.rollouts.auditor._ready.probe_now()
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


@pytest.mark.parametrize(
    ("does", "said"),
    [("garbage_rate", "cannot be read"), ("refusal_rate", "refused to answer"), ("another label", BROKEN)],
)
def test_a_teacher_that_breaks_the_contract_gives_no_verdict_and_nothing_is_lost_silently(
    world: World, unseen: list[dict[str, Any]], frontier: SimulatedFrontier, does: str, said: str
) -> None:
    engine = world.worker(rollout={"audit": {"ceiling": 1.0}})
    decided = send(engine, unseen, 60)
    drawn = {d.decision_id for d in decided if d.rung != "frontier"}
    before = frontier.requests
    try:
        if does == "another label":
            audited = engine.rollouts.auditor.nodes[NODE]
            engine.rollouts.auditor.nodes = {NODE: replace(audited, check=lambda *_: "'x' is no label")}
        else:
            setattr(frontier.faults, does, 1.0)
        settle(engine)
    finally:
        frontier.faults.garbage_rate = frontier.faults.refusal_rate = 0.0
    assert frontier.requests == before + 3 * len(drawn), "it might say it better another time"
    assert engine.rollouts.auditor.counts.no_verdict == len(drawn)
    assert engine.rollouts.auditor.counts.given_up == 0
    found = rows(world, "SELECT decision_id, status, is_right, usd, output, error FROM audits")
    assert {r[0] for r in found} == drawn
    # What it cost is counted; what the teacher said is nowhere.
    assert {(r[1], r[2], r[3] > 0, r[4]) for r in found} == {("no-verdict", None, True, None)}
    (why,) = {r[5] for r in found}
    assert said in why
    # The guard heeds them: no blame, no proof.
    bundle = engine.nodes[NODE].bundle.version
    guard = engine.rollouts.judge.guard(NODE, bundle)
    assert guard is not None
    assert (guard.parts[ALL].audits, guard.promotion.unjudged, guard.evidence) == (0, len(drawn), 1.0)
    # They are counted where people look.
    found_metrics = {metric.name: metric for metric in rollout_metrics(world.config(), engine._store)}
    (sample,) = found_metrics["cascade_audits_unresolved"].samples
    assert (sample.labels["why"], sample.value) == ("no-verdict", len(drawn))
    assert not found_metrics["cascade_audits"].samples
    assert unresolved_audits(engine._store, NODE, 0.0) == ((f"audit without verdict: {why}", len(drawn)),)
    # No truth for training comes of them.
    engine._store.flush(10)
    assert not drawn & {record.id for record in engine._store.training_records(NODE)}
