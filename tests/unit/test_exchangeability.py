"""Held-out records that are unlike training records are found, and like ones are left alone."""

import numpy as np

from training.exchangeability import compare_with_training

WORDS = [f"word{i}" for i in range(60)]


def texts_of(rng: np.random.Generator, y: np.ndarray, foreign: float = 0.0) -> list[str]:
    """Each label has words of its own; some words are common to all; a foreign share comes from elsewhere."""
    out = []
    for label in y:
        own = rng.choice(WORDS[label * 10 : label * 10 + 10], 5)
        other = rng.choice(WORDS[40:], 3)
        words = (
            [f"strange{rng.integers(500)}" for _ in range(8)] if rng.random() < foreign else [*own, *other]
        )
        out.append(" ".join(words))
    return out


def compare(
    seed: int, foreign: float = 0.0, relabelled: float = 0.0, level: float = 0.05
) -> tuple[bool, str]:
    rng = np.random.default_rng(seed)
    y_train, y_new = rng.integers(0, 4, 700), rng.integers(0, 4, 300)
    texts = texts_of(rng, y_train) + texts_of(rng, y_new, foreign)
    told = np.where(rng.random(300) < relabelled, rng.integers(0, 4, 300), y_new)
    y = np.concatenate([y_train, told]).astype(np.int64)
    n = len(y)
    found = compare_with_training(texts, y, np.arange(n), np.arange(700), np.arange(700, n), level, seed)
    return found.failed, found.reason


def test_like_records_are_refused_in_no_more_than_the_level_of_the_runs() -> None:
    runs, level = 60, 0.05
    failed = sum(compare(seed)[0] for seed in range(runs))
    assert failed <= runs * level + 3 * np.sqrt(runs * level * (1 - level))


def test_requests_from_elsewhere_are_found() -> None:
    failed, reason = compare(1, foreign=0.4, level=0.01)
    assert failed
    assert "held-out records are not like training records" in reason


def test_a_teacher_that_answers_the_same_requests_otherwise_is_found() -> None:
    failed, reason = compare(2, relabelled=0.5, level=0.01)
    assert failed
    assert "nearness to the teacher's answer" in reason


def test_level_zero_reports_and_refuses_nothing() -> None:
    failed, reason = compare(1, foreign=0.4, level=0.0)
    assert not failed
    assert "smallest p" in reason


def test_one_record_stands_for_a_session() -> None:
    rng = np.random.default_rng(0)
    y = np.tile(np.arange(4), 250).astype(np.int64)
    texts = texts_of(rng, y)
    groups = np.arange(1000) // 5
    found = compare_with_training(texts, y, groups, np.arange(700), np.arange(700, 1000), 0.01)
    assert all(test.n_held_out == 60 for test in found.tests)


def test_too_few_records_are_not_compared() -> None:
    y = np.tile(np.arange(2), 30).astype(np.int64)
    found = compare_with_training(["a b"] * 60, y, np.arange(60), np.arange(40), np.arange(40, 60), 0.05)
    assert not found.failed
    assert found.tests == ()
    assert "too few" in found.reason
