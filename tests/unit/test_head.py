"""The encoder rung's head: fused out of fold, exported, and the same in ONNX as in training."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cascade.rungs.encoder import EncoderHead
from cascade.scope import HEAD_NAMES
from training.clouds import fit_clouds, head_features
from training.fusion import Fusion, fit_weights, log_opinions
from training.head import export
from training.linear import fit_softmax
from training.neighbours import Neighbours, fit_kernel

N_LABELS, DIM = 5, 24


def vectors(n: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(N_LABELS, DIM))
    y = rng.integers(0, N_LABELS, n)
    x = centres[y] + rng.normal(scale=1.2, size=(n, DIM))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), y


@pytest.mark.parametrize("with_kernel", [True, False])
def test_the_exported_head_says_what_training_computes(with_kernel: bool, tmp_path: Path) -> None:
    x, y = vectors(200, 0)
    records = Neighbours.of(x, y, N_LABELS, np.ones(200, dtype=bool), seed=0)
    model, kernel, clouds = (
        fit_softmax(x, y, N_LABELS, 10.0),
        fit_kernel(records, 2.0, 0.1),
        fit_clouds(records),
    )
    weights = {"embedding": 0.5, "linear": 0.2, "neighbours": 0.3, "kernel": 0.4 if with_kernel else 0.0}
    fusion = Fusion(weights, sharpness=20.0)
    export(model, kernel if with_kernel else None, records, clouds, fusion, tmp_path / "head.onnx")
    asked = vectors(20, 1)[0]
    linear = np.random.default_rng(2).dirichlet(np.ones(N_LABELS), 20).astype(np.float32)
    scores, shares, nearest, scope = EncoderHead(tmp_path / "head.onnx")(asked, linear)
    logits = model.logits(asked)
    votes, closest = records.shares(asked, 20.0)
    fused = fusion.probabilities(log_opinions(logits, linear, votes, kernel.scores(records, asked)))
    assert np.abs(scores - fused).max() < 2e-3  # weights are stored in half precision
    assert np.abs(shares - votes).max() < 1e-4
    assert np.abs(nearest - closest).max() < 1e-5
    assert scope is not None
    assert scope.shape == (20, len(HEAD_NAMES))
    assert np.allclose(scope, head_features(logits, records, clouds, asked), atol=2e-2)


def test_a_kernel_without_ridge_repeats_its_records_and_ridge_smooths() -> None:
    x, y = vectors(60, 3)
    records = Neighbours.of(x, y, N_LABELS, np.ones(60, dtype=bool), seed=0)
    exact = fit_kernel(records, 8.0, 1e-4).scores(records, records.vectors)
    assert np.abs(exact - records.onehot()).max() < 0.05
    smooth = fit_kernel(records, 8.0, 10.0).scores(records, records.vectors)
    assert smooth.max() < exact.max()


def test_an_opinion_that_says_nothing_gets_no_weight() -> None:
    rng = np.random.default_rng(4)
    y = rng.integers(0, N_LABELS, 400)
    good = rng.normal(size=(400, N_LABELS)).astype(np.float32)
    good[np.arange(400), y] += 2
    noise = rng.normal(size=(400, N_LABELS)).astype(np.float32)
    weights, loss = fit_weights({"good": good, "noise": noise}, y)
    assert weights["noise"] < 0.05
    assert weights["good"] > 0.5
    assert loss <= fit_weights({"noise": noise}, y)[1]


def test_what_lies_far_from_all_labels_is_less_near_than_what_lies_among_them() -> None:
    x, y = vectors(400, 5)
    clouds = fit_clouds(Neighbours.of(x, y, N_LABELS, np.ones(400, dtype=bool), seed=0))
    rng = np.random.default_rng(6)
    away = rng.normal(size=(100, DIM)).astype(np.float32)
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    inside = clouds.nearness(vectors(100, 7)[0])
    assert np.median(inside[:, 0]) > np.median(clouds.nearness(away)[:, 0])
    assert np.median(inside[:, 1]) > np.median(clouds.nearness(away)[:, 1])


def test_a_label_without_records_is_nearest_to_nothing() -> None:
    x, y = vectors(100, 8)
    clouds = fit_clouds(Neighbours.of(x, y, N_LABELS + 1, np.ones(100, dtype=bool), seed=0))
    assert np.isfinite(clouds.nearness(x)).all()
    assert (clouds.nearness(x)[:, 0] > -100).all()
