"""Opinions that come from the nearest training records: their votes, and a kernel machine on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.special import softmax

MAX_NEIGHBOURS = 20_000
"""Training records that are kept; of more, as many at random."""


@dataclass(frozen=True)
class Neighbours:
    """Training records that vote for their labels.

    Attributes
    ----------
    vectors : float32 array of shape (n, dim)
        Unit vectors.
    y : int array of shape (n,)
        Their labels.
    n_labels : int
    """

    vectors: NDArray[np.float32]
    y: NDArray[np.int64]
    n_labels: int

    @classmethod
    def of(
        cls,
        embedding: NDArray[np.float32],
        y: NDArray[np.int64],
        n_labels: int,
        rows: NDArray[np.bool_],
        seed: int,
    ) -> Neighbours:
        """Keep some of the rows, in half precision, as the exported head stores them."""
        at = np.flatnonzero(rows)
        if len(at) > MAX_NEIGHBOURS:
            at = np.sort(np.random.default_rng(seed).choice(at, MAX_NEIGHBOURS, replace=False))
        return cls(embedding[at].astype(np.float16).astype(np.float32), y[at], n_labels)

    def onehot(self) -> NDArray[np.float32]:
        """Give the labels as rows of zeros and a one, shape (n, n_labels)."""
        out = np.zeros((len(self.y), self.n_labels), dtype=np.float32)
        out[np.arange(len(self.y)), self.y] = 1
        return out

    def shares(
        self, embedding: NDArray[np.float32], sharpness: float
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Give each label's share of the votes, shape (n, n_labels), and the nearest cosine, shape (n,)."""
        onehot = self.onehot()
        shares, nearest = [], []
        for start in range(0, len(embedding), 2048):
            cosine = embedding[start : start + 2048] @ self.vectors.T
            nearest.append(cosine.max(axis=1))
            shares.append(softmax(np.float32(sharpness) * cosine, axis=1) @ onehot)
        return np.concatenate(shares), np.concatenate(nearest)


@dataclass(frozen=True)
class KernelModel:
    """Regularised least squares of the labels on the similarity to each training record.

    The kernel of two unit vectors is exp(sharpness * (cosine - 1)): a Gaussian of their distance. On frozen
    embeddings it bends the boundaries that softmax regression draws straight.

    Attributes
    ----------
    duals : float32 array of shape (n, n_labels)
        Weight of each training record for each label.
    sharpness : float

    References
    ----------
    Rifkin, Yeo, Poggio, "Regularized Least-Squares Classification", 2003.
    """

    duals: NDArray[np.float32]
    sharpness: float

    def scores(self, neighbours: Neighbours, embedding: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give each label's score, about 0 to 1, shape (n, n_labels)."""
        out = []
        for start in range(0, len(embedding), 2048):
            cosine = embedding[start : start + 2048] @ neighbours.vectors.T
            out.append(np.exp(np.float32(self.sharpness) * (cosine - 1)) @ self.duals)
        return np.concatenate(out)


def fit_kernel(neighbours: Neighbours, sharpness: float, ridge: float) -> KernelModel:
    """Solve for the duals: one Cholesky decomposition, n**3 / 3 multiplications.

    Parameters
    ----------
    neighbours : Neighbours
    sharpness : float
        See `KernelModel`.
    ridge : float
        Added to the kernel's diagonal, which is 1; more smooths more.
    """
    gram = neighbours.vectors @ neighbours.vectors.T
    gram -= 1
    gram *= np.float32(sharpness)
    np.exp(gram, out=gram)
    gram[np.diag_indices(len(gram))] += np.float32(ridge)
    factor = cho_factor(gram, lower=True, overwrite_a=True, check_finite=False)
    duals = cho_solve(factor, neighbours.onehot(), overwrite_b=True, check_finite=False)
    return KernelModel(np.asarray(duals, dtype=np.float16).astype(np.float32), sharpness)
