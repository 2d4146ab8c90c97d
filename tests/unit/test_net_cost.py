import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.policy.net_cost import Prices, net_cost, price_of_wrong, too_dear

shares = st.floats(0, 1, allow_nan=False)
dollars = st.floats(0, 10, allow_nan=False)


def prices(**changes: float) -> Prices:
    base = {
        "teacher_call": 0.001, "cpu_hour": 0.05, "retraining": 0.01,
        "decisions_per_retraining": 10_000.0, "audit_share": 0.02,
    }  # fmt: skip
    return Prices(**(base | changes))


@given(shares, shares, dollars, dollars, shares)
def test_net_is_what_is_spared_less_everything_that_is_spent(
    settled: float, more: float, call: float, hour: float, audits: float
) -> None:
    ran = settled + (1 - settled) * more
    cost = net_cost([settled], [ran], [2.0], prices(teacher_call=call, cpu_hour=hour, audit_share=audits))
    assert cost.spent == cost.drafts + cost.failed_drafts + cost.audits + cost.retraining
    assert math.isclose(cost.net, settled * call - cost.spent, abs_tol=1e-12)
    assert min(cost.drafts, cost.failed_drafts, cost.audits, cost.retraining) >= 0
    assert cost.net <= cost.spared


def test_a_draft_that_fails_costs_as_much_as_one_that_settles() -> None:
    cost = net_cost([0.25, 0.25], [1.0, 0.75], [3600.0, 7200.0], prices(cpu_hour=1.0))
    assert cost.drafts == pytest.approx(0.25 * 0.001 + 0.25 * 0.002)
    assert cost.failed_drafts == pytest.approx(0.75 * 0.001 + 0.5 * 0.002)


def test_a_chat_rung_is_charged_by_the_call() -> None:
    cost = net_cost([0.1], [0.5], [0.0], prices(), rung_usd=[0.0002])
    assert cost.drafts == pytest.approx(0.1 * 0.0002)
    assert cost.failed_drafts == pytest.approx(0.4 * 0.0002)


def test_a_ladder_that_settles_nothing_does_not_pay() -> None:
    reason = too_dear(net_cost([0.0], [1.0], [1.0], prices()), prices())
    assert reason.startswith("per 1,000 decisions it spares $0 of teacher calls and spends $0.001")


def test_no_verdict_without_a_price_of_the_teacher() -> None:
    free = prices(teacher_call=0.0)
    assert too_dear(net_cost([0.0], [1.0], [1.0], free), free) == ""


def test_a_wrong_answer_costs_what_the_bar_implies_unless_it_is_configured() -> None:
    assert price_of_wrong(None, 0.001, 0.98) == pytest.approx(0.05)
    assert price_of_wrong(0.3, 0.001, 0.98) == 0.3
