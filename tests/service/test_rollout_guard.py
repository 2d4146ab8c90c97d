"""The guard on the real service: good bundles go up by evidence, bad ones are pulled back."""

import time
from concurrent.futures import Future
from typing import Any

import pytest

from cascade.ask import Ask, Decided
from cascade.errors import BundleError, DeadlineExceeded, RolloutRefused, TeacherUnavailable
from cascade.pointer import POINTER
from cascade.policy.steps import Status
from cascade.rollout.alarm_board import shown_alarms
from cascade.rollout.verbs import Verbs
from cascade.rungs.protocol import Answer, Query
from cascade.server.engine import Engine
from cascade.server.teacher import teacher_answer
from tests.conftest import NODE
from tests.service.rollout_world import World, send, settle, until, until_changed


def test_a_good_bundle_goes_up_step_by_step_by_evidence_and_becomes_the_stable_one(
    world: World, unseen: list[dict[str, Any]]
) -> None:
    world.unpoint()
    engine = world.worker(rollout={"steps": [10, 50, 100]})
    verbs = Verbs(world.config(rollout={"steps": [10, 50, 100]}), engine.rollouts.store)
    version = verbs.start(NODE, "ada", "new training data").candidate
    engine.refresh()
    seen: set[tuple[str, float]] = set()

    def full() -> bool:
        plan = engine.nodes[NODE].serving.plan
        seen.add((plan.candidate, plan.share))
        rollout = engine.rollouts.follower.state(NODE).rollout
        return rollout is not None and rollout.full

    until(engine, unseen, full)
    assert [share for _, share in sorted(seen)][1:] == [0.0, 0.1, 0.5]
    assert {d.mode for d in send(engine, unseen, 40)} == {"live"}
    assert (world.models / NODE / POINTER).read_text().strip() == version
    history = verbs.history(NODE)
    assert [e.what for e in history] == ["start", "promote", "promote", "promote"]
    assert [e.who for e in history] == ["ada", "guard", "guard", "guard"]
    assert all("agreement is at least" in e.why for e in history[1:])


def test_a_poisoned_bundle_is_pulled_back_by_itself_for_every_worker_and_after_a_restart(
    world: World, unseen: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    one, two = world.worker(), world.worker()
    good = one.nodes[NODE].serving.plan.stable
    bad = world.copy(2, wrong=0.5)
    world.flags(bundle=bad)
    world.verbs(one).start(NODE, "ada", bundle=bad, percent=25)
    for engine in (one, two):
        assert engine.flags.provider.look()  # type: ignore[attr-defined]
        until_changed(engine, lambda e=engine: e.flags.of(NODE, {}, "k").bundle == bad)  # type: ignore[misc]
        engine.refresh()
    assert {d.bundle_version for d in send(two, unseen, 20)} == {bad}, "the flag brings it to everybody"
    state = one.rollouts.follower.state
    sent = until(one, unseen, lambda: bad in state(NODE).barred)
    assert sent <= 400
    assert "disagreed with the teacher" in state(NODE).barred[bad]
    assert {d.bundle_version for d in send(one, unseen, 20)} == {good}, "the guard wins over the flag"
    assert "was rolled back" in caplog.text
    two.rollouts.watch.follow()
    assert {d.bundle_version for d in send(two, unseen, 20)} == {good}
    assert {d.bundle_version for d in send(world.worker(), unseen, 20)} == {good}, "a restart"
    events = world.verbs(one).history(NODE)
    assert [(e.what, e.who) for e in events] == [("start", "ada"), ("rollback", "guard")]
    with pytest.raises(RolloutRefused, match="was rolled back"):
        world.verbs(one).start(NODE, "ada", bundle=bad)


def test_callers_who_leave_no_time_pull_no_bundle_back(world: World, unseen: list[dict[str, Any]]) -> None:
    engine = world.worker()
    good = engine.nodes[NODE].serving.plan.stable
    for record in unseen[:100]:
        with pytest.raises(DeadlineExceeded):
            engine.decide(Ask(NODE, record["text"], deadline=time.monotonic()))
    settle(engine)
    assert engine.rollouts.follower.state(NODE).barred == {}
    assert {d.bundle_version for d in send(engine, unseen, 20)} == {good}


def test_the_stable_bundle_is_watched_as_well_and_gives_way_to_the_teacher(
    world: World, unseen: list[dict[str, Any]]
) -> None:
    bad = world.copy(2, wrong=0.6)
    (world.models / NODE / POINTER).write_text(bad + "\n")
    engine = world.worker()
    until(engine, unseen, lambda: bad in engine.rollouts.follower.state(NODE).barred)
    assert {d.rung for d in send(engine, unseen, 20)} == {"frontier"}


def test_manual_approval_waits_for_a_person(world: World, unseen: list[dict[str, Any]]) -> None:
    world.unpoint()
    engine = world.worker()
    verbs = world.verbs(engine)
    verbs.start(NODE, "ada", approval="manual")
    engine.refresh()
    state = engine.rollouts.follower.state

    def awaiting() -> bool:
        rollout = state(NODE).rollout
        return rollout is not None and rollout.status is Status.AWAITING

    until(engine, unseen, awaiting)
    assert engine.nodes[NODE].serving.plan.share == 0
    verbs.approve(NODE, "ada", "looks good")
    engine.refresh()
    assert engine.nodes[NODE].serving.plan.share == 0.01


def test_what_a_person_may_not_do_is_refused_with_the_reason(
    world: World, unseen: list[dict[str, Any]]
) -> None:
    engine = world.worker()
    verbs = world.verbs(engine)
    with pytest.raises(RolloutRefused, match="no rollout was started"):
        verbs.hold(NODE, "ada")
    with pytest.raises(BundleError, match="missing"):
        verbs.start(NODE, "ada", bundle="0009-ffffffff")
    with pytest.raises(BundleError, match="is no bundle's version"):
        verbs.start(NODE, "ada", bundle="../../elsewhere")
    with pytest.raises(RolloutRefused, match="none of the steps"):
        verbs.start(NODE, "ada", percent=7)
    with pytest.raises(RolloutRefused, match="serves everybody already"):
        verbs.start(NODE, "ada")
    assert not verbs.history(NODE), "what serves was left alone"
    new = world.copy(2)
    verbs.start(NODE, "ada", bundle=new)
    with pytest.raises(RolloutRefused, match="is under way"):
        verbs.start(NODE, "bob", bundle=new)
    with pytest.raises(RolloutRefused, match="not there yet"):
        verbs.approve(NODE, "bob")
    verbs.hold(NODE, "bob", "weekend")
    verbs.approve(NODE, "bob")
    state = verbs.rollback(NODE, "bob", "a bad feeling")
    assert state.barred == {new: "a bad feeling"}
    assert [e.what for e in verbs.history(NODE)] == ["start", "hold", "approve", "rollback"]


def test_outcomes_that_callers_report_can_pull_a_bundle_back(
    world: World, unseen: list[dict[str, Any]]
) -> None:
    engine = world.worker(rollout={"audit": {"daily_usd": 0.0}})
    stable = engine.nodes[NODE].serving.plan.stable
    settled = [d for d in send(engine, unseen, 300) if d.rung != "frontier"]
    for decided in settled[: int(len(settled) * 0.6)]:
        engine.report(decided.decision_id, None, False, None)
    engine._store.flush(10)
    settle(engine, 3)
    assert stable in engine.rollouts.follower.state(NODE).barred
    assert "reported wrong" in engine.rollouts.follower.state(NODE).barred[stable]


def test_callers_who_report_all_right_neither_promote_a_bad_bundle_nor_mute_the_guard(
    world: World, unseen: list[dict[str, Any]]
) -> None:
    world.unpoint()
    engine = world.worker(rollout={"steps": [10, 50, 100]})
    bad = world.copy(2, wrong=0.6)
    world.verbs(engine).start(NODE, "ada", bundle=bad, percent=25)
    engine.refresh()
    reported = 0
    for sent in range(0, 1500, 100):
        decided = send(engine, unseen, 100, sent)
        engine._store.flush(10)
        for each in decided:
            if each.bundle_version == bad and each.rung != "frontier":
                engine.report(each.decision_id, None, True, None)
                reported += 1
        settle(engine)
        if bad in engine.rollouts.follower.state(NODE).barred:
            break
    assert reported
    assert "disagreed with the teacher" in engine.rollouts.follower.state(NODE).barred[bad]
    assert [e.what for e in world.verbs(engine).history(NODE)] == ["start", "rollback"]


def test_what_escalates_is_counted_before_the_teacher_is_waited_for(
    world: World, unseen: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the last requests of each burst would all be escalations, and look like a storm."""
    engine = world.worker()
    counted: list[int] = []

    def asked(*arguments: Any) -> Any:
        alarms = next(iter(engine.rollouts.alarms._alarms.values()))
        counted.append(alarms.counts.local + alarms.counts.waiting + alarms.counts.answered)
        return teacher_answer(*arguments)

    monkeypatch.setattr("cascade.server.together.teacher_answer", asked)
    send(engine, unseen, 80)
    assert counted
    assert set(counted) == {80}


def escalate_most(engine: Engine, unseen: list[dict[str, Any]]) -> None:
    """Allow few answers, so that the bundle settles few."""
    choices = ("refund_status", "return_item")
    for i in range(0, 400, 50):
        asks = [Ask(NODE, f"{unseen[i + j]['text']} ", choices=choices) for j in range(50)]
        assert len(engine.decide_many(asks)) == 50
        engine.rollouts.turn()


def answers_with(engine: Engine, monkeypatch: pytest.MonkeyPatch, answer: Answer) -> None:
    def submit(_: Query) -> Future[Answer]:
        done: Future[Answer] = Future()
        done.set_result(answer)
        return done

    monkeypatch.setattr(engine.nodes[NODE].teacher, "submit", submit)


@pytest.mark.parametrize("place", ["candidate", "stable", "stable, with one before"])
def test_an_escalation_storm_pulls_a_candidate_back_and_is_shown_of_what_everybody_is_served_by(
    world: World, unseen: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    engine = world.worker(rollout={"audit": {"daily_usd": 0.0}})
    stable = version = engine.nodes[NODE].serving.plan.stable
    if place != "stable":
        version = world.copy(2)
        verbs = world.verbs(engine)
        verbs.start(NODE, "ada", bundle=version, percent=25)
        engine.refresh()
        if place == "stable, with one before":
            verbs.approve(NODE, "ada", force=True)
            engine.refresh()
    answers_with(engine, monkeypatch, Answer("refund_status"))
    escalate_most(engine, unseen)
    barred = engine.rollouts.follower.state(NODE).barred
    if place == "candidate":
        assert "escalated to the teacher" in barred[version]
        assert engine.nodes[NODE].serving.plan.stable == stable
        return
    assert barred == {}
    assert engine.nodes[NODE].serving.plan.stable == version
    (alarm,) = [each for each in shown_alarms(engine._store, NODE, time.time()) if each.name == "storm"]
    assert (alarm.bundle, alarm.action) == (version, "hold")


def test_a_dead_teacher_and_callers_who_ask_again_pull_no_candidate_back(
    world: World, unseen: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = world.worker(rollout={"audit": {"daily_usd": 0.0}})
    version = world.copy(2)
    world.flags(bundle=version)  # for everybody
    world.verbs(engine).start(NODE, "ada", bundle=version, percent=25)
    assert engine.flags.provider.look()  # type: ignore[attr-defined]
    until_changed(engine, lambda: engine.flags.of(NODE, {}, "k").bundle == version)
    engine.refresh()
    answers_with(engine, monkeypatch, Answer(error=TeacherUnavailable("down")))
    failed = 0
    for i, record in enumerate(unseen[:300]):
        for _ in range(3):  # as an OpenAI client does
            (result,) = engine.decide_many([Ask(NODE, record["text"])])
            if isinstance(result, Decided):
                break
            failed += 1
        if i % 10 == 9:
            engine.rollouts.turn()
    assert failed > 90
    assert engine.rollouts.follower.state(NODE).barred == {}


def test_a_rung_that_fails_for_a_second_pulls_back_nothing_that_serves(
    world: World, unseen: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = world.worker(rollout={"audit": {"daily_usd": 0.0}})
    bundle = engine.nodes[NODE].bundle
    assert bundle is not None
    answers_with(engine, monkeypatch, Answer(error=TeacherUnavailable("down")))

    def broken(*_: Any) -> Any:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(bundle.ladder, "run", broken)
        for i in range(0, 200, 20):
            engine.decide_many([Ask(NODE, record["text"]) for record in unseen[i : i + 20]])
            engine.rollouts.turn()
    assert [each.name for each in shown_alarms(engine._store, NODE, time.time())] == ["errors"]
    engine.rollouts.turn()
    assert engine.rollouts.follower.state(NODE).barred == {}


def test_a_rung_that_goes_on_failing_brings_the_bundle_before_back(
    world: World, unseen: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = world.worker(rollout={"audit": {"daily_usd": 0.0}})
    before, version = engine.nodes[NODE].serving.plan.stable, world.copy(2)
    verbs, now = world.verbs(engine), [1_000.0]
    verbs.start(NODE, "ada", bundle=version, percent=25)
    verbs.approve(NODE, "ada", force=True)
    engine.refresh()
    monkeypatch.setattr(engine.rollouts.alarms, "_clock", lambda: now[0])
    bundle = engine.nodes[NODE].bundle
    assert bundle is not None
    assert bundle.version == version

    def broken(*_: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(bundle.ladder, "run", broken)
    answers_with(engine, monkeypatch, Answer("refund_status"))
    barred: list[bool] = []
    for i in range(0, 400, 40):
        engine.decide_many([Ask(NODE, record["text"]) for record in unseen[i : i + 40]])
        engine.rollouts.turn()
        barred.append(version in engine.rollouts.follower.state(NODE).barred)
        now[0] += 16
    assert barred.index(True) >= 6, "it was raised by 80, and again by what came a minute later"
    assert "met a failing local rung" in engine.rollouts.follower.state(NODE).barred[version]
    assert engine.nodes[NODE].serving.plan.stable == before
    assert {d.rung for d in send(engine, unseen, 20)} > {"linear"}
