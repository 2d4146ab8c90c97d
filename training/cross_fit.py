"""The difficulty model of an outcome table, cross-fitted: no model estimates a prompt that it has seen.

For each rung, P(right) is learned from what the served difficulty model sees (surface features, rarity of the
n-grams, their *hardness* for each rung) and, where an encoder is at hand, from how it did on the nearest
prompts. Both are target encodings, so inside each training part they are computed out of fold once more.

References
----------
Chernozhukov et al., "Double/debiased machine learning", Econometrics Journal 2018: cross-fitting.
Hu et al., "RouterBench", 2024 (arXiv 2403.12031): routing by the nearest prompts.
"""

from __future__ import annotations

from collections.abc import Callable

import lightgbm
import numpy as np
from numpy.typing import NDArray

from cascade.difficulty import request_features
from cascade.errors import InvalidInput
from cascade.features import Featurizer
from training.fit import make_folds
from training.near_duplicates import near_duplicates
from training.outcome_table import OutcomeTable
from training.trees import PARAMETERS

Floats = NDArray[np.float64]
Progress = Callable[[str], None]

MIN_RECORDS = 100
"""Fewer prompts than this say nothing that can be told from luck."""

PRIOR = 5.0
"""Weight, in prompts, of the rung's mean in smoothed shares."""

NEIGHBOURS = 20


def cross_fit(
    table: OutcomeTable,
    embedding: NDArray[np.float32] | None = None,
    n_folds: int = 5,
    seed: int = 0,
    progress: Progress = lambda _: None,
) -> Floats:
    """Estimate every rung's score on every prompt, by models that saw other prompts only.

    Near duplicates stay in one fold.

    Parameters
    ----------
    table : OutcomeTable
    embedding : float32 array of shape (n, dim), optional
        Unit vectors of the prompts.
    n_folds : int
        At least 2.

    Returns
    -------
    float array of shape (n, n_rungs)
        In [0, 1].

    Raises
    ------
    InvalidInput
        There are fewer than `MIN_RECORDS` prompts, or fewer than two rungs.
    """
    n, n_rungs = table.right.shape
    if n < MIN_RECORDS:
        raise InvalidInput(
            "file", f"{n} prompts are too few to learn from; at least {MIN_RECORDS} are needed"
        )
    if n_rungs < 2:
        raise InvalidInput("file", f"there is only the rung {table.rungs[0]!r}; a ladder needs two or more")
    groups = near_duplicates(table.prompts, seed)
    # folds with alike shares of easy and hard prompts
    level = (table.right.mean(axis=1) * n_rungs).round().astype(np.int64)
    folds = make_folds(level, groups, n_folds, seed)
    out = np.empty((n, n_rungs))
    for fold in range(n_folds):
        progress(f"difficulty, fold {fold + 1} of {n_folds}")
        inside = folds == fold
        out[inside] = _fit_and_ask(table, embedding, ~inside, inside, groups, level, n_folds, seed)
    return np.clip(out, 0.0, 1.0)


def _fit_and_ask(
    table: OutcomeTable,
    embedding: NDArray[np.float32] | None,
    train: NDArray[np.bool_],
    ask: NDArray[np.bool_],
    groups: NDArray[np.int64],
    level: NDArray[np.int64],
    n_folds: int,
    seed: int,
) -> Floats:
    at, asked = np.flatnonzero(train), np.flatnonzero(ask)
    right = table.right[at]
    featurizer = Featurizer.fit([table.prompts[i] for i in at])
    features = featurizer([table.prompts[i] for i in at])
    asked_features = featurizer([table.prompts[i] for i in asked])
    inner = make_folds(
        level[at], np.unique(groups[at], return_inverse=True)[1].astype(np.int64), n_folds, seed + 1
    )
    rows: NDArray[np.float32] | None = None
    for fold in range(n_folds):
        hold = inner == fold
        table_of = _hardness(
            features.columns, features.rows, features.values, featurizer.n_columns, right, ~hold
        )
        seen = request_features(features, featurizer.idf, table_of)[hold]
        if embedding is not None:
            near = _near(embedding[at[~hold]], right[~hold], embedding[at[hold]])
            seen = np.hstack([seen, near])
        if rows is None:
            rows = np.empty((len(at), seen.shape[1]), dtype=np.float32)
        rows[hold] = seen
    assert rows is not None
    everything = np.ones(len(at), dtype=bool)
    final = _hardness(
        features.columns, features.rows, features.values, featurizer.n_columns, right, everything
    )
    questions = request_features(asked_features, featurizer.idf, final)
    if embedding is not None:
        questions = np.hstack([questions, _near(embedding[at], right, embedding[asked])])
    return np.stack(
        [_fit_one(rows, right[:, r], seed).predict(questions) for r in range(right.shape[1])], axis=1
    )


def _fit_one(rows: NDArray[np.float32], right: Floats, seed: int) -> lightgbm.LGBMRegressor:
    """Fit one rung's expected score; cross-entropy takes scores between 0 and 1 as they are."""
    leaf = int(np.clip(len(rows) // 25, 5, 40))
    settings = PARAMETERS | {"min_child_samples": leaf, "objective": "cross_entropy"}
    return lightgbm.LGBMRegressor(**settings, random_state=seed, n_jobs=1).fit(rows, right)


def _hardness(
    columns: NDArray[np.int64], texts: NDArray[np.int64], values: NDArray[np.float32], n_columns: int,
    right: Floats, rows: NDArray[np.bool_],
) -> NDArray[np.float32]:  # fmt: skip
    """Give the smoothed share of what was answered wrong among the prompts that hold each n-gram."""
    used = rows[texts]
    columns, texts = columns[used], texts[used]
    count = np.bincount(columns, minlength=n_columns)
    out = np.empty((n_columns, right.shape[1]), dtype=np.float32)
    for r in range(right.shape[1]):
        wrong = 1 - right[:, r]
        total = np.bincount(columns, weights=wrong[texts], minlength=n_columns)
        out[:, r] = (total + PRIOR * wrong[rows].mean()) / (count + PRIOR)
    return out


def _near(known: NDArray[np.float32], right: Floats, asked: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give each rung's mean score on the nearest known prompts, and the cosine of the nearest."""
    k = min(NEIGHBOURS, len(known))
    out = np.empty((len(asked), right.shape[1] + 1), dtype=np.float32)
    for start in range(0, len(asked), 1024):
        cosine = asked[start : start + 1024] @ known.T
        best = np.argpartition(-cosine, k - 1, axis=1)[:, :k]
        out[start : start + 1024, :-1] = right[best].mean(axis=1)
        out[start : start + 1024, -1] = cosine.max(axis=1)
    return out
