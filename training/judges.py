"""Fits what judges answers: the difficulty model before a rung runs, the acceptor after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import lightgbm
import numpy as np
from numpy.typing import NDArray

from cascade.acceptor import (
    FALLING,
    RISING,
    LabelRecord,
    acceptor_feature_names,
    answer_features,
    blend,
)
from cascade.difficulty import request_features, with_rung
from cascade.features import Featurizer, TextFeatures
from training.trees import fit_trees, out_of_fold, p_one
from training.tried import Tried, settled_at

BLENDS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Candidates for the trees' weight against the rung's own largest probability."""


@dataclass(frozen=True)
class Opinions:
    """What the local rungs say about the training records, out of fold.

    Attributes
    ----------
    scores : list of float32 arrays of shape (n, n_labels), one a rung
    linear : float32 array of shape (n, n_labels)
        The linear model's probabilities.
    neighbours : float32 array of shape (n, n_labels), optional
    nearest : float32 array of shape (n,), optional
    right : bool array of shape (n, n_rungs)
    """

    scores: list[NDArray[np.float32]]
    linear: NDArray[np.float32]
    neighbours: NDArray[np.float32] | None
    nearest: NDArray[np.float32] | None
    right: NDArray[np.bool_]


@dataclass(frozen=True)
class Judges:
    """The difficulty model and the acceptor, with what they say of the training records out of fold.

    Attributes
    ----------
    hardness : float32 array of shape (n_columns, n_rungs)
    record : LabelRecord
    trees_weight : tuple of float
        One a rung: see `cascade.acceptor.blend`.
    request : float32 array of shape (n, n_request_features)
        The request's part of what both see.
    p_right, confidence : float arrays of shape (n, n_rungs)
    tried : list of Tried
    """

    hardness: NDArray[np.float32]
    record: LabelRecord
    difficulty: lightgbm.LGBMClassifier
    acceptor: lightgbm.LGBMClassifier
    trees_weight: tuple[float, ...]
    request: NDArray[np.float32]
    p_right: NDArray[np.float64]
    confidence: NDArray[np.float64]
    tried: list[Tried]

    def judge(
        self, kinds: Sequence[str], opinions: Opinions, request: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """Give the acceptor's P(right) of answers to texts that were not trained on, shape (n, n_rungs)."""
        out = []
        for r, kind in enumerate(kinds):
            p_right = p_one(self.difficulty, with_rung(request, r)).astype(np.float32)
            rows = answer_rows(request, r, kind, p_right, opinions, self.record)
            trees = p_one(self.acceptor, rows)
            out.append(blend(trees, opinions.scores[r].max(axis=1), self.trees_weight[r]))
        return np.stack(out, axis=1).astype(np.float64)


def answer_rows(
    request: NDArray[np.float32],
    rung: int,
    kind: str,
    p_right: NDArray[np.float32],
    opinions: Opinions,
    record: LabelRecord,
) -> NDArray[np.float32]:
    """Give what the acceptor sees of one rung's answers, as serving computes it."""
    encoder = kind == "encoder"
    return answer_features(
        request, rung, p_right, opinions.scores[rung], record,
        opinions.linear if kind != "linear" else None,
        opinions.neighbours if encoder else None,
        opinions.nearest if encoder else None,
    )  # fmt: skip


def fit_judges(
    features: TextFeatures,
    featurizer: Featurizer,
    y: NDArray[np.int64],
    n_labels: int,
    folds: NDArray[np.int64],
    kinds: Sequence[str],
    opinions: Opinions,
    bar: float,
    prior: float,
    seed: int,
) -> Judges:
    """Fit both models on out-of-fold answers.

    Parameters
    ----------
    folds : int array of shape (n,)
        The folds that `opinions` come from.
    bar : float
        For `Tried.settled`.
    prior : float
        Weight, in records, of the mean in smoothed shares.
    """
    n, n_rungs = opinions.right.shape
    answers = np.stack([s.argmax(axis=1) for s in opinions.scores], axis=1)
    request = np.empty((n, 0), dtype=np.float32)
    share = np.empty((n, n_rungs), dtype=np.float32)
    precision = np.empty((n, n_rungs), dtype=np.float32)
    for fold in np.unique(folds):
        inside = folds == fold
        table = _hardness(features, featurizer.n_columns, opinions.right, ~inside, prior)
        seen = _label_record(y, answers, opinions.right, n_labels, ~inside, prior)
        rows = request_features(features, featurizer.idf, table)
        if request.shape[1] == 0:
            request = np.empty((n, rows.shape[1]), dtype=np.float32)
        request[inside] = rows[inside]
        for r in range(n_rungs):
            share[inside, r] = seen.share[answers[inside, r]]
            precision[inside, r] = seen.precision[r, answers[inside, r]]
    everything = np.ones(n, dtype=bool)
    hardness = _hardness(features, featurizer.n_columns, opinions.right, everything, prior)
    record = _label_record(y, answers, opinions.right, n_labels, everything, prior)
    stacked = np.vstack([with_rung(request, r) for r in range(n_rungs)])
    target, all_folds = opinions.right.T.ravel(), np.tile(folds, n_rungs)
    p_right = out_of_fold(stacked, target, all_folds, seed).reshape(n_rungs, n).T
    difficulty = fit_trees(stacked, target, seed)
    names = acceptor_feature_names([str(r) for r in range(n_rungs)])
    constraints = [1 if name in RISING else -1 if name in FALLING else 0 for name in names]
    blocks = []
    for r, kind in enumerate(kinds):
        block = answer_rows(request, r, kind, p_right[:, r].astype(np.float32), opinions, record)
        block[:, names.index("label_share")] = share[:, r]
        block[:, names.index("label_precision")] = precision[:, r]
        blocks.append(block)
    rows = np.vstack(blocks)
    trees = out_of_fold(rows, target, all_folds, seed, monotone_constraints=constraints)
    trees = trees.reshape(n_rungs, n).T
    acceptor = fit_trees(rows, target, seed, monotone_constraints=constraints)
    weights, confidence, tried = [], [], []
    for r, kind in enumerate(kinds):
        weight, blended, how = _choose_blend(trees[:, r], opinions.scores[r], opinions.right[:, r], kind, bar)
        weights.append(weight)
        confidence.append(blended)
        tried += how
    return Judges(
        hardness, record, difficulty, acceptor, tuple(weights), request, p_right,
        np.stack(confidence, axis=1), tried,
    )  # fmt: skip


def _choose_blend(
    trees: NDArray[np.float64],
    scores: NDArray[np.float32],
    right: NDArray[np.bool_],
    kind: str,
    bar: float,
) -> tuple[float, NDArray[np.float64], list[Tried]]:
    """Choose how much the trees weigh by log loss; a chat rung has no probability beside them."""
    top = scores.max(axis=1)
    best: tuple[float, float, NDArray[np.float64]] | None = None
    tried = []
    for weight in (1.0,) if kind == "chat" else BLENDS:
        p = blend(trees, top, weight).astype(np.float64)
        loss = float(-np.log(np.where(right, p, 1 - p)).mean())
        tried.append(
            Tried(
                "acceptor", f"{kind}: trees weigh {weight:g}", loss, float(((p >= 0.5) == right).mean()),
                settled_at(p, right, bar),
            )
        )  # fmt: skip
        if best is None or loss < best[0]:
            best = loss, weight, p
    assert best is not None
    kept = f"{kind}: trees weigh {best[1]:g}"
    return best[1], best[2], [Tried(**(vars(t) | {"kept": t.variant == kept})) for t in tried]


def _hardness(
    features: TextFeatures, n_columns: int, right: NDArray[np.bool_], rows: NDArray[np.bool_], prior: float
) -> NDArray[np.float32]:
    """Give the smoothed share of wrong answers among the texts that hold each n-gram."""
    used = rows[features.rows]
    columns, texts = features.columns[used], features.rows[used]
    count = np.bincount(columns, minlength=n_columns)
    out = np.empty((n_columns, right.shape[1]), dtype=np.float32)
    for r in range(right.shape[1]):
        wrong = (~right[:, r]).astype(np.float64)
        base = wrong[rows].mean() if rows.any() else 0.0
        total = np.bincount(columns, weights=wrong[texts], minlength=n_columns)
        out[:, r] = (total + prior * base) / (count + prior)
    return out


def _label_record(
    y: NDArray[np.int64],
    answers: NDArray[np.int64],
    right: NDArray[np.bool_],
    n_labels: int,
    rows: NDArray[np.bool_],
    prior: float,
) -> LabelRecord:
    share = np.bincount(y[rows & (y >= 0)], minlength=n_labels) / max(int(rows.sum()), 1)
    precision = np.empty((answers.shape[1], n_labels))
    for r in range(answers.shape[1]):
        given, good = answers[rows, r], right[rows, r]
        base = good.mean() if len(good) else 0.0
        hits = np.bincount(given, weights=good, minlength=n_labels)
        precision[r] = (hits + prior * base) / (np.bincount(given, minlength=n_labels) + prior)
    return LabelRecord(share.astype(np.float32), precision.astype(np.float32))
