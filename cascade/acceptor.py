"""The acceptor: after a rung ran, P(this answer is right | request, answer, the rung's scores)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.difficulty import TreeModel, feature_names
from cascade.rungs.protocol import Answers
from cascade.scope import log_odds

ANSWER_NAMES = (
    "rung", "p_right_before", "p_top", "p_second", "p_third", "margin", "entropy", "label_share",
    "label_precision", "earlier_p_top", "earlier_p_same", "earlier_agrees", "neighbours_p", "neighbours_gap",
    "nearest",
)  # fmt: skip
"""Names of the columns that describe the answer, in order."""

RISING = frozenset(
    {
        "p_right_before",
        "p_top",
        "margin",
        "label_precision",
        "earlier_p_same",
        "earlier_agrees",
        "neighbours_p",
    }
)
"""Columns of which more can only make an answer more likely to be right: training holds the trees to it."""

FALLING = frozenset({"p_second", "entropy"})
"""Columns of which more can only make an answer less likely to be right."""


_LEAST, _MOST = 1e-6, 1 - 1e-6
_FARTHEST = log(_MOST / (1 - _MOST))


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
    neighbours: NDArray[np.float32] | None = None,
    nearest: NDArray[np.float32] | None = None,
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
    neighbours : float32 array of shape (n, n_labels), optional
        Each label's share among the nearest training records, for an encoder rung.
    nearest : float32 array of shape (n,), optional
        Cosine similarity to the nearest training record, for an encoder rung.

    Returns
    -------
    float32 array of shape (n, n_request_features + len(ANSWER_NAMES))
        Missing parts are -1.
    """
    n, first = len(scores), request.shape[1]
    out = np.empty((n, first + len(ANSWER_NAMES)), dtype=np.float32)
    out[:, :first] = request
    columns = out[:, first:]
    columns.fill(-1)
    at = np.arange(n)
    label = scores.argmax(axis=1)
    top = np.sort(scores, axis=1)[:, : -min(3, scores.shape[1]) - 1 : -1]
    columns[:, 0] = rung
    columns[:, 1] = p_right
    columns[:, 2 : 2 + top.shape[1]] = top
    columns[:, 5] = top[:, 0] - top[:, 1] if top.shape[1] > 1 else top[:, 0]
    columns[:, 6] = -(scores * np.log(scores + np.float32(1e-12))).sum(axis=1)
    columns[:, 7] = record.share[label]
    columns[:, 8] = record.precision[rung, label]
    if earlier is not None:
        columns[:, 9] = earlier.max(axis=1)
        columns[:, 10] = earlier[at, label]
        columns[:, 11] = earlier.argmax(axis=1) == label
    if neighbours is not None:
        chosen = neighbours[at, label]
        others = neighbours.copy()
        others[at, label] = -1
        columns[:, 12] = chosen
        columns[:, 13] = chosen - others.max(axis=1)
    if nearest is not None:
        columns[:, 14] = nearest
    return out


def blend(
    trees: NDArray[np.floating[Any]], top: NDArray[np.float32], trees_weight: float
) -> NDArray[np.float32]:
    """Weigh the trees' P(right) against the rung's own largest probability, in log odds.

    Of few records the trees learn little that the rung's calibrated probability does not say already, and
    add noise; training chooses the weight out of fold.

    Parameters
    ----------
    trees : array of shape (n,)
    top : float32 array of shape (n,)
        The rung's largest probability.
    trees_weight : float
        In [0, 1].
    """
    if trees_weight == 1:
        return trees.astype(np.float32)
    both = np.empty((2, len(top)))
    both[0], both[1] = trees, top
    odds = log_odds(both)
    raw = trees_weight * odds[0] + (1 - trees_weight) * odds[1]
    blended: NDArray[np.float32] = (1 / (1 + np.exp(-raw))).astype(np.float32)
    return blended


def blend_odds(odds: Sequence[float], top: Sequence[float], trees_weight: float) -> list[float]:
    """Give what `blend` gives where the trees' log odds are known, one by one: of a few, this is the faster.

    Parameters
    ----------
    odds : sequence of n float
        What the trees add up to.
    top, trees_weight
        As in `blend`.
    """
    if trees_weight == 1:
        return [1 / (1 + exp(min(-raw, 700.0))) for raw in odds]
    top_weight = 1 - trees_weight
    blended = []
    for raw, q in zip(odds, top, strict=True):
        raw = -_FARTHEST if raw < -_FARTHEST else _FARTHEST if raw > _FARTHEST else raw
        q = _LEAST if q < _LEAST else _MOST if q > _MOST else q
        blended.append(1 / (1 + exp(-(trees_weight * raw + top_weight * log(q / (1 - q))))))
    return blended


class Acceptor:
    """P(this answer is right) for a batch of answers of one rung.

    Parameters
    ----------
    path : Path
        `acceptor.onnx`.
    record : LabelRecord
    trees_weight : sequence of float, optional
        One a rung, see `blend`; by default the trees alone.
    """

    def __init__(self, path: Path, record: LabelRecord, trees_weight: Sequence[float] = ()) -> None:
        self._model = TreeModel(path)
        self._record = record
        self._trees_weight = tuple(trees_weight)

    def confidence(
        self, request: NDArray[np.float32], rung: int, p_right: NDArray[np.float32], answers: Answers
    ) -> NDArray[np.float32]:
        """Give P(right) of a rung's answers, shape (n,). See `answer_features` for the parameters."""
        assert answers.scores is not None
        earlier = answers.linear if answers.linear is not answers.scores else None
        trees = self._model(
            answer_features(
                request,
                rung,
                p_right,
                answers.scores,
                self._record,
                earlier,
                answers.neighbours,
                answers.nearest,
            )
        )
        if not self._trees_weight:
            return trees
        return blend(trees, answers.scores.max(axis=1), self._trees_weight[rung])
