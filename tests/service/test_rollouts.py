"""Rollouts on real bundles, a real store and a real HTTP teacher: modes, canaries, swaps."""

import threading
from typing import Any

import pytest

from cascade.ask import Ask, Decided
from cascade.observe.rollouts import rollout_metrics
from cascade.pointer import POINTER
from tests.conftest import NODE
from tests.service.rollout_world import World, rows, send


def test_in_shadow_the_teacher_answers_and_the_candidate_is_compared_off_the_requests_way(
    world: World, unseen: list[dict[str, Any]]
) -> None:
    world.unpoint()
    engine = world.worker()
    assert {d.mode for d in send(engine, unseen, 5)} == {"passthrough"}
    version = world.verbs(engine).start(NODE, "ada").candidate
    engine.refresh()
    decided = send(engine, unseen, 60)
    assert {(d.mode, d.rung, d.bundle_version) for d in decided} == {("shadow", "frontier", "")}
    assert engine.rollouts.shadows.waiting == 60, "nothing ran on the requests' way"
    engine.rollouts.shadows.run_waiting()
    ran = rows(world, "SELECT bundle_version, rung, is_right, propensity FROM shadow_runs")
    assert {r[0] for r in ran} == {version}
    assert len(ran) == 60
    settled = [r for r in ran if r[1]]
    assert 30 < len(settled) < 60
    assert all(r[2] in (0, 1) and r[3] == 1.0 for r in settled)
    assert len(rows(world, "SELECT 1 FROM evidence")) == len(settled)


def test_more_than_the_shadow_queue_holds_is_dropped_and_counted(
    world: World, unseen: list[dict[str, Any]]
) -> None:
    world.unpoint()
    engine = world.worker(rollout={"max_shadows_waiting": 10})
    world.verbs(engine).start(NODE, "ada")
    engine.refresh()
    send(engine, unseen, 30)
    assert engine.rollouts.shadows.counts.dropped == 20


def test_a_canary_gets_its_share_and_two_bundles_answer_side_by_side(
    world: World, unseen: list[dict[str, Any]]
) -> None:
    engine = world.worker()
    new = world.copy(2)
    world.verbs(engine).start(NODE, "ada", bundle=new, percent=25)
    engine.refresh()
    first = send(engine, unseen, 400)
    share = sum(d.bundle_version == new for d in first) / 400
    assert 0.15 < share < 0.35
    again = send(engine, unseen, 400)
    assert [d.bundle_version for d in again] == [d.bundle_version for d in first], "sessions stay"
    assert len({d.bundle_version for d in first}) == 2


def test_bundles_swap_without_a_dropped_request(world: World, unseen: list[dict[str, Any]]) -> None:
    engine = world.worker()
    versions = [engine.nodes[NODE].serving.plan.stable, world.copy(2), world.copy(3)]
    stop = threading.Event()
    failed: list[Any] = []
    seen: set[str] = set()

    def traffic(at: int) -> None:
        while not stop.is_set():
            result = engine.decide_many([Ask(NODE, unseen[at % len(unseen)]["text"])])[0]
            if isinstance(result, Decided):
                seen.add(result.bundle_version)
            else:
                failed.append(result)
            at += 7

    threads = [threading.Thread(target=traffic, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for version in versions * 2:
        (world.models / NODE / POINTER).write_text(version + "\n")
        engine.refresh()
        threading.Event().wait(0.1)
    stop.set()
    for thread in threads:
        thread.join()
    assert not failed
    assert seen == set(versions)
    assert engine.nodes[NODE].serving.shelf.versions() == {versions[-1]}, "the others were let go of"


def test_a_node_without_a_bundle_says_which_one_it_should_serve_after_a_restart_too(world: World) -> None:
    one = world.worker()
    version = one.nodes[NODE].serving.plan.stable
    assert one.served() == {(NODE, version): True}
    world.verbs(one).rollback(NODE, "bob", "a bad feeling", bundle=version)
    one.refresh()
    assert one.served() == world.worker().served() == {(NODE, version): False}
    world.unpoint()
    assert world.worker().served() == {}, "a node that has no bundle yet lacks none"
    refused = world.copy(2)
    (world.models / NODE / refused / "manifest.json").write_text("{}")
    (world.models / NODE / POINTER).write_text(refused + "\n")
    assert world.worker().served() == {(NODE, refused): False}


def test_a_start_logs_the_last_change_with_its_time_and_not_the_whole_history_as_news(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "cascade.rollout.follow")
    one = world.worker()
    verbs = world.verbs(one)
    verbs.start(NODE, "ada", "new data", bundle=world.copy(2))
    verbs.rollback(NODE, "bob", "a bad feeling")
    caplog.clear()
    restarted = world.worker()
    restarted.refresh()
    (line,) = [r.getMessage() for r in caplog.records if r.name == "cascade.rollout.follow"]
    assert "the last change of its rollouts was at 20" in line
    assert line.endswith("rollback by bob: a bad feeling")
    caplog.clear()
    verbs.start(NODE, "ada", "again", bundle=world.copy(3))
    restarted.refresh()
    assert f"node {NODE}: start by ada: again" in caplog.text


def test_a_bundle_that_is_started_begins_without_alarms_whatever_happens_before_the_next_look(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = world.worker()
    forgotten: list[tuple[str, str]] = []
    monkeypatch.setattr(one.rollouts.alarms, "forget", lambda *of: forgotten.append(of))
    verbs, version = world.verbs(one), world.copy(2)
    verbs.start(NODE, "ada", "new data", bundle=version)
    verbs.hold(NODE, "ada", "lunch")
    one.refresh()
    assert forgotten == [(NODE, version)]
    verbs.approve(NODE, "ada", "back", force=True)
    one.refresh()
    assert forgotten == [(NODE, version)]


def test_the_metrics_say_when_a_bundle_was_pulled_back_the_stable_one_too(world: World) -> None:
    engine = world.worker()
    stable, new = engine.nodes[NODE].bundle.version, world.copy(2)
    verbs = world.verbs(engine)
    verbs.start(NODE, "ada", bundle=new, percent=25)

    def pulled_back() -> dict[str, float]:
        found = {metric.name: metric for metric in rollout_metrics(world.config(), engine._store)}
        samples = found["cascade_rolled_back_timestamp_seconds"].samples
        assert all(sample.labels["node"] == NODE for sample in samples)
        return {sample.labels["version"]: sample.value for sample in samples}

    assert pulled_back() == {}
    verbs.rollback(NODE, "ada", "slow", bundle=stable)
    verbs.rollback(NODE, "ada", "wrong", bundle=new)
    told = {event.bundle: event.time for event in verbs.store.events(NODE) if event.what == "rollback"}
    assert pulled_back() == told
    assert set(told) == {stable, new}
