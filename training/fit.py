"""Fits all models of one node's ladder on its training records.

Every model that judges another learns from answers to records that the judged model had not seen: the
records are divided into folds, and each fold's answers come from models fitted on the other folds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.special import softmax

from cascade.features import Featurizer
from cascade.ladder import NO_ANSWER
from training.judges import Judges, Opinions, fit_judges
from training.label_names import better_of
from training.linear import to_matrix
from training.opinions import EncoderFit, LinearFit, fit_encoder, fit_linear
from training.scope import ScopeFit, fit_scope
from training.tried import Budget, Tried

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
Progress = Callable[[str], None]

MANY_FOLDS_BELOW = 3000
"""Fewer records are divided into ten folds: fold models should not be much worse than the final ones."""


@dataclass(frozen=True)
class FitSettings:
    """How the models are fitted; the bundle records it.

    Attributes
    ----------
    n_folds : int
        Folds for out-of-fold answers; 0 for 5 of many records and 10 of few.
    max_columns : int
        Largest vocabulary.
    prior : float
        Weight, in records, of the mean in smoothed shares.
    bar : float
        The agreement for which `training.tried.Tried` says what could be settled.
    scope : bool
        Whether an out-of-scope detector is fitted.
    seed : int
    """

    n_folds: int = 0
    max_columns: int = 1 << 16
    prior: float = 5.0
    bar: float = 0.95
    scope: bool = True
    seed: int = 0

    def folds_for(self, n: int) -> int:
        """Give the number of folds for n records."""
        return self.n_folds or (10 if n < MANY_FOLDS_BELOW else 5)


@dataclass(frozen=True)
class FittedLadder:
    """All models of a node's local rungs.

    Attributes
    ----------
    kinds : tuple of str
        `linear`, `encoder` or `chat` for each local rung, cheapest first.
    featurizer : Featurizer
    linear : LinearFit
    encoder : EncoderFit, optional
    opinions : Opinions
        Out of fold.
    judges : Judges
    scope : ScopeFit, optional
        None where it was not asked for, or no labels could be held out.
    matrix : sparse array of shape (n, n_columns)
    embedding : float32 array of shape (n, dim), optional
    y : int array of shape (n,)
        What all was fitted on.
    """

    kinds: tuple[str, ...]
    featurizer: Featurizer
    linear: LinearFit
    encoder: EncoderFit | None
    opinions: Opinions = field(repr=False)
    judges: Judges = field(repr=False)
    scope: ScopeFit | None
    matrix: sp.csr_matrix = field(repr=False)
    embedding: NDArray[np.float32] | None = field(repr=False)
    y: NDArray[np.int64] = field(repr=False)

    @property
    def p_right(self) -> NDArray[np.float64]:
        """The difficulty model's out-of-fold P(right), shape (n, n_rungs)."""
        return self.judges.p_right

    @property
    def confidence(self) -> NDArray[np.float64]:
        """The acceptor's out-of-fold P(right), shape (n, n_rungs)."""
        return self.judges.confidence

    @property
    def answers(self) -> NDArray[np.int64]:
        """The rungs' out-of-fold answers, shape (n, n_rungs)."""
        scores = self.opinions.scores
        return np.stack([np.where(s.any(axis=1), s.argmax(axis=1), NO_ANSWER) for s in scores], axis=1)

    @property
    def tried(self) -> list[Tried]:
        """Every variant that was tried, or not tried and why."""
        encoder = self.encoder.tried if self.encoder is not None else []
        return [*self.linear.tried, *encoder, *self.judges.tried]


def make_folds(y: NDArray[np.int64], groups: NDArray[np.int64], n_folds: int, seed: int) -> NDArray[np.int64]:
    """Deal records into folds so that each label is spread evenly; a group stays together."""
    rng = np.random.default_rng(seed)
    _, first = np.unique(groups, return_index=True)
    order = rng.permutation(first)
    order = order[np.argsort(y[order], kind="stable")]
    fold_of_group = np.empty(int(groups.max()) + 1, dtype=np.int64)
    fold_of_group[groups[order]] = np.arange(len(order)) % n_folds
    return fold_of_group[groups]


def fit_ladder(
    texts: Sequence[str],
    y: NDArray[np.int64],
    groups: NDArray[np.int64],
    n_labels: int,
    kinds: Sequence[str],
    embedding: NDArray[np.float32] | None,
    settings: FitSettings,
    progress: Progress = lambda _: None,
    asked: Mapping[int, NDArray[np.float32]] | None = None,
    budget: Budget | None = None,
    names: NDArray[np.float32] | None = None,
) -> FittedLadder:
    """Fit rungs, difficulty model and acceptor.

    Parameters
    ----------
    texts : sequence of n str
    y : int array of shape (n,)
        The teacher's labels, in [0, n_labels); negative where no rung can be right. Such records are asked
        about out of fold, and all that judges answers learns from them.
    groups : int array of shape (n,)
        Records of one group (a session, a near duplicate) never stand on both sides of a fold.
    kinds : sequence of str
        Kind of each local rung, cheapest first.
    embedding : float32 array of shape (n, dim), optional
        Needed where an `encoder` rung is asked for.
    progress : callable
        Told the name of each step as it begins.
    asked : mapping of int to float32 array of shape (n, n_labels), optional
        Scores of the rungs that are not trained but asked: the chat rungs, by their place in the ladder.
    budget : Budget, optional
        Without one only the short list of variants is tried.
    names : float32 array of shape (n_labels, dim), optional
        The labels' names, embedded, where they are to be tried as records: see `training.label_names`.
    """
    progress("features")
    budget = budget or Budget()
    featurizer = Featurizer.fit(texts, settings.max_columns)
    features = featurizer(texts)
    matrix = to_matrix(features, featurizer.n_columns)
    n_folds = settings.folds_for(len(y))
    folds = make_folds(y, groups, n_folds, settings.seed)
    splits = [folds != fold for fold in range(n_folds)]
    progress("linear rung, out of fold")
    linear = fit_linear(matrix, y, n_labels, splits, budget, settings.bar)
    linear_p = np.asarray(softmax(linear.logits, axis=1), dtype=np.float32)
    encoder = None
    if embedding is not None:
        progress("encoder rung, out of fold")
        encoder = fit_encoder(embedding, linear_p, y, n_labels, splits, budget, settings.bar, settings.seed)
        if names is not None:
            named = fit_encoder(
                embedding, linear_p, y, n_labels, splits, budget, settings.bar, settings.seed, names
            )
            encoder = better_of(encoder, named, y, settings.bar)
    scores = []
    for r, kind in enumerate(kinds):
        if asked and r in asked:
            scores.append(asked[r])
        elif kind == "linear":
            scores.append(linear_p)
        else:
            assert encoder is not None
            scores.append(encoder.probabilities)
    right = np.stack([(s.argmax(axis=1) == y) & s.any(axis=1) for s in scores], axis=1)
    opinions = Opinions(
        scores, linear_p, encoder.shares if encoder else None, encoder.nearest if encoder else None, right
    )
    progress("difficulty and acceptor")
    judges = fit_judges(
        features, featurizer, y, n_labels, folds, kinds, opinions, settings.bar, settings.prior, settings.seed
    )
    scope = None
    if settings.scope:
        progress("out-of-scope detector")
        scope = fit_scope(
            matrix, embedding, y, n_labels, kinds, linear, encoder, opinions, judges, settings.seed
        )
    return FittedLadder(
        tuple(kinds), featurizer, linear, encoder, opinions, judges, scope, matrix, embedding, y
    )
