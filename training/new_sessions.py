"""How well the models would do on sessions that they have never seen, where sessions are too big to split by.

Such sessions stand among training and held-out records alike, so the certificate does not say. The linear
model is cheap to fit again without some of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from training.fit import FittedLadder
from training.linear import fit_softmax

MAX_FOLDS = 5
MIN_FITTED = 50
"""Records that must be left to fit a model on, where those of some sessions are taken away."""


@dataclass(frozen=True)
class NewSessions:
    """What the linear model alone says about the training records of big sessions.

    Attributes
    ----------
    records : int
        Those that it was asked about.
    seen, new : float
        Share of them that it is right about, out of fold: where it was fitted on other records of the
        session, and where it was not.
    """

    records: int
    seen: float
    new: float

    def to_json(self) -> dict[str, float]:
        """Give it as the manifest stores it."""
        return {key: round(value, 4) for key, value in asdict(self).items()}


def on_new_sessions(
    fitted: FittedLadder, sessions: Sequence[str | None], big: frozenset[str], seed: int = 0
) -> NewSessions | None:
    """Fit the linear model without some of the big sessions, and ask it about them, until all were asked.

    Parameters
    ----------
    fitted : FittedLadder
    sessions : sequence of n (str or None)
        Of the training records.
    big : frozenset of str
        The sessions that are not kept together.

    Returns
    -------
    NewSessions or None
        None where there are none, or too little is left beside one: an id that all records carry.
    """
    names = [session if session is not None and session in big else "" for session in sessions]
    found, which = np.unique(names, return_inverse=True)
    known = fitted.y >= 0
    fold = np.full(len(found), -1)
    theirs = np.flatnonzero(found != "")
    fold[np.random.default_rng(seed).permutation(theirs)] = np.arange(len(theirs)) % MAX_FOLDS
    fold_of = fold[which]
    asked = known & (fold_of >= 0)
    said = np.full(len(fitted.y), -1, dtype=np.int64)
    for k in np.unique(fold_of[asked]):
        rows = known & (fold_of != k)
        if rows.sum() < MIN_FITTED or len(np.unique(fitted.y[rows])) < 2:
            return None
        out = asked & (fold_of == k)
        said[out] = _answers(fitted, rows, out)
    if not asked.any():
        return None
    y = fitted.y[asked]
    seen = fitted.linear.logits[asked].argmax(axis=1)
    return NewSessions(int(asked.sum()), float((seen == y).mean()), float((said[asked] == y).mean()))


def _answers(fitted: FittedLadder, rows: NDArray[np.bool_], asked: NDArray[np.bool_]) -> NDArray[np.int64]:
    n_labels = fitted.linear.logits.shape[1]
    model = fit_softmax(fitted.matrix[rows], fitted.y[rows], n_labels, fitted.linear.penalty)
    answers: NDArray[np.int64] = model.logits(fitted.matrix[asked]).argmax(axis=1)
    return answers
