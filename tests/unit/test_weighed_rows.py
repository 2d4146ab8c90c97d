"""Rows of records that stand for more or fewer than one: shares, costs and which rung is the best."""

import numpy as np
import pytest

from training.evaluate import Scored, compare


def test_the_best_rung_is_that_of_what_the_records_stand_for() -> None:
    right = np.array([[True, False], [True, False], [True, False], [False, True]])
    scored = Scored(
        confidence=np.ones((4, 2)), right=right, p_right=np.ones((4, 2)), p_top=np.ones((4, 2)),
        worth=np.ones((4, 2), dtype=bool), y=np.zeros(4, dtype=np.int64),
        answer=np.zeros((4, 2), dtype=np.int64),
        rungs=("small", "large"), rung_usd=np.array([1.0, 2.0]), rung_ms=np.array([1.0, 1.0]),
        teacher_usd=10.0, teacher_ms=1.0,
    )  # fmt: skip
    each = {row.name.split(" (")[0]: row for row in compare(scored, [2.0, 2.0])}
    assert each["best fixed rung"].name == "best fixed rung (small)"
    assert each["best fixed rung"].agreement == pytest.approx(0.75)
    weighed = {
        row.name.split(" (")[0]: row for row in compare(scored, [2.0, 2.0], np.array([1.0, 1.0, 1.0, 9.0]))
    }
    assert weighed["best fixed rung"].name == "best fixed rung (large)"
    assert weighed["best fixed rung"].agreement == pytest.approx(0.75)
    assert weighed["best fixed rung"].usd == pytest.approx(2.0)
    assert weighed["ladder"].settled == 0
    assert weighed["ladder"].usd == pytest.approx(13.0), "both rungs ran, and the teacher was asked"
