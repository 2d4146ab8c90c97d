"""What was tried, and how long more may be."""

import numpy as np
import pytest
import typer

from cascade.cli.retrain import duration
from training.tried import Budget, describe, keep, settled_at


def test_without_a_budget_nothing_of_the_long_list_is_tried() -> None:
    assert not Budget().allows()


def test_a_budget_allows_what_fits_and_ends() -> None:
    now = [0.0]
    budget = Budget(10.0, lambda: now[0])
    assert budget.allows(9.0)
    assert not budget.allows(11.0)
    now[0] = 10.5
    assert not budget.allows()


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90.0), ("10m", 600.0), ("1.5h", 5400.0), (" 2M ", 120.0)]
)
def test_a_time_is_read(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "m", "-3s", "0s", "2 days"])
def test_what_is_no_time_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="10m"):
        duration(text)


def test_a_variants_figures_are_those_of_its_answers() -> None:
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.7, 0.3]], dtype=np.float32)
    found = describe("linear", "x", p, np.array([0, 0, 1, 1]), bar=0.9)
    assert found.accuracy == 0.75
    assert found.settled == 0.5  # the two surest are right, the third surest is not
    assert found.log_loss == pytest.approx(-np.log([0.9, 0.8, 0.6, 0.3]).mean(), rel=1e-5)
    assert [t.kept for t in keep([found], ["x"])] == [True]
    assert [t.kept for t in keep([found], ["y"])] == [False]


def test_nothing_settles_where_the_surest_are_wrong() -> None:
    assert settled_at(np.array([0.9, 0.5]), np.array([False, False]), 0.9) == 0.0
