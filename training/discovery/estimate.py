"""What could be settled locally at a bar: a quick cross-fitted guess, before anything is trained for good."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_union

BARS = (0.95, 0.98, 0.99)
MAX_RECORDS = 2_000
MIN_RECORDS = 100
_FOLDS = 3


def estimate(
    texts: Sequence[str], labels: Sequence[str], embedding: NDArray[np.float32] | None, seed: int = 0
) -> dict[float, float] | None:
    """Guess the share of calls that a small ladder settles at each bar.

    TF-IDF and, where there is one, the embedding, each under logistic regression, averaged; out of fold. At
    each bar, the largest share whose agreement has its lower 95 % bound (Clopper and Pearson 1934) above the
    bar. It is a guess: `cascade retrain` proves, and knows better models.

    Parameters
    ----------
    texts, labels : sequence of str
    embedding : float32 array of shape (n, dim), optional
    seed : int

    Returns
    -------
    dict of float to float or None
        None where there are too few records to say.
    """
    y = np.unique(np.array(labels), return_inverse=True)[1]
    counts = np.bincount(y)
    keep = np.flatnonzero(counts[y] >= _FOLDS)
    if len(keep) < MIN_RECORDS or len(np.unique(y[keep])) < 2:
        return None
    rng = np.random.default_rng(seed)
    if len(keep) > MAX_RECORDS:
        keep = np.sort(rng.permutation(keep)[:MAX_RECORDS])
    keep = keep[np.bincount(y[keep], minlength=len(counts))[y[keep]] >= _FOLDS]
    y = np.unique(y[keep], return_inverse=True)[1]
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    letters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True, max_features=30_000)
    views = [make_union(words, letters).fit_transform([texts[i] for i in keep.tolist()])]
    if embedding is not None:
        views.append(embedding[keep])
    fold = np.empty(len(y), dtype=np.int64)
    for label in range(int(y.max()) + 1):  # each label in every fold
        rows = rng.permutation(np.flatnonzero(y == label))
        fold[rows] = np.arange(len(rows)) % _FOLDS
    probability = np.zeros((len(y), int(y.max()) + 1))
    for f in range(_FOLDS):
        train, test = np.flatnonzero(fold != f), np.flatnonzero(fold == f)
        for view in views:
            model = LogisticRegression(C=20.0, max_iter=100, tol=1e-3).fit(view[train], y[train])
            probability[np.ix_(test, model.classes_)] += model.predict_proba(view[test]) / len(views)
    confidence, right = probability.max(axis=1), probability.argmax(axis=1) == y
    return {bar: _settled(confidence, right, bar) for bar in BARS}


def _settled(confidence: NDArray[np.float64], right: NDArray[np.bool_], bar: float) -> float:
    order = np.argsort(-confidence, kind="stable")
    n = np.arange(1, len(order) + 1)
    k = np.cumsum(right[order])
    low = np.where(k > 0, beta.ppf(0.05, np.maximum(k, 1), n - k + 1), 0.0)
    at = np.flatnonzero(low >= bar)
    return float((at[-1] + 1) / len(order)) if len(at) else 0.0
