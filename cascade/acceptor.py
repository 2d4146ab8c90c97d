"""The acceptor: after a rung ran, P(this answer is right | request, answer, the rung's scores)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cascade.difficulty import TreeModel, feature_names

ANSWER_NAMES = (
    "rung", "p_right_before", "p_top", "p_second", "p_third", "margin", "entropy", "label_share",
    "label_precision", "earlier_p_top", "earlier_p_same", "earlier_agrees", "similarity", "similarity_gap",
)  # fmt: skip
"""Names of the columns that describe the answer, in order."""


def acceptor_feature_names(rungs: Sequence[str]) -> list[str]:
    """Name the columns of `answer_features`, in order."""
    return [*feature_names(rungs), *ANSWER_NAMES]


@dataclass(frozen=True)
class LabelRecord:
    """What training saw of each label.

    Attributes
    ----------
    share : float32 array of shape (n_labels,)
        Its share of the training records.
    precision : float32 array of shape (n_rungs, n_labels)
        How often the rung's out-of-fold answers with this label were right, smoothed.
    """

    share: NDArray[np.float32]
    precision: NDArray[np.float32]


def answer_features(
    request: NDArray[np.float32],
    rung: int,
    p_right: NDArray[np.float32],
    scores: NDArray[np.float32],
    record: LabelRecord,
    earlier: NDArray[np.float32] | None = None,
    similarity: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Give what the acceptor sees of a batch of answers.

    Parameters
    ----------
    request : float32 array of shape (n, n_request_features)
        From `cascade.difficulty.request_features`.
    rung : int
        Index of the rung that answered.
    p_right : float32 array of shape (n,)
        The difficulty model's P(right) for that rung.
    scores : float32 array of shape (n, n_labels)
        The rung's probabilities.
    record : LabelRecord
        What training saw of each label.
    earlier : float32 array of shape (n, n_labels), optional
        The probabilities of the linear rung, for a rung above it.
    similarity : float32 array of shape (n, n_labels), optional
        Cosine similarity to each label's centroid, for an encoder rung.

    Returns
    -------
    float32 array of shape (n, n_request_features + len(ANSWER_NAMES))
        Missing parts are -1.
    """
    n = len(scores)
    at = np.arange(n)
    label = scores.argmax(axis=1)
    n_top = min(3, scores.shape[1])
    top = -np.partition(-scores, n_top - 1, axis=1)[:, :n_top]
    top = -np.sort(-top, axis=1)
    columns = np.full((n, len(ANSWER_NAMES)), -1, dtype=np.float32)
    columns[:, 0] = rung
    columns[:, 1] = p_right
    columns[:, 2 : 2 + n_top] = top
    columns[:, 5] = top[:, 0] - (top[:, 1] if n_top > 1 else 0)
    columns[:, 6] = -(scores * np.log(np.maximum(scores, 1e-12))).sum(axis=1)
    columns[:, 7] = record.share[label]
    columns[:, 8] = record.precision[rung, label]
    if earlier is not None:
        columns[:, 9] = earlier.max(axis=1)
        columns[:, 10] = earlier[at, label]
        columns[:, 11] = earlier.argmax(axis=1) == label
    if similarity is not None:
        chosen = similarity[at, label]
        others = similarity.copy()
        others[at, label] = -np.inf
        columns[:, 12] = chosen
        columns[:, 13] = chosen - np.maximum(others.max(axis=1), -1)
    return np.hstack([request, columns])


class Acceptor:
    """P(this answer is right) for a batch of answers of one rung.

    Parameters
    ----------
    path : Path
        `acceptor.onnx`.
    record : LabelRecord
    """

    def __init__(self, path: Path, record: LabelRecord) -> None:
        self._model = TreeModel(path)
        self._record = record

    def confidence(
        self,
        request: NDArray[np.float32],
        rung: int,
        p_right: NDArray[np.float32],
        scores: NDArray[np.float32],
        earlier: NDArray[np.float32] | None = None,
        similarity: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Give P(right), shape (n,). See `answer_features` for the parameters."""
        return self._model(answer_features(request, rung, p_right, scores, self._record, earlier, similarity))
