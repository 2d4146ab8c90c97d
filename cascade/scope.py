"""The out-of-scope detector: P(some label applies | request, answer), learned without out-of-scope records.

A request that no label fits looks unlike the training records. How much so is seen in a few numbers: the
rung's probabilities, and for an encoder rung the distance to the nearest records and to the cloud that each
label's embeddings form. One logistic model a rung weighs them; `training.scope` fits it on labels that were
held out whole, which stand for what is out of scope.

References
----------
Lee, Lee, Lee, Shin, "A simple unified framework for detecting out-of-distribution samples", NeurIPS 2018.
Ren et al., "A simple fix to Mahalanobis distance for improving near-OOD detection", 2021 (arXiv 2106.09022).
Liu, Wang, Owens, Li, "Energy-based out-of-distribution detection", NeurIPS 2020.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.surface import SURFACE_NAMES

HEAD_NAMES = (
    "energy", "largest_logit", "nearest", "nearest_five", "mahalanobis", "relative_mahalanobis",
)  # fmt: skip
"""What an encoder's head says of how near a text is to its training records; more is nearer."""

ANSWER_NAMES = ("logit_top", "margin", "entropy", "unknown_words", "unknown_bytes", "mean_idf")
"""What every rung's detector sees."""

ENCODER_NAMES = (*ANSWER_NAMES, "votes", *HEAD_NAMES)
"""What an encoder rung's detector sees."""

_UNKNOWN = [SURFACE_NAMES.index("unknown_words"), SURFACE_NAMES.index("unknown_bytes")]


def log_odds(p: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Give log(p / (1 - p)), p kept within [1e-6, 1 - 1e-6]."""
    bounded = np.minimum(np.maximum(p, 1e-6, dtype=np.float64), 1 - 1e-6)  # np.clip takes twice as long
    odds: NDArray[np.float64] = np.log(bounded / (1 - bounded))
    return odds


def scope_features(
    request: NDArray[np.float32],
    scores: NDArray[np.float32],
    neighbours: NDArray[np.float32] | None = None,
    head: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Give what a rung's detector sees of a batch of answers.

    Parameters
    ----------
    request : float32 array of shape (n, n_request_features)
        From `cascade.difficulty.request_features`.
    scores : float32 array of shape (n, n_labels)
        The rung's probabilities.
    neighbours : float32 array of shape (n, n_labels), optional
        The neighbours' votes, for an encoder rung.
    head : float32 array of shape (n, len(HEAD_NAMES)), optional
        For an encoder rung.

    Returns
    -------
    float32 array of shape (n, n_features)
        Columns are `ENCODER_NAMES` where `head` is given, else `ANSWER_NAMES`.
    """
    n = len(scores)
    names = ANSWER_NAMES if head is None else ENCODER_NAMES
    out = np.zeros((n, len(names)), dtype=np.float32)
    top = np.sort(scores, axis=1)
    out[:, 0] = log_odds(top[:, -1])
    out[:, 1] = top[:, -1] - top[:, -2]
    out[:, 2] = -(scores * np.log(scores + np.float32(1e-12))).sum(axis=1)
    out[:, 3:5] = request[:, _UNKNOWN]
    out[:, 5] = request[:, len(SURFACE_NAMES)]
    if head is not None:
        if neighbours is not None:
            out[:, 6] = neighbours[np.arange(n), scores.argmax(axis=1)]
        out[:, 7:] = head
    return out


@dataclass(frozen=True)
class ScopeDetector:
    """P(in scope) for the answers of each rung.

    Attributes
    ----------
    weights : tuple of float64 arrays of shape (n_features,)
        One a rung; empty for a rung that has no detector, whose answers all count as in scope.
    bias : tuple of float
    """

    weights: tuple[NDArray[np.float64], ...]
    bias: tuple[float, ...]

    def in_scope(
        self,
        rung: int,
        request: NDArray[np.float32],
        scores: NDArray[np.float32],
        neighbours: NDArray[np.float32] | None = None,
        head: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Give P(in scope) of a rung's answers, shape (n,). See `scope_features` for the parameters."""
        weights = self.weights[rung]
        if not len(weights):
            return np.ones(len(scores), dtype=np.float32)
        rows = scope_features(request, scores, neighbours, head).astype(np.float64)
        # a row at a time sums in one order: a text's value must not depend on its batch
        raw = np.array([float((row * weights).sum()) for row in rows]) + self.bias[rung]
        return np.asarray(1 / (1 + np.exp(-np.clip(raw, -60, 60))), dtype=np.float32)

    def to_json(self) -> list[dict[str, Any]]:
        """Give the weights as the manifest stores them."""
        return [
            {"weights": [float(w) for w in weights], "bias": bias}
            for weights, bias in zip(self.weights, self.bias, strict=True)
        ]

    @classmethod
    def from_json(cls, data: Sequence[dict[str, Any]]) -> ScopeDetector:
        """Read what `to_json` gave."""
        return cls(
            tuple(np.array(entry["weights"], dtype=np.float64) for entry in data),
            tuple(float(entry["bias"]) for entry in data),
        )
