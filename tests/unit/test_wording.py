"""Figures in reports are written so that a person can read them."""

import pytest

from training.wording import amount, counted, dollars


@pytest.mark.parametrize(
    ("usd", "said"),
    [
        (0.0, "0"), (-0.0, "0"), (1.5e-8, "0"), (-3.758e-08, "0"), (2.886e-06, "0.000003"),
        (-2.269e-05, "-0.000023"), (0.0008877, "0.0008877"), (0.1621, "0.1621"), (12.345, "12.35"),
        (123456.7, "123,457"),
    ],
)  # fmt: skip
def test_an_amount_is_in_plain_decimals(usd: float, said: str) -> None:
    assert amount(usd) == said


def test_an_amount_shows_its_sign_where_asked_and_nothing_has_none() -> None:
    assert (amount(0.25, signed=True), amount(-0.25, signed=True)) == ("+0.25", "-0.25")
    assert amount(1e-9, signed=True) == "0"


def test_dollars_put_the_sign_before_the_unit() -> None:
    assert (dollars(0.3019), dollars(-0.3019), dollars(0.0)) == ("$0.3019", "-$0.3019", "$0")


def test_one_is_no_plural() -> None:
    assert (counted(1, "record"), counted(1200, "record")) == ("1 record", "1,200 records")
