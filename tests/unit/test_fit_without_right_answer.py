"""Fitting with records that no rung can be right about: asked about, judged as wrong, learned by no model."""

import numpy as np
import pytest

from training.fit import FitSettings, FittedLadder, fit_ladder
from training.new_sessions import on_new_sessions
from training.opinions import fit_encoder
from training.scope import choose_limits
from training.tried import Budget, describe

N, N_LABELS, DIM = 360, 4, 12


@pytest.fixture(scope="module")
def data() -> tuple[list[str], np.ndarray, np.ndarray]:
    """Four labels with words and directions of their own, and a fifth kind that cannot be learned."""
    rng = np.random.default_rng(0)
    kind = rng.integers(N_LABELS + 1, size=N)
    texts = [
        " ".join(f"kind{k}word{w}" for w in rng.integers(15, size=4)) + f" filler{rng.integers(30)}"
        for k in kind
    ]
    vectors = rng.normal(size=(N, DIM)) + 3 * np.eye(DIM)[kind]
    unit = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return texts, unit, np.where(kind == N_LABELS, -1, kind)


@pytest.fixture(scope="module")
def fitted(data: tuple[list[str], np.ndarray, np.ndarray]) -> FittedLadder:
    texts, vectors, y = data
    return fit_ladder(
        texts, y, np.arange(N), N_LABELS, ("linear", "encoder"), vectors, FitSettings(n_folds=5)
    )


def test_every_rung_is_asked_about_them_and_is_wrong(fitted: FittedLadder) -> None:
    bare = fitted.y < 0
    assert bare.sum() > 40
    assert not fitted.opinions.right[bare].any()
    assert fitted.opinions.right[~bare].mean() > 0.9
    assert np.isfinite(fitted.confidence).all()
    assert fitted.linear.model.weights.shape[-1] == N_LABELS


def test_the_acceptor_learns_to_leave_them_to_the_teacher(fitted: FittedLadder) -> None:
    bare = fitted.y < 0
    assert (fitted.confidence[bare].mean(axis=0) < 0.25).all()
    assert (fitted.confidence[~bare].mean(axis=0) > 0.85).all()


def test_no_model_learns_an_answer_from_them(data: tuple[list[str], np.ndarray, np.ndarray]) -> None:
    _, vectors, y = data
    known = y >= 0
    fold = np.arange(N) % 4
    opinion = np.full((N, N_LABELS), 1 / N_LABELS, dtype=np.float32)

    def fit(rows: np.ndarray) -> tuple:  # type: ignore[type-arg]
        splits = [fold[rows] != f for f in range(4)]
        found = fit_encoder(vectors[rows], opinion[rows], y[rows], N_LABELS, splits, Budget(), 0.95, 0)
        return found.head.weights, found.neighbours.y, found.probabilities[y[rows] >= 0], found.fusion

    with_them, without = fit(np.ones(N, dtype=bool)), fit(known)
    for a, b in zip(with_them[:3], without[:3], strict=True):
        assert np.array_equal(a, b)
    assert with_them[3] == without[3]


def test_the_detector_is_fitted_on_the_others_and_judges_all(fitted: FittedLadder) -> None:
    scope = fitted.scope
    assert scope is not None
    assert scope.inside.shape == (N, 2)
    assert np.isfinite(scope.inside).all()
    assert len(scope.outside) == (fitted.y >= 0).sum()
    limits = choose_limits(scope, fitted.confidence, fitted.opinions.right, (1.0, 1.0), 0.1, 0.95)
    assert limits.agreement >= 0.95


def test_a_variant_is_told_how_often_it_is_right_of_all_records() -> None:
    p = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.6, 0.4]], dtype=np.float32)
    found = describe("linear", "it", p, np.array([0, 1, -1, -1]), 0.9)
    assert found.accuracy == 0.5
    assert found.log_loss == pytest.approx(-(np.log(0.9) + np.log(0.8)) / 2)
    assert found.settled == 0.5


def test_what_is_alike_in_all_sessions_is_known_of_new_ones_and_one_id_for_all_says_nothing(
    fitted: FittedLadder,
) -> None:
    sessions = [f"s{i % 6}" for i in range(N)]
    found = on_new_sessions(fitted, sessions, frozenset(sessions))
    assert found is not None
    assert found.records == (fitted.y >= 0).sum()
    assert found.new == pytest.approx(found.seen, abs=0.03)
    assert on_new_sessions(fitted, ["one"] * N, frozenset(["one"])) is None
    assert on_new_sessions(fitted, [None] * N, frozenset()) is None
