"""Whose answers retraining learns from, and what the teacher's own wavering allows."""

import math
from collections.abc import Callable

import pytest

from cascade.config import Config
from cascade.errors import RetrainRefused
from cascade.fences import Teacher
from cascade.traffic import TrainingRecord
from tests.conftest import NODE
from training.node_rungs import encoders_of
from training.retrain import retrain
from training.teacher import measure_noise, of_this_teacher

NOW = Teacher("big-2", "b" * 64, "c" * 64)


def record(i: int, text: str, label: str, source: str = "teacher", teacher: str = "") -> TrainingRecord:
    return TrainingRecord(str(i), text, None, label, source, None, float(i), {}, teacher)  # type: ignore[arg-type]


def asked_twice(n: int, wavering: int) -> list[TrainingRecord]:
    rows = [record(i, f"text {i}", "a") for i in range(n)]
    return rows + [record(n + i, f"Text  {i}", "b" if i < wavering else "a") for i in range(n)]


def test_answers_of_another_teacher_are_left_out_and_outcomes_stay() -> None:
    rows = [
        record(0, "a", "x", teacher=NOW.name),
        record(1, "b", "x", teacher="big-1/bbbbbbbbbbbb"),
        record(2, "c", "x"),
        record(3, "d", "x", "outcome", "big-1/bbbbbbbbbbbb"),
        record(4, "e", "x", "import"),
    ]
    kept, others = of_this_teacher(rows, NOW)
    assert [r.id for r in kept] == ["0", "2", "3", "4"]
    assert others == 1


def test_repeats_show_how_often_the_teacher_disagrees_with_itself() -> None:
    noise = measure_noise(asked_twice(200, 20))
    assert noise is not None
    assert (noise.repeated, noise.disagreed, noise.rate) == (200, 20, 0.1)
    assert noise.low < 0.1 < noise.high
    assert noise.ceiling == pytest.approx(math.sqrt(0.9))
    assert noise.ceiling_low < noise.ceiling < noise.ceiling_high


def test_a_text_asked_often_counts_once_and_outcomes_do_not_count() -> None:
    rows = [record(i, "same", "ab"[i % 2]) for i in range(50)] + [record(99, "once", "a")]
    noise = measure_noise(rows)
    assert noise is not None
    assert (noise.repeated, noise.disagreed) == (1, 1)
    assert measure_noise([record(0, "x", "a"), record(1, "x", "b", "outcome")]) is None


def test_only_a_bar_that_is_surely_above_the_ceiling_is_refused() -> None:
    noise = measure_noise(asked_twice(200, 40))
    assert noise is not None
    assert "answered differently for 40 of 200 inputs" in noise.refuses(0.98)
    assert noise.refuses(0.85) == ""
    few = measure_noise(asked_twice(5, 1))
    assert few is not None
    assert few.refuses(0.98) == ""  # five repeats prove nothing


def test_retraining_refuses_a_bar_above_the_ceiling_and_says_why(configure: Callable[..., Config]) -> None:
    config = configure()
    with pytest.raises(RetrainRefused, match=r"above what the teacher itself keeps.*Nothing was changed"):
        retrain(NODE, config, asked_twice(300, 90), encoders_of(config))
    assert not (config.models_path / NODE).exists()
