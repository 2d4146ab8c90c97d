"""The difficulty model: before a rung runs, P(its answer will be right | request).

What it sees of a request is cheap, because it must cost less than the rung it may save: the surface
features, how rare the n-grams are, and for each rung the mean *hardness* of the n-grams, which is the
smoothed share of wrong out-of-fold answers among the training texts that hold an n-gram (a target
encoding, itself computed out-of-fold in training).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cascade.features import TextFeatures
from cascade.onnx_session import open_session
from cascade.surface import SURFACE_NAMES, surface, surfaces


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
    # In double precision from the start: bincount would make a copy of each column of weights.
    weight = (features.values * features.values).astype(np.float64)
    rarity = idf.take(columns)
    counts = np.bincount(rows, minlength=n)
    out[:, n_surface] = np.bincount(rows, rarity, n) / np.maximum(counts, 1)
    peak = np.zeros(n, dtype=np.float32)
    if len(rows):
        filled = counts > 0
        peak[filled] = np.maximum.reduceat(rarity, (np.cumsum(counts) - counts)[filled])
    out[:, n_surface + 1] = peak
    total = np.maximum(np.bincount(rows, weight, n), 1e-9)
    table = hardness.take(columns, axis=0)
    for r in range(hardness.shape[1]):
        out[:, n_surface + 2 + r] = np.bincount(rows, weight * table[:, r], n) / total
    return out


N_SUMS = 3
"""Sums that `request_row` takes of each block's n-grams, beside those of their hardness."""


def request_row(
    text: str, facts: Sequence[Sequence[float]], counts: Sequence[int], peak: float, step: float
) -> tuple[list[float], list[float]]:
    """Give what `request_features` gives, of one text and from sums over its n-grams.

    Parameters
    ----------
    text : str
    facts : sequence of 2 sequences of N_SUMS + n_rungs float
        Of words with their pairs, and of bytes: how many n-grams are known, the sums of their idf and of its
        square, and for each rung of their hardness times idf squared; in steps.
    counts : sequence of 3 int
        How many n-grams each block has.
    peak : float
        The largest idf.
    step : float
        What a step is worth, a power of two.

    Returns
    -------
    features : list of len(feature_names(rungs)) float
    scales : list of 3 float
        What the idf of each block's n-grams is to be multiplied with: words with their pairs, and bytes, have
        norm 1 apart. The block of pairs is with the words, and its own scale is 0.
    """
    both, of_bytes = facts
    known_words, known_bytes = both[0] * step, of_bytes[0] * step
    n_blocks = max((both[2] > 0) + (of_bytes[2] > 0), 1)
    words_square, bytes_square = max(both[2], 1), max(of_bytes[2], 1)
    row = surface(text, counts[0] + counts[1], counts[2], known_words, known_bytes)
    row += [(both[1] + of_bytes[1]) * step / max(known_words + known_bytes, 1.0), peak]
    row += [
        (words / words_square + of_byte / bytes_square) / n_blocks
        for words, of_byte in zip(both[N_SUMS:], of_bytes[N_SUMS:], strict=True)
    ]
    return row, [1 / sqrt(words_square * step), 0.0, 1 / sqrt(bytes_square * step)]


def request_rows(
    texts: Sequence[str],
    facts: NDArray[np.int64],
    counts: NDArray[np.int64],
    peaks: NDArray[np.float32],
    step: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give what `request_row` gives, to the last bit, of n texts.

    Parameters
    ----------
    texts : sequence of n str
    facts : int64 array of shape (n, 2, N_SUMS + n_rungs)
    counts : int array of shape (n, 3)
    peaks : float32 array of shape (n,)
    step : float

    Returns
    -------
    features : float64 array of shape (n, len(feature_names(rungs)))
    scales : float64 array of shape (n, 3)
    """
    both, of_bytes = of_norm = facts.transpose(1, 2, 0)  # these have norm 1 apart
    known_words, known_bytes = of_norm[:, 0] * step
    squares = np.maximum(of_norm[:, 2], 1)
    n_blocks = 1 + (np.minimum(both[2], of_bytes[2]) > 0)
    hard = of_norm[:, N_SUMS:] / squares[:, None]
    n_surface = len(SURFACE_NAMES)
    out = np.empty((len(texts), n_surface + 2 + hard.shape[1]))
    out[:, :n_surface] = surfaces(texts, counts[:, 0] + counts[:, 1], counts[:, 2], known_words, known_bytes)
    known = np.maximum(known_words + known_bytes, 1.0)
    out[:, n_surface] = (both[1] + of_bytes[1]) * step / known
    out[:, n_surface + 1] = peaks
    out[:, n_surface + 2 :] = ((hard[0] + hard[1]) / n_blocks).T
    scales = np.zeros((len(texts), 3))
    scales[:, ::2] = (1 / np.sqrt(squares * step)).T
    return out, scales


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
