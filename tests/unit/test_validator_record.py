"""Validators whose worth is known by construction."""

import numpy as np
import pytest

from cascade.policy.walk import rungs_that_agree
from training.validator_record import Check, Stakes, ValidatorRecord, records

STAKES = Stakes(teacher_call=0.001, wrong_answer=0.02, cpu_hour=0.05)


def judged(*checks: Check, right: np.ndarray, worth: np.ndarray | None = None) -> dict[str, ValidatorRecord]:  # type: ignore[type-arg]
    runs = np.ones_like(right) if worth is None else worth
    return {record.name: record for record in records(checks, runs, right, STAKES)}


def column(*values: int) -> np.ndarray:  # type: ignore[type-arg]
    return np.array(values, dtype=bool)[:, None]


def test_catch_rate_and_false_alarms_are_shares_of_wrong_and_right_answers() -> None:
    right = column(1, 1, 1, 1, 0, 0)
    found = judged(Check("mine", column(1, 0, 0, 0, 1, 0)), right=right)["mine"]
    assert (found.catch_rate, found.false_alarm_rate) == (0.5, 0.25)
    assert (found.n_wrong, found.n_right, found.caught, found.false_alarms) == (2, 4, 1, 1)
    # one teacher call of the six decisions is due to a false alarm
    assert found.false_alarm_usd == pytest.approx(1000 * 0.001 / 6)
    # 0.02 of harm is spared; two calls are made instead of none
    assert found.value_usd == pytest.approx(1000 * (0.02 - 2 * 0.001) / 6)
    assert found.advice == "keep"


def test_a_validator_that_only_stops_right_answers_is_advised_off() -> None:
    found = judged(Check("nervous", column(1, 1, 0, 0, 0, 0)), right=column(1, 1, 1, 1, 0, 1))["nervous"]
    assert found.value_usd < 0
    assert found.advice == "switch off"


def test_one_that_never_stops_anything_costs_its_time_and_is_advised_off() -> None:
    found = judged(Check("idle", column(0, 0, 0, 0), micros=5.0), right=column(1, 1, 0, 1))["idle"]
    assert found.value_usd == pytest.approx(-1000 * 5.0 * 0.05 / 3.6e9)
    assert found.advice == "switch off"


def test_in_its_place_a_validator_sees_only_what_those_before_it_let_pass() -> None:
    right = column(1, 1, 0, 0)
    first, second = Check("first", column(0, 1, 1, 0)), Check("second", column(0, 0, 1, 1))
    found = judged(first, second, right=right)
    assert (found["second"].n_wrong, found["second"].caught) == (2, 2)
    assert (found["second"].wrong_left, found["second"].caught_in_place) == (1, 1)
    assert (found["second"].right_left, found["second"].false_in_place) == (1, 0)
    # what `second` catches of its own is worth the harm less the call
    assert found["second"].value_usd == pytest.approx(1000 * (0.02 - 0.001) / 4)


def test_an_answer_stopped_at_one_rung_may_settle_at_the_next_without_the_teacher() -> None:
    right = np.array([[False, True], [True, True]])
    found = judged(Check("mine", np.array([[True, False], [True, False]])), right=right)["mine"]
    assert found.false_alarms == 1
    assert found.false_alarm_usd == 0  # the next rung settles it rightly: no money is lost
    assert found.value_usd == pytest.approx(1000 * 0.02 / 2)


def test_one_that_is_off_is_judged_as_if_it_were_on_and_advised_on_only_when_that_is_sure() -> None:
    rng = np.random.default_rng(0)
    right = rng.random((400, 1)) < 0.8
    good = judged(Check("good", ~right, on=False), right=right)["good"]
    assert good.advice == "switch on"
    poor = judged(Check("poor", rng.random((400, 1)) < 0.1, on=False), right=column(*[1] * 400))["poor"]
    assert poor.advice == "leave off"


def test_what_the_certificate_stands_on_is_required_whatever_it_is_worth() -> None:
    found = judged(Check("acceptor", column(1, 1), required=True), right=column(1, 1))["acceptor"]
    assert found.value_usd < 0
    assert found.advice == "required"


def test_rungs_agree_with_all_cheaper_ones_that_ran() -> None:
    worth = np.array([[True, True, True], [False, True, True], [True, True, True]])
    answer = np.array([[1, 1, 2], [1, 2, 2], [1, 2, 2]])
    assert rungs_that_agree(worth, answer).tolist() == [
        [True, True, False], [True, True, True], [True, False, False],
    ]  # fmt: skip
