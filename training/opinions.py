"""Fits the local rungs, and gets their opinions of the training records out of fold.

Which penalty, which kernel and which opinions go into a rung is decided by these opinions alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp
from joblib import Parallel, delayed
from numpy.typing import NDArray
from scipy.special import softmax

from training.clouds import Clouds, fit_clouds, head_features
from training.fusion import KERNEL_SCALE, Fusion, Logs, fit_weights, log_opinions
from training.linear import SoftmaxModel, fit_softmax
from training.neighbours import KernelModel, Neighbours, fit_kernel
from training.tried import Budget, Tried, describe, keep

SHARPNESS = (10.0, 20.0, 40.0)
"""Candidates for how fast a training record's vote fades with its distance."""

SHORT_HEAD_PENALTIES, LONG_HEAD_PENALTIES = (30.0, 10.0), (100.0, 3.0)
SHORT_KERNELS, LONG_KERNELS = ((2.0, 0.1),), ((2.0, 0.03), (1.0, 0.1), (4.0, 0.1))
"""Candidates of (sharpness, ridge)."""

SHORT_LINEAR_PENALTIES, LONG_LINEAR_PENALTIES = (10.0,), (30.0, 3.0)

KERNEL_MEMORY = 4 << 30
"""Bytes that kernel matrices may take at once."""

Rows = Sequence[NDArray[np.bool_]]


@dataclass(frozen=True)
class LinearFit:
    """The linear rung's model and its out-of-fold logits, tempered."""

    model: SoftmaxModel
    logits: NDArray[np.float32]
    penalty: float
    temperature: float
    tried: list[Tried] = field(default_factory=list)


@dataclass(frozen=True)
class EncoderFit:
    """The encoder rung's models and what they say out of fold.

    Attributes
    ----------
    head : SoftmaxModel
    kernel : KernelModel, optional
        None where it does not weigh in.
    neighbours : Neighbours
    clouds : Clouds
    fusion : Fusion
    penalty : float
        Of the softmax regression.
    ridge : float
        Of the kernel.
    probabilities, shares : float32 arrays of shape (n, n_labels)
        Fused, and the neighbours' votes.
    nearest : float32 array of shape (n,)
    scope : float32 array of shape (n, len(cascade.scope.HEAD_NAMES))
    tried : list of Tried
    """

    head: SoftmaxModel
    kernel: KernelModel | None
    neighbours: Neighbours
    clouds: Clouds
    fusion: Fusion
    penalty: float
    ridge: float
    probabilities: NDArray[np.float32]
    shares: NDArray[np.float32]
    nearest: NDArray[np.float32]
    scope: NDArray[np.float32]
    tried: list[Tried] = field(default_factory=list)


def stitch(parts: Sequence[NDArray[np.float32]], splits: Rows) -> NDArray[np.float32]:
    """Put each fold's rows back in their places; `splits` hold the rows that each fold was fitted on."""
    out = np.empty((len(splits[0]), *parts[0].shape[1:]), dtype=np.float32)
    for part, rows in zip(parts, splits, strict=True):
        out[~rows] = part
    return out


def fit_linear(
    matrix: sp.csr_matrix,
    y: NDArray[np.int64],
    n_labels: int,
    splits: Rows,
    budget: Budget,
    bar: float,
) -> LinearFit:
    """Fit the linear rung.

    Parameters
    ----------
    matrix : sparse array of shape (n, n_columns)
    y : int array of shape (n,)
        Negative where no answer is right: such a record is asked about and not fitted on.
    n_labels : int
    splits : sequence of bool arrays of shape (n,)
        The rows that each fold is fitted on.
    budget : Budget
    bar : float
        For `Tried.settled`.
    """
    everything = y >= 0

    def one(penalty: float) -> _Candidate:
        parts = [*(rows & everything for rows in splits), everything]
        jobs = [delayed(fit_softmax)(matrix[a], y[a], n_labels, penalty) for a in parts]
        models: list[SoftmaxModel] = Parallel(n_jobs=-1)(jobs)
        oof = stitch([m.logits(matrix[~rows]) for m, rows in zip(models, splits, strict=False)], splits)
        return _candidate(np.maximum(oof, -50), oof, models[-1], penalty, y)

    name = "n-gram softmax regression, inverse penalty {:g}".format
    found, tried = _search(
        one, SHORT_LINEAR_PENALTIES, LONG_LINEAR_PENALTIES, budget, "linear", name,
        y, bar,
    )  # fmt: skip
    scale, model = np.float32(found.temperature), found.model
    tempered = SoftmaxModel(model.weights * scale, np.maximum(model.bias * scale, np.float32(-1e4)))
    kept = keep(tried, [name(found.setting)])
    return LinearFit(tempered, found.said * scale, found.setting, found.temperature, kept)


def fit_encoder(
    embedding: NDArray[np.float32],
    linear: NDArray[np.float32],
    y: NDArray[np.int64],
    n_labels: int,
    splits: Rows,
    budget: Budget,
    bar: float,
    seed: int,
    label_vectors: NDArray[np.float32] | None = None,
) -> EncoderFit:
    """Fit the encoder rung's head: softmax regression, kernel, neighbours, and their fusion.

    Parameters
    ----------
    embedding : float32 array of shape (n, dim)
        Unit vectors.
    linear : float32 array of shape (n, n_labels)
        Out-of-fold probabilities of the linear rung.
    y, n_labels, splits, budget, bar
        See `fit_linear`.
    seed : int
    label_vectors : float32 array of shape (n_labels, dim), optional
        The labels' names, embedded: each is one more record to every model. They are in no fold, so what the
        models say of a training record is still said without having seen it.
    """
    everything = y >= 0
    extra = embedding[:0] if label_vectors is None else label_vectors

    def known(rows: NDArray[np.bool_]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        rows = rows & everything
        return np.concatenate([embedding[rows], extra]), np.concatenate([y[rows], np.arange(len(extra))])

    def records(rows: NDArray[np.bool_]) -> Neighbours:
        vectors, labels = known(rows)
        return Neighbours.of(vectors, labels, n_labels, np.ones(len(labels), dtype=bool), seed)

    near = [records(rows) for rows in splits]
    kept = records(everything)

    def softmax_one(penalty: float) -> _Candidate:
        jobs = [delayed(fit_softmax)(*known(a), n_labels, penalty) for a in (*splits, everything)]
        models: list[SoftmaxModel] = Parallel(n_jobs=-1)(jobs)
        oof = stitch([m.logits(embedding[~rows]) for m, rows in zip(models, splits, strict=False)], splits)
        oof = np.maximum(oof, -50)
        return _candidate(oof, oof, models[-1], penalty, y)

    def kernel_one(setting: tuple[float, float]) -> _Candidate:
        at_once = max(1, min(os.cpu_count() or 1, KERNEL_MEMORY // (8 * len(kept.y) ** 2 + 1)))
        jobs = [delayed(fit_kernel)(those, *setting) for those in (*near, kept)]
        models: list[KernelModel] = Parallel(n_jobs=at_once)(jobs)
        oof = stitch(
            [m.scores(n, embedding[~rows]) for m, n, rows in zip(models, near, splits, strict=False)], splits
        )
        return _candidate(np.float32(KERNEL_SCALE) * oof, oof, models[-1], setting, y)

    head_name = "softmax regression on the embedding, inverse penalty {:g}".format
    head, head_tried = _search(
        softmax_one, SHORT_HEAD_PENALTIES, LONG_HEAD_PENALTIES, budget, "encoder", head_name,
        y, bar,
    )  # fmt: skip

    def kernel_name(setting: tuple[float, float]) -> str:
        return f"kernel machine on the embedding, sharpness {setting[0]:g}, ridge {setting[1]:g}"

    kernel, kernel_tried = _search(
        kernel_one, SHORT_KERNELS, LONG_KERNELS, budget, "encoder", kernel_name,
        y, bar,
    )  # fmt: skip
    best: tuple[float, Fusion, NDArray[np.float32], dict[str, Logs]] | None = None
    tried = [*head_tried, *kernel_tried]
    nearest = np.empty(len(y), dtype=np.float32)
    for sharpness in SHARPNESS:
        parts = [n.shares(embedding[~rows], sharpness) for n, rows in zip(near, splits, strict=True)]
        shares = stitch([p[0] for p in parts], splits)
        nearest = stitch([p[1] for p in parts], splits)
        opinions = log_opinions(head.said, linear, shares, kernel.said)
        weights, loss = fit_weights(opinions, y)
        if best is None or loss < best[0]:
            best = loss, Fusion(weights, sharpness), shares, opinions
    assert best is not None
    _, fusion, shares, opinions = best
    tried.append(describe("encoder", "votes of the nearest records", shares, y, bar))
    for names in (("embedding", "linear", "neighbours"), tuple(opinions)):
        weights, _ = fit_weights({name: opinions[name] for name in names}, y)
        fused = Fusion(weights, fusion.sharpness).probabilities(opinions)
        tried.append(describe("encoder", "fusion of " + ", ".join(names), fused, y, bar))
    chosen = [tried[-1].variant]
    if fusion.weights["embedding"]:
        chosen.append(head_name(head.setting))
    if fusion.weights["kernel"]:
        chosen.append(kernel_name(kernel.setting))
    if fusion.weights["neighbours"]:
        chosen.append("votes of the nearest records")
    seen = [
        head_features(head.said[~rows], those, fit_clouds(those), embedding[~rows])
        for those, rows in zip(near, splits, strict=True)
    ]
    return EncoderFit(
        head.model, kernel.model if fusion.weights["kernel"] else None, kept, fit_clouds(kept), fusion,
        head.setting, kernel.setting[1], fusion.probabilities(opinions), shares, nearest,
        stitch(seen, splits), keep(tried, chosen),
    )  # fmt: skip


@dataclass(frozen=True)
class _Candidate:
    """One fitted setting: its models' last, and what the fold models say."""

    log_loss: float
    temperature: float
    probabilities: NDArray[np.float32]
    said: NDArray[np.float32]
    model: Any
    setting: Any


def _candidate(
    logs: NDArray[np.float32], said: NDArray[np.float32], model: Any, setting: Any, y: NDArray[np.int64]
) -> _Candidate:
    """Temper a setting's out-of-fold opinion and measure it."""
    weights, loss = fit_weights({"it": logs}, y)
    p = np.asarray(softmax(np.float32(weights["it"]) * logs, axis=1), dtype=np.float32)
    return _Candidate(loss, weights["it"], p, said, model, setting)


def _search(
    one: Callable[[Any], _Candidate],
    short: Sequence[Any],
    long: Sequence[Any],
    budget: Budget,
    rung: str,
    name: Callable[[Any], str],
    y: NDArray[np.int64],
    bar: float,
) -> tuple[_Candidate, list[Tried]]:
    """Try settings, the long list only while the budget lasts, and give the one of least log loss."""
    tried: list[Tried] = []
    best: _Candidate | None = None
    took = 0.0
    for setting in (*short, *long):
        if setting in long and not budget.allows(took):
            note = "not tried: the budget was spent" if budget.seconds else "not tried: no --budget"
            tried.append(Tried(rung, name(setting), None, None, None, note=note))
            continue
        began = budget.now()
        found = one(setting)
        took = budget.now() - began
        tried.append(describe(rung, name(setting), found.probabilities, y, bar))
        if best is None or found.log_loss < best.log_loss:
            best = found
    assert best is not None
    return best, tried
