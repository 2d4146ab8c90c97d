"""The difficulty model: before a rung runs, P(its answer will be right | request).

What it sees of a request is cheap, because it must cost less than the rung it may save: the surface
features, how rare the n-grams are, and for each rung the mean *hardness* of the n-grams, which is the
smoothed share of wrong out-of-fold answers among the training texts that hold an n-gram (a target
encoding, itself computed out-of-fold in training).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cascade.features import SURFACE_NAMES, Featurizer, TextFeatures
from cascade.onnx_session import open_session


def feature_names(rungs: Sequence[str]) -> list[str]:
    """Name the columns of `request_features`, in order."""
    return [*SURFACE_NAMES, "mean_idf", "max_idf", *(f"hardness_{rung}" for rung in rungs)]


def request_features(
    features: TextFeatures, idf: NDArray[np.float32], hardness: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Give what the difficulty model and the acceptor see of each request.

    Parameters
    ----------
    features : TextFeatures
        A batch of n texts.
    idf : float32 array of shape (n_columns,)
        The featurizer's inverse document frequencies.
    hardness : float32 array of shape (n_columns, n_rungs)
        Hardness of each n-gram for each rung.

    Returns
    -------
    float32 array of shape (n, len(feature_names(rungs)))
    """
    n, n_surface = features.surface.shape
    out = np.empty((n, n_surface + 2 + hardness.shape[1]), dtype=np.float32)
    out[:, :n_surface] = features.surface
    rows, columns = features.rows, features.columns
    weight = features.values.astype(np.float64) ** 2
    total = np.maximum(np.bincount(rows, weights=weight, minlength=n), 1e-9)
    rarity = idf[columns]
    counts = np.maximum(np.bincount(rows, minlength=n), 1)
    out[:, n_surface] = np.bincount(rows, weights=rarity, minlength=n) / counts
    peak = np.zeros(n, dtype=np.float32)
    np.maximum.at(peak, rows, rarity)
    out[:, n_surface + 1] = peak
    for r in range(hardness.shape[1]):
        summed = np.bincount(rows, weights=weight * hardness[columns, r], minlength=n)
        out[:, n_surface + 2 + r] = summed / total
    return out


def with_rung(request: NDArray[np.float32], rung: int) -> NDArray[np.float32]:
    """Append the rung's index: one model serves all rungs."""
    return np.hstack([request, np.full((len(request), 1), rung, dtype=np.float32)])


class TreeModel:
    """A LightGBM binary classifier in ONNX: features in, P(1) out."""

    def __init__(self, path: Path) -> None:
        self._session = open_session(path)

    def __call__(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give P(1) for each row, shape (n,)."""
        out: NDArray[np.float32] = self._session.run(None, {"features": rows})[0]
        return out[:, 1]


class Difficulty:
    """P(right) of every local rung for a batch of requests.

    Parameters
    ----------
    path : Path
        `difficulty.onnx`.
    hardness : float32 array of shape (n_columns, n_rungs)
    featurizer : Featurizer
    """

    def __init__(self, path: Path, hardness: NDArray[np.float32], featurizer: Featurizer) -> None:
        self._model = TreeModel(path)
        self._hardness = hardness
        self._idf = featurizer.idf

    def request_features(self, features: TextFeatures) -> NDArray[np.float32]:
        """Give the request's part of what difficulty model and acceptor see."""
        return request_features(features, self._idf, self._hardness)

    def p_right(self, request: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give P(rung is right | request), shape (n, n_rungs)."""
        n, n_rungs = len(request), self._hardness.shape[1]
        rows = np.repeat(request, n_rungs, axis=0)
        rung = np.tile(np.arange(n_rungs, dtype=np.float32), n)[:, None]
        return self._model(np.hstack([rows, rung])).reshape(n, n_rungs)
