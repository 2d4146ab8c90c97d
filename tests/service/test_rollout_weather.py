"""Rollouts in bad weather: workers at once, a killed process, a failing store, flags that are wrong."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from cascade.errors import StoreError
from cascade.rollout.state import Event
from cascade.server.engine import Engine
from tests.conftest import NODE
from tests.service.rollout_world import World, rows, send, settle, until_changed


def test_two_workers_that_judge_at_once_write_one_event(world: World, unseen: list[dict[str, Any]]) -> None:
    one, two = world.worker(), world.worker()
    bad = world.copy(2, wrong=0.7)
    world.verbs(one).start(NODE, "ada", bundle=bad, percent=100)
    for engine in (one, two):
        engine.refresh()
    send(one, unseen, 300)
    for _ in range(100):
        one.rollouts.auditor.round()
        if not one.rollouts.auditor.waiting:
            break
        threading.Event().wait(0.02)
    barrier = threading.Barrier(2)

    def judge(engine: Engine) -> list[Event]:
        barrier.wait()
        return engine.rollouts.watch.judge()

    with ThreadPoolExecutor(2) as pool:
        written = list(pool.map(judge, (one, two)))
    assert sum(len(events) for events in written) == 1
    for engine in (one, two):
        engine.rollouts.watch.follow()
        assert bad in engine.nodes[NODE].serving.plan.barred
    assert len(world.verbs(one).history(NODE)) == 2


def test_killed_between_deciding_and_recording_the_next_look_decides_the_same(
    world: World, unseen: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = world.worker()
    bad = world.copy(2, wrong=0.7)
    world.verbs(engine).start(NODE, "ada", bundle=bad, percent=100)
    engine.refresh()
    send(engine, unseen, 300)

    class Killed(BaseException):
        pass

    def die(_: Event) -> bool:
        raise Killed

    monkeypatch.setattr(engine.rollouts.store, "append", die)
    with pytest.raises(Killed):
        settle(engine)
    assert [e.what for e in world.verbs(engine).history(NODE)] == ["start"]
    restarted = world.worker()
    settle(restarted)
    assert bad in restarted.rollouts.follower.state(NODE).barred
    assert [e.what for e in world.verbs(restarted).history(NODE)] == ["start", "rollback"]


def test_a_store_that_fails_changes_nothing_and_fails_no_request(
    world: World, unseen: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = world.worker()
    new = world.copy(2)
    world.verbs(engine).start(NODE, "ada", bundle=new, percent=25)
    engine.refresh()

    def full(*_: Any, **__: Any) -> Any:
        raise StoreError("database or disk is full")

    for name in ("heads", "events", "append", "evidence", "add_audits", "add_shadows", "finish_audits"):
        monkeypatch.setattr(engine.rollouts.store, name, full)
    before = [d.bundle_version for d in send(engine, unseen, 100)]
    settle(engine, 3)
    assert [d.bundle_version for d in send(engine, unseen, 100)] == before
    assert engine.rollouts.follower.failures
    assert engine.rollouts.watch.store_failures
    assert engine.rollouts.auditor.counts.store_failures
    drawn = engine.rollouts.auditor.waiting
    assert drawn
    monkeypatch.undo()
    settle(engine, 500)
    assert len(rows(world, "SELECT 1 FROM audits WHERE status = 'done'")) == drawn


def test_until_the_state_was_read_once_the_teacher_answers_everything(
    world: World, unseen: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(*_: Any) -> Any:
        raise StoreError("database is locked")

    with monkeypatch.context() as patch:
        patch.setattr("cascade.rollout.database_store.DatabaseRolloutStore.heads", locked)
        engine = world.worker()
        assert {d.mode for d in send(engine, unseen, 10)} == {"passthrough"}
    engine.refresh()
    assert {d.mode for d in send(engine, unseen, 10)} == {"live"}


def test_a_flag_that_names_a_bundle_that_is_not_there_keeps_the_last_good_one_loudly(
    world: World, unseen: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    world.flags("live", "0007-ffffffff")
    engine = world.worker()
    stable = engine.nodes[NODE].serving.plan.stable
    assert {d.bundle_version for d in send(engine, unseen, 10)} == {stable}
    assert engine.nodes[NODE].serving.counts.overruled == 10
    assert "0007-ffffffff" in caplog.text
    assert "not there" in caplog.text


def test_a_flag_switches_a_node_to_the_teacher_and_back_while_requests_run(
    world: World, unseen: list[dict[str, Any]]
) -> None:
    engine = world.worker()
    assert {d.mode for d in send(engine, unseen, 10)} == {"live"}
    world.flags("passthrough")
    assert engine.flags.provider.look()  # type: ignore[attr-defined]
    until_changed(engine, lambda: engine.flags.of(NODE, {}, "k").mode == "passthrough")
    assert {(d.mode, d.rung) for d in send(engine, unseen, 10)} == {("passthrough", "frontier")}
