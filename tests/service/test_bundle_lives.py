"""A bundle that is started again begins a new life: older evidence is over, whoever is rolled out next."""

import time
from dataclasses import replace
from typing import Any

from cascade.page.audits import audited
from cascade.rollout.records import Audit, AuditResult
from cascade.rollout.verbs import Verbs
from cascade.server.engine import Engine
from tests.conftest import NODE
from tests.service.rollout_world import World, rows, send, settle

STEPS = {"steps": [10, 50, 100]}


def see(engine: Engine, bundle: str, names: range, right: bool, **more: Any) -> None:
    """Have audits of what a bundle settled end, as the bundle's life is now."""
    state = engine.rollouts.follower.state(NODE)
    life, step = state.life_of(bundle).seq, state.step_of(bundle)
    drawn = [
        replace(
            Audit(f"{bundle}-{n}", NODE, bundle, step, time.time(), 1.0, "linear", (), False, life), **more
        )
        for n in names
    ]
    store = engine.rollouts.store
    store.add_audits(drawn, "me", 9e9)
    store.finish_audits([AuditResult(audit, time.time(), "a", right) for audit in drawn])
    settle(engine)


def started_again(world: World, engine: Engine) -> tuple[str, Verbs]:
    """Have a stable bundle barred, as when the teacher said otherwise for a time, and started again."""
    bundle = engine.nodes[NODE].serving.plan.stable
    verbs = Verbs(world.config(rollout=STEPS), engine.rollouts.store)
    see(engine, bundle, range(40), right=False)
    assert bundle in engine.rollouts.follower.state(NODE).barred
    verbs.start(NODE, "ada", "the teacher was mended", bundle=bundle, force=True)
    engine.refresh()
    settle(engine)
    return bundle, verbs


def test_the_next_rollout_does_not_bring_back_the_evidence_of_an_earlier_life(
    world: World, unseen: list[dict[str, Any]]
) -> None:
    engine = world.worker(rollout=STEPS)
    first, verbs = started_again(world, engine)
    see(engine, first, range(100, 400), right=True)
    for _ in range(3):
        if engine.rollouts.follower.state(NODE).candidate:
            verbs.approve(NODE, "ada", force=True)
            engine.refresh()
    see(engine, first, range(400, 700), right=True)
    rollout = engine.rollouts.follower.state(NODE).rollout
    assert rollout is not None
    assert rollout.full
    verbs.start(NODE, "loop", "new data", bundle=world.copy(2))
    engine.refresh()
    settle(engine)
    for worker in (
        engine,
        world.worker(rollout=STEPS),
    ):  # one that watched all along, and one after a restart
        settle(worker)
        assert worker.rollouts.follower.state(NODE).barred == {}
        assert {d.bundle_version for d in send(worker, unseen, 20)} == {first}
        guard = worker.rollouts.judge.guard(NODE, first)
        assert guard is not None
        assert (guard.parts[""].audits, guard.parts[""].disagreements) == (600, 0)


def test_audits_of_an_earlier_life_that_end_after_the_start_are_no_evidence(world: World) -> None:
    engine = world.worker(rollout=STEPS)
    bundle, _ = started_again(world, engine)
    state = engine.rollouts.follower.state(NODE)
    assert state.rollout is not None
    assert (state.rollout.step, state.step_of("another")) == (0, 3)
    # Settled when it served everybody, and asked about only now.
    see(engine, bundle, range(1000, 1040), right=False, life=0, step=3)
    assert engine.rollouts.follower.state(NODE).barred == {}
    see(engine, bundle, range(2000, 2010), right=True)
    guard = engine.rollouts.judge.guard(NODE, bundle)
    assert guard is not None
    assert (guard.step, guard.promotion.audits, guard.parts[""].audits) == (0, 10, 10)
    # The page shows what the guard counts.
    shown = audited(engine._store, NODE, bundle, state.life_of(bundle))
    assert [right for right, _ in shown] == [True] * 10
    # What an older Cascade wrote does not say, and counts by its place as it did.
    see(engine, bundle, range(3000, 3005), right=True, life=None)
    guard = engine.rollouts.judge.guard(NODE, bundle)
    assert guard is not None
    assert guard.promotion.audits == 15


def test_what_is_drawn_says_in_which_life_the_bundle_was(world: World, unseen: list[dict[str, Any]]) -> None:
    engine = world.worker(rollout=STEPS | {"audit": {"ceiling": 1.0, "floor": 1.0}})
    stable = engine.nodes[NODE].serving.plan.stable
    candidate = world.copy(2)
    state = world.verbs(engine).start(NODE, "ada", bundle=candidate)
    engine.refresh()
    send(engine, unseen, 60)
    engine.rollouts.shadows.run_waiting()
    settle(engine)
    store = engine.rollouts.store
    lives = {b: {e.life for e in store.evidence(NODE, b, 0)} for b in (stable, candidate)}
    assert lives == {stable: {0}, candidate: {state.seq}}
    assert rows(world, "SELECT DISTINCT life FROM shadow_runs") == [(state.seq,)]
