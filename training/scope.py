"""Fits the out-of-scope detector, and chooses where it and the acceptor draw the line.

No record labelled out of scope is needed: a quarter of the labels at a time is held out whole, the rungs are
fitted on the others, and what they say about the held-out labels' records is what out-of-scope traffic
looks like to them. The rungs are fitted on as many records as there are, up to `MAX_ROWS`: fitted on much
fewer, they would find the held-out labels stranger than the rungs that are served do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp
from joblib import Parallel, delayed
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from cascade.scope import ScopeDetector, scope_features
from training.certificate import LEVELS, count_by_level
from training.clouds import fit_clouds, head_features
from training.fusion import log_opinions
from training.judges import Judges, Opinions
from training.linear import SoftmaxModel, fit_softmax
from training.neighbours import Neighbours, fit_kernel
from training.opinions import EncoderFit, LinearFit
from training.thresholds import to_levels

N_GROUPS = 4
MAX_ROWS = 12_000
"""Records that rungs without some labels are fitted on; of more, as many at random."""

REFUSED_SHARES = (0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3)
"""Candidates for the share of in-scope requests that the detector keeps from a rung."""


@dataclass(frozen=True)
class ScopeFit:
    """A fitted detector with what it says out of fold.

    Attributes
    ----------
    detector : ScopeDetector
    auroc : tuple of float
        One a rung: how often it puts a record of the traffic above one of a label that neither it nor the
        rung has seen.
    inside : float array of shape (n, n_rungs)
        P(in scope) of the training records.
    outside, outside_confidence : float arrays of shape (n_outside, n_rungs)
        The same, and the acceptor's P(right), of records whose labels were held out.
    """

    detector: ScopeDetector
    auroc: tuple[float, ...]
    inside: NDArray[np.float64] = field(repr=False)
    outside: NDArray[np.float64] = field(repr=False)
    outside_confidence: NDArray[np.float64] = field(repr=False)


@dataclass(frozen=True)
class ScopeLimits:
    """Where the line is drawn.

    Attributes
    ----------
    share : float
        The share of out-of-scope requests that was prepared for.
    at_least : tuple of float
        One a rung: P(in scope) below which its answer does not settle.
    level : float
        No looser level is certified; -inf for no limit.
    refused : float
        Share of the in-scope requests that `at_least` keeps from a rung.
    agreement : float
        What the agreement among settled answers would be, were `share` of the requests like records of
        held-out labels: an estimate from the training records, not part of the certificate.
    """

    share: float
    at_least: tuple[float, ...]
    level: float = -np.inf
    refused: float = 0.0
    agreement: float = 1.0

    def to_json(self) -> dict[str, Any]:
        """Give it as the manifest stores it."""
        return {"share": self.share, "refused": self.refused, "agreement": round(self.agreement, 4)}


def fit_scope(
    matrix: sp.csr_matrix,
    embedding: NDArray[np.float32] | None,
    y: NDArray[np.int64],
    n_labels: int,
    kinds: Sequence[str],
    linear: LinearFit,
    encoder: EncoderFit | None,
    opinions: Opinions,
    judges: Judges,
    seed: int,
) -> ScopeFit | None:
    """Fit the detector of each trained rung.

    Returns
    -------
    ScopeFit or None
        None where there are fewer than `N_GROUPS` labels: none can be held out.
    """
    known = y >= 0  # a record whose answer no rung can give lies in no label that could be held out
    if n_labels < N_GROUPS or len(np.unique(y[known])) < N_GROUPS:
        return None
    rng = np.random.default_rng(seed)
    group_of_label = rng.permutation(n_labels) % N_GROUPS
    rows = np.sort(rng.permutation(np.flatnonzero(known))[:MAX_ROWS])
    group = np.full(len(y), -1)
    group[rows] = group_of_label[y[rows]]
    trained = [(group >= 0) & (group != g) for g in range(N_GROUPS)]
    jobs = [delayed(fit_softmax)(matrix[a], y[a], n_labels, linear.penalty) for a in trained]
    if embedding is not None and encoder is not None:
        jobs += [delayed(fit_softmax)(embedding[a], y[a], n_labels, encoder.penalty) for a in trained]
    models: list[SoftmaxModel] = Parallel(n_jobs=-1)(jobs)
    blocks: list[list[NDArray[np.float32]]] = [[] for _ in kinds]
    confidences, groups = [], []
    for g, a in enumerate(trained):
        b = group == g
        if not b.any() or not a.any():
            continue
        without = np.unique(y[b])
        said, head = _without(
            models[g], models[N_GROUPS + g] if encoder is not None else None, matrix, embedding, y, n_labels,
            kinds, a, b, linear, encoder, seed,
        )  # fmt: skip
        for scores in (*said.scores, said.linear):
            scores[:, without] = 0  # what a model gives a label that it never saw is rounding
        request = judges.request[b]
        for r, kind in enumerate(kinds):
            blocks[r].append(_rows(kind, r, request, said, head))
        confidences.append(judges.judge(kinds, said, request))
        groups.append(np.full(int(b.sum()), g))
    outside_group = np.concatenate(groups)
    inside_group = group_of_label[y[known]]
    weights: list[NDArray[np.float64]] = []
    bias, auroc, inside, outside = [], [], [], []
    for r, kind in enumerate(kinds):
        if kind == "chat":
            weights.append(np.empty(0))
            bias.append(0.0)
            auroc.append(float("nan"))
            inside.append(np.ones(len(y)))
            outside.append(np.ones(len(outside_group)))
            continue
        near = _rows(kind, r, judges.request, opinions, encoder.scope if encoder is not None else None)
        found = _fit_logistic(near[known], np.concatenate(blocks[r]), inside_group, outside_group)
        weights.append(found[0])
        bias.append(found[1])
        auroc.append(found[2])
        all_inside = _sigmoid(near.astype(np.float64) @ found[0] + found[1])
        all_inside[known] = found[3]
        inside.append(all_inside)
        outside.append(found[4])
    return ScopeFit(
        ScopeDetector(tuple(weights), tuple(bias)), tuple(auroc), np.stack(inside, axis=1),
        np.stack(outside, axis=1), np.concatenate(confidences),
    )  # fmt: skip


def _rows(
    kind: str, r: int, request: NDArray[np.float32], said: Opinions, head: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    if kind == "encoder":
        return scope_features(request, said.scores[r], said.neighbours, head)
    return scope_features(request, said.scores[r])


def _without(
    linear_model: SoftmaxModel,
    head_model: SoftmaxModel | None,
    matrix: sp.csr_matrix,
    embedding: NDArray[np.float32] | None,
    y: NDArray[np.int64],
    n_labels: int,
    kinds: Sequence[str],
    trained: NDArray[np.bool_],
    asked: NDArray[np.bool_],
    linear: LinearFit,
    encoder: EncoderFit | None,
    seed: int,
) -> tuple[Opinions, NDArray[np.float32] | None]:
    """Give what rungs that were fitted on some rows say about others."""
    tempered = np.float32(linear.temperature) * linear_model.logits(matrix[asked])
    p = np.asarray(softmax(tempered, axis=1), dtype=np.float32)
    fused, shares, nearest, head = p, None, None, None
    if head_model is not None and encoder is not None and embedding is not None:
        records = Neighbours.of(embedding, y, n_labels, trained, seed)
        vectors = embedding[asked]
        logits = np.maximum(head_model.logits(vectors), -50)
        shares, nearest = records.shares(vectors, encoder.fusion.sharpness)
        kernel = (
            fit_kernel(records, encoder.kernel.sharpness, encoder.ridge).scores(records, vectors)
            if encoder.kernel is not None
            else np.zeros_like(logits)
        )
        fused = encoder.fusion.probabilities(log_opinions(logits, p, shares, kernel))
        head = head_features(logits, records, fit_clouds(records), vectors)
    scores = [p.copy() if kind == "linear" else fused.copy() for kind in kinds]
    right = np.zeros((len(p), len(kinds)), dtype=bool)
    return Opinions(scores, p, shares, nearest, right), head


def _fit_logistic(
    near: NDArray[np.float32],
    far: NDArray[np.float32],
    near_group: NDArray[np.int64],
    far_group: NDArray[np.int64],
) -> tuple[NDArray[np.float64], float, float, NDArray[np.float64], NDArray[np.float64]]:
    """Give weights, bias, the AUROC across groups, and P(in scope) of both kinds of row out of group."""
    rows = np.vstack([near, far]).astype(np.float64)
    target = np.arange(len(rows)) < len(near)
    group = np.concatenate([near_group, far_group])
    raw = np.empty(len(rows))
    for g in np.unique(far_group):
        seen = group != g
        weights, bias = _logistic(rows[seen], target[seen])
        raw[~seen] = rows[~seen] @ weights + bias
    left = ~np.isin(group, far_group)
    weights, bias = _logistic(rows, target)
    raw[left] = rows[left] @ weights + bias
    p = _sigmoid(raw)
    return weights, bias, float(roc_auc_score(target, raw)), p[target], p[~target]


def _sigmoid(raw: NDArray[np.float64]) -> NDArray[np.float64]:
    p: NDArray[np.float64] = 1 / (1 + np.exp(-np.clip(raw, -60, 60)))
    return p


def _logistic(rows: NDArray[np.float64], target: NDArray[np.bool_]) -> tuple[NDArray[np.float64], float]:
    mean, scale = rows.mean(axis=0), rows.std(axis=0) + 1e-9
    model = LogisticRegression(C=1.0, class_weight="balanced", max_iter=500)
    model.fit((rows - mean) / scale, target)
    weights = model.coef_[0] / scale
    return weights, float(model.intercept_[0] - (weights * mean).sum())


def choose_limits(
    fit: ScopeFit | None,
    confidence: NDArray[np.floating[Any]],
    right: NDArray[np.bool_],
    strictness: Sequence[float],
    share: float,
    bar: float,
) -> ScopeLimits:
    """Choose the limits that settle most while the bar would still hold, were a share out of scope.

    Every settled out-of-scope answer counts as wrong. All of it is decided on the training records, out of
    fold, before the certificate looks at the held-out ones.

    Parameters
    ----------
    fit : ScopeFit or None
    confidence : array of shape (n, n_rungs)
        The acceptor's out-of-fold P(right) of the training records.
    right : bool array of shape (n, n_rungs)
    strictness : sequence of n_rungs floats
    share : float
        Of out-of-scope requests, in [0, 1); 0 for no limits.
    bar : float
    """
    n_rungs = confidence.shape[1]
    nothing = ScopeLimits(share if fit is not None else 0.0, (0.0,) * n_rungs)
    if fit is None or share <= 0:
        return nothing
    inside_levels = to_levels(confidence, strictness)
    outside_levels = to_levels(fit.outside_confidence, strictness)
    all_wrong = np.zeros(outside_levels.shape, dtype=bool)
    best: tuple[bool, float, ScopeLimits] | None = None
    for refused in REFUSED_SHARES:
        at_least = np.quantile(fit.inside, refused, axis=0) if refused else np.zeros(n_rungs)
        settled, wrong = count_by_level(
            np.where(fit.inside >= at_least, inside_levels, -np.inf), right, LEVELS
        )
        let_in, _ = count_by_level(
            np.where(fit.outside >= at_least, outside_levels, -np.inf), all_wrong, LEVELS
        )
        inside, bad = settled / len(right), wrong / len(right)
        outside = let_in / len(outside_levels)
        total = (1 - share) * inside + share * outside
        agreement = np.where(total > 0, (1 - share) * (inside - bad) / np.maximum(total, 1e-12), 0.0)
        holds = agreement >= bar
        at = int(np.where(holds, inside, -1.0).argmax()) if holds.any() else int(agreement.argmax())
        limits = ScopeLimits(
            share, tuple(float(np.float32(v)) for v in at_least), float(LEVELS[at]), refused,
            float(agreement[at]),
        )  # fmt: skip
        key = (bool(holds.any()), float(inside[at]) if holds.any() else float(agreement[at]))
        if best is None or key > best[:2]:
            best = (*key, limits)
    assert best is not None
    return best[2]
