"""Distances of an embedding to the clouds that the labels' training records form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from training.neighbours import Neighbours

SHRINK = 0.2
"""How far a covariance is drawn towards a sphere: few records make a poor estimate of it."""

FAR = 100.0
"""Whitened coordinates of a label without records: nothing is near it."""


@dataclass(frozen=True)
class Clouds:
    """One Gaussian a label with a common covariance, and one of all records as the background.

    Attributes
    ----------
    within, background : float32 arrays of shape (dim, dim)
        Whitening: distances in the projected space are Mahalanobis distances.
    centres : float32 array of shape (n_labels, dim)
        Whitened means of the labels.
    middle : float32 array of shape (1, dim)
        Whitened mean of all records.
    """

    within: NDArray[np.float32]
    background: NDArray[np.float32]
    centres: NDArray[np.float32]
    middle: NDArray[np.float32]

    def nearness(self, embedding: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give minus the squared distance to the nearest label, alone and less that to the middle; / dim.

        Returns
        -------
        float32 array of shape (n, 2)
        """
        dim = np.float32(embedding.shape[1])
        inside = embedding @ self.within
        squares = (self.centres**2).sum(axis=1) - 2 * (inside @ self.centres.T)
        nearest = (inside**2).sum(axis=1) + squares.min(axis=1)
        outside = ((embedding @ self.background - self.middle) ** 2).sum(axis=1)
        return np.asarray(np.stack([-nearest, outside - nearest], axis=1) / dim, dtype=np.float32)


def fit_clouds(records: Neighbours) -> Clouds:
    """Estimate the clouds from training records."""
    x = records.vectors.astype(np.float64)
    dim = x.shape[1]
    count = np.bincount(records.y, minlength=records.n_labels)
    means = np.zeros((records.n_labels, dim))
    np.add.at(means, records.y, x)
    means /= np.maximum(count, 1)[:, None]
    middle = x.mean(axis=0)
    within = _whiten((x - means[records.y]).T @ (x - means[records.y]) / max(len(x) - (count > 0).sum(), 1))
    background = _whiten((x - middle).T @ (x - middle) / max(len(x) - 1, 1))
    centres = np.where(count[:, None] > 0, means @ within, FAR).astype(np.float16).astype(np.float32)
    return Clouds(within, background, centres, (middle @ background)[None].astype(np.float32))


def _whiten(covariance: NDArray[np.float64]) -> NDArray[np.float32]:
    size = max(float(np.trace(covariance)) / len(covariance), 1e-9)
    shrunk = (1 - SHRINK) * covariance + SHRINK * size * np.eye(len(covariance))
    lower = np.linalg.cholesky(np.linalg.inv(shrunk))
    return np.asarray(lower, dtype=np.float16).astype(np.float32)  # as the exported head stores it


def head_features(
    logits: NDArray[np.float32], records: Neighbours, clouds: Clouds, embedding: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Give the columns of `cascade.scope.HEAD_NAMES`, shape (n, 6).

    Parameters
    ----------
    logits : float32 array of shape (n, n_labels)
        Of the softmax regression on the embedding.
    records : Neighbours
    clouds : Clouds
    embedding : float32 array of shape (n, dim)
    """
    k = min(5, len(records.y))
    nearest = []
    for start in range(0, len(embedding), 2048):
        cosine = embedding[start : start + 2048] @ records.vectors.T
        nearest.append(np.sort(np.partition(cosine, -k, axis=1)[:, -k:], axis=1))
    close = np.concatenate(nearest)
    return np.column_stack(
        [logsumexp(logits, axis=1), logits.max(axis=1), close[:, -1], close.mean(axis=1),
         clouds.nearness(embedding)]
    ).astype(np.float32)  # fmt: skip
