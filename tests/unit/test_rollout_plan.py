"""The plan of a rollout: better candidates are sooner at 100 %, bad ones are caught."""

import math

import pytest

from cascade.policy.audit_rate import AuditSettings
from cascade.policy.guard import GuardSettings
from cascade.policy.guard_simulation import Traffic
from cascade.policy.rollout_plan import Plan, likely_agreements, plan

SETTINGS = GuardSettings(0.9)


def planned(
    agreement: float, per_second: float = 5.0, audits: AuditSettings | None = None, usd: float = 0.0
) -> Plan:
    traffic = Traffic(per_second, 0.8, usd)
    (found,) = plan(SETTINGS, [agreement], traffic, audits or AuditSettings(), n_rollouts=40, max_audits=3000)
    return found


def test_a_better_candidate_is_sooner_at_all_traffic() -> None:
    good, better = planned(0.95), planned(0.99)
    assert good.to_full == better.to_full == 1.0
    assert better.audits.median < good.audits.median
    assert better.seconds.median < good.seconds.median
    assert [step.share for step in good.steps] == [0, 1, 5, 25]
    assert all(step.left == 1.0 for step in good.steps)
    assert sum(step.audits.median for step in good.steps) == pytest.approx(good.audits.median, rel=0.4)


def test_a_bad_candidate_is_rolled_back_and_the_plan_says_after_how_long() -> None:
    bad = planned(0.7)
    assert bad.rolled_back == 1.0
    assert bad.caught_audits.median < 60
    assert math.isnan(bad.seconds.median)


def test_twice_the_traffic_takes_half_the_time_and_the_same_audits() -> None:
    once, twice = planned(0.97), planned(0.97, per_second=10.0)
    assert twice.audits == once.audits
    assert twice.seconds.median == pytest.approx(once.seconds.median / 2)


def test_a_day_s_money_stretches_the_rollout() -> None:
    free, capped = planned(0.97, usd=0.01), planned(0.97, audits=AuditSettings(daily_usd=0.2), usd=0.01)
    assert capped.seconds.median > 3 * free.seconds.median
    assert free.usd.median > 0


def test_agreements_worth_planning_for_lie_on_both_sides_of_the_bar() -> None:
    found = likely_agreements(0.98)
    assert list(found) == sorted(found)
    assert found[0] < 0.98 < found[-1] < 1
    assert 0.98 in found
