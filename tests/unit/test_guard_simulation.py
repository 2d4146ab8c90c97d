"""The simulation is the guard: record by record it says what `observe` and `decide` say."""

import numpy as np
import pytest

from cascade.policy.audit_rate import AuditSettings
from cascade.policy.guard import Action, AuditRecord, GuardSettings, decide, new_guard, observe
from cascade.policy.guard_simulation import Simulation, Traffic, Truth

TRAFFIC = Traffic(per_second=10.0, settled_share=0.8)


@pytest.mark.parametrize("bad", [0.95, 0.80])
def test_the_simulation_decides_what_the_serving_code_decides(bad: float) -> None:
    names = ("a", "b")
    settings = GuardSettings(0.95, slices=names)
    truth = Truth(0.97, slices=((0.2, bad), (0.3, 0.97)))
    n = 6
    sim = Simulation(settings, truth, TRAFFIC, AuditSettings(), n, np.random.default_rng(0))
    states, rolled = [new_guard(settings) for _ in range(n)], np.zeros(n, bool)
    promoted = 0
    for seq in range(700):
        sim.advance()
        for r in range(n):
            member = int(sim.member[r])
            record = AuditRecord(
                seq, agrees=not sim.wrong[r], propensity=float(sim.propensity[r]),
                slices=() if member < 0 else (names[member],), step=int(sim.at_step[r]),
            )  # fmt: skip
            states[r] = observe(settings, states[r], record)
            assert states[r].evidence == pytest.approx(float(sim.evidence[r]), rel=1e-9)
            action = decide(settings, states[r], int(sim.at_step[r])).action
            rolled[r] |= action is Action.ROLL_BACK
            assert rolled[r] == sim.rolled_back[r]
            if not rolled[r]:
                moved = sim.step[r] > sim.at_step[r]
                promoted += moved
                assert moved == (action is Action.PROMOTE)
    assert promoted > 0
    assert rolled.any() == (bad < 0.95)


def test_time_passes_by_the_traffic_and_shadow_settles_nothing() -> None:
    sim = Simulation(GuardSettings(0.95), Truth(0.99), TRAFFIC, AuditSettings(), 50, np.random.default_rng(1))
    for _ in range(20):
        sim.advance()
    assert sim.seconds == pytest.approx(20 / 8.0)
    assert (sim.settled == 0).all()
    while not sim.full.all():
        sim.advance()
    assert (sim.settled > 0).all()
    assert sum(len(left["rollouts"]) for left in sim.left) == 4 * 50


def test_a_change_in_the_middle_changes_what_audits_see() -> None:
    truth = Truth(0.99, later=0.5, settled_before=2000)
    sim = Simulation(GuardSettings(0.95), truth, TRAFFIC, AuditSettings(), 50, np.random.default_rng(2))
    while not sim.rolled_back.all():
        sim.advance()
    assert (sim.settled > 2000).all()


def test_slices_and_steps_have_to_fit_the_settings() -> None:
    with pytest.raises(ValueError, match="slices"):
        Simulation(
            GuardSettings(0.95, slices=("a",)),
            Truth(0.9),
            TRAFFIC,
            AuditSettings(),
            1,
            np.random.default_rng(),
        )
    with pytest.raises(ValueError, match="margins"):
        Simulation(
            GuardSettings(0.95, margins=(1.0,)),
            Truth(0.9),
            TRAFFIC,
            AuditSettings(),
            1,
            np.random.default_rng(),
        )


def test_where_a_bundle_serves_already_shadow_is_audited_at_the_rate_of_any_step() -> None:
    audited = Traffic(per_second=10.0, settled_share=0.8, usd_per_audit=0.001, teacher_answers=False)
    rng = np.random.default_rng(3)
    sim = Simulation(GuardSettings(0.95), Truth(0.99), audited, AuditSettings(start=0.25), 200, rng)
    for _ in range(20):
        sim.advance()
    assert (sim.settled == 0).all(), "shadow answers nobody"
    assert sim.seconds.mean() == pytest.approx(4 * 20 / 8.0, rel=0.1)
    assert sim.usd == pytest.approx(0.02)
