"""Weighs several opinions about the same texts in log space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

FLOOR_LINEAR, FLOOR_NEIGHBOURS = 1e-6, 1e-4
KERNEL_SCALE = 15.0
"""Brings a kernel's scores, about 0 to 1, to the size of log-probabilities."""

LEAST_WEIGHT = 0.02
"""An opinion that weighs less is left out."""

Logs = NDArray[np.float32]


def log_opinions(
    embedding: NDArray[np.float32],
    linear: NDArray[np.float32],
    neighbours: NDArray[np.float32],
    kernel: NDArray[np.float32],
) -> dict[str, Logs]:
    """Bring opinions to log space, each of shape (n, n_labels), up to a constant a row.

    Parameters
    ----------
    embedding : array of shape (n, n_labels)
        Logits of softmax regression on embeddings.
    linear : array of shape (n, n_labels)
        Probabilities of the linear model.
    neighbours : array of shape (n, n_labels)
        Shares of the neighbours' votes.
    kernel : array of shape (n, n_labels)
        Scores of the kernel machine.
    """
    return {
        "embedding": np.maximum(embedding, -50),
        "linear": np.log(linear + np.float32(FLOOR_LINEAR)),
        "neighbours": np.log(neighbours + np.float32(FLOOR_NEIGHBOURS)),
        "kernel": np.float32(KERNEL_SCALE) * kernel,
    }


@dataclass(frozen=True)
class Fusion:
    """How opinions are weighed.

    Attributes
    ----------
    weights : mapping of str to float
        Weight of each opinion of `log_opinions`, not negative; 0 leaves it out.
    sharpness : float
        How fast a training record's vote fades with its distance.
    """

    weights: Mapping[str, float]
    sharpness: float

    def logits(self, opinions: Mapping[str, Logs]) -> Logs:
        """Give the fused logits, shape (n, n_labels)."""
        parts = [np.float32(w) * opinions[name] for name, w in self.weights.items() if w]
        total: Logs = np.sum(parts, axis=0, dtype=np.float32)
        return total

    def probabilities(self, opinions: Mapping[str, Logs]) -> NDArray[np.float32]:
        """Give the fused probabilities, shape (n, n_labels)."""
        return np.asarray(softmax(self.logits(opinions), axis=1), dtype=np.float32)


def fit_weights(opinions: Mapping[str, Logs], y: NDArray[np.int64]) -> tuple[dict[str, float], float]:
    """Find the weights that give the least log loss on out-of-fold opinions.

    Records that no rung can be right about (`y` is negative) have no loss, and are left out.

    Returns
    -------
    weights : dict of str to float
        In the opinions' order; those below `LEAST_WEIGHT` are 0 and the others fitted without them.
    log_loss : float
    """
    if (y < 0).any():
        opinions, y = {name: logs[y >= 0] for name, logs in opinions.items()}, y[y >= 0]
    names = list(opinions)
    parts = np.stack([opinions[name] for name in names])
    at = np.arange(len(y))

    def loss(w: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        log_p = log_softmax(np.tensordot(w.astype(np.float32), parts, axes=1), axis=1)
        p = np.exp(log_p)
        slope = [float(np.einsum("ij,ij->", p, part) - part[at, y].sum()) / len(y) for part in parts]
        return float(-log_p[at, y].mean(dtype=np.float64)), np.array(slope)

    start = np.full(len(names), 1 / len(names))
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0, 5)] * len(names))
    kept = [name for name, w in zip(names, found.x, strict=True) if w >= LEAST_WEIGHT]
    if kept and len(kept) < len(names):
        weights, least = fit_weights({name: opinions[name] for name in kept}, y)
        return {name: weights.get(name, 0.0) for name in names}, least
    return {name: float(w) for name, w in zip(names, found.x, strict=True)}, float(found.fun)
