"""The audit rate: high after a change, a floor for ever, the day's money on top."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.policy.audit_rate import AuditSettings, audit_rate


def test_it_falls_from_start_to_floor_and_stays_there() -> None:
    rates = [audit_rate(AuditSettings(), audits).rate for audits in (0, 200, 1000, 100_000)]
    assert rates == sorted(rates, reverse=True)
    assert (rates[0], rates[-1]) == (0.5, 0.01)


def test_audits_that_look_bad_bring_it_back_up() -> None:
    assert audit_rate(AuditSettings(), 100_000, suspicious=True).rate == 0.5


def test_spent_money_stops_audits_even_below_the_floor() -> None:
    settings = AuditSettings(daily_usd=2.0)
    assert audit_rate(settings, 0, spent_usd=2.0).rate == 0.0
    assert audit_rate(settings, 0, spent_usd=1.999, usd_per_audit=0.01).rate == 0.0


def test_what_is_left_is_spread_over_the_rest_of_the_day() -> None:
    rate = audit_rate(
        AuditSettings(daily_usd=2.0), 0, True, 1.0, usd_per_audit=0.01, settled_until_midnight=10_000
    )
    assert rate.rate == pytest.approx(0.01)
    assert "$1.00 are left" in rate.reason


@given(
    st.integers(0, 10**6),
    st.booleans(),
    st.floats(0, 100),
    st.floats(0, 1),
    st.floats(0, 1e7),
    st.floats(0, 100),
)
def test_it_is_a_rate_and_never_plans_to_spend_more_than_the_day_allows(
    audits: int, suspicious: bool, spent: float, price: float, settled: float, daily: float
) -> None:
    rate = audit_rate(AuditSettings(daily_usd=daily), audits, suspicious, spent, price, settled).rate
    assert 0 <= rate <= 1
    if rate > 0:
        assert rate * price * max(settled, 1.0) <= (daily - spent) * (1 + 1e-9)


@pytest.mark.parametrize(
    "wrong", [{"floor": 0.0}, {"start": 0.001}, {"start": 1.5}, {"half": 0}, {"daily_usd": -1.0}]
)
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        AuditSettings(**wrong)  # type: ignore[arg-type]
