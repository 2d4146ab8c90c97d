"""Evaluation on held-out records, next to always-teacher, best fixed rung, random mix and oracle."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from cascade.policy.walk import walk
from training.certificate import STARTS, learn_then_test
from training.thresholds import rung_thresholds, to_levels

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scored:
    """What a ladder says about n records whose right answer is known.

    Attributes
    ----------
    confidence, p_right, p_top : float arrays of shape (n, n_rungs)
        The acceptor's and the difficulty model's P(right), and the rung's own largest probability.
    right : bool array of shape (n, n_rungs)
        Whether the rung's answer equals the teacher's.
    worth : bool array of shape (n, n_rungs)
        Whether the difficulty model lets the rung run.
    y : int array of shape (n,)
        The teacher's label; -1 for one that training never saw.
    answer : int array of shape (n, n_rungs)
    rungs : tuple of str
    rung_usd, rung_ms : float arrays of shape (n_rungs,)
        What running a rung costs; NaN where not measured.
    teacher_usd, teacher_ms : float
        What asking the teacher costs; NaN where not known.
    allowed : bool array of shape (n, n_rungs), optional
        Whether each answer lies in slices that are settled; by default all do.
    strictness : float array of shape (n, n_rungs), optional
        How much more than the thresholds each answer's slices ask; by default nothing.
    admitted : bool array of shape (n, n_rungs), optional
        Whether the out-of-scope detector, the cheaper rungs where they must agree, and the node's own
        validators let the answer settle; by default they let all.
    in_scope : bool array of shape (n, n_rungs), optional
        What the out-of-scope detector alone says.
    refused : bool array of shape (n, n_rungs, n_validators), optional
        What each of the node's own validators refuses.
    """

    confidence: Floats
    right: NDArray[np.bool_]
    p_right: Floats
    p_top: Floats
    worth: NDArray[np.bool_]
    y: NDArray[np.int64]
    answer: NDArray[np.int64]
    rungs: tuple[str, ...]
    rung_usd: Floats
    rung_ms: Floats
    teacher_usd: float
    teacher_ms: float
    allowed: NDArray[np.bool_] | None = None
    strictness: Floats | None = None
    admitted: NDArray[np.bool_] | None = None
    in_scope: NDArray[np.bool_] | None = None
    refused: NDArray[np.bool_] | None = None

    def sliced(self, allowed: NDArray[np.bool_] | None, strictness: Floats | None) -> Scored:
        """Give the same, settled as `training.slices` says."""
        return replace(self, allowed=allowed, strictness=strictness)


@dataclass(frozen=True)
class Row:
    """One way to answer, measured.

    Attributes
    ----------
    name : str
    settled : float
        Share answered without the teacher, with its 95 % interval.
    agreement : float, optional
        Share of those that equal the teacher's answer, with its 95 % interval; None where there are none.
    overall : float
        Agreement with the teacher over all requests.
    usd, ms : float
        Mean cost of a decision.
    """

    name: str
    settled: float
    settled_interval: tuple[float, float]
    agreement: float | None
    agreement_interval: tuple[float, float] | None
    overall: float
    usd: float
    ms: float


def clopper_pearson(k: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Give the exact interval of a share of k in n at the given level.

    References
    ----------
    Clopper and Pearson, Biometrika 1934.
    """
    tail = (1 - level) / 2
    low = float(beta.ppf(tail, k, n - k + 1)) if k > 0 else 0.0
    high = float(beta.ppf(1 - tail, k + 1, n - k)) if k < n else 1.0
    return low, high


def measure(
    name: str,
    scored: Scored,
    first: NDArray[np.int64],
    ran: NDArray[np.bool_],
    weight: Floats | None = None,
) -> Row:
    """Measure a policy.

    Parameters
    ----------
    first : int array of shape (n,)
        The rung that answers; n_rungs for the teacher.
    ran : bool array of shape (n, n_rungs)
        The rungs that ran.
    weight : float array of shape (n,), optional
        How much each record stands for; each for the same if None. The intervals are then of as many records
        as the weights count: their sum squared by the sum of their squares (Kish 1965).
    """
    n, n_rungs = scored.right.shape
    local = first < n_rungs
    good = scored.right[np.arange(n)[local], first[local]]
    if weight is not None:
        return _weighed(name, scored, local, good, ran, weight)
    n_local, n_good = int(local.sum()), int(good.sum())
    return Row(
        name, n_local / n, clopper_pearson(n_local, n),
        n_good / n_local if n_local else None, clopper_pearson(n_good, n_local) if n_local else None,
        (n_good + n - n_local) / n,
        float((ran * scored.rung_usd).sum(axis=1).mean() + (n - n_local) / n * scored.teacher_usd),
        float((ran * scored.rung_ms).sum(axis=1).mean() + (n - n_local) / n * scored.teacher_ms),
    )  # fmt: skip


def _weighed(
    name: str,
    scored: Scored,
    local: NDArray[np.bool_],
    good: NDArray[np.bool_],
    ran: NDArray[np.bool_],
    weight: Floats,
) -> Row:
    whole, own = weight / weight.sum(), weight[local]
    settled = min(float(whole[local].sum()), 1.0)
    n, n_local = _counts(weight), _counts(own)
    agreement = min(float((own * good).sum() / own.sum()), 1.0) if n_local else None
    costs = ((ran * each).sum(axis=1) @ whole for each in (scored.rung_usd, scored.rung_ms))
    usd, ms = (float(cost) for cost in costs)
    return Row(
        name, settled, clopper_pearson(settled * n, n),
        agreement, clopper_pearson(agreement * n_local, n_local) if agreement is not None else None,
        settled * (agreement or 0.0) + 1 - settled,
        usd + (1 - settled) * scored.teacher_usd, ms + (1 - settled) * scored.teacher_ms,
    )  # fmt: skip


def _counts(weight: Floats) -> float:
    """Give how many records weights count."""
    return float(weight.sum() ** 2 / (weight**2).sum()) if weight.any() else 0.0


def settle(
    scored: Scored, thresholds: Sequence[float], confidence: Floats | None = None, skip: bool = True
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Walk all records up the ladder: the settling rung of each, and the rungs that ran."""
    opinion = scored.confidence if confidence is None else confidence
    if scored.admitted is not None:
        opinion = np.where(scored.admitted, opinion, -np.inf)
    worth = scored.worth if skip else np.ones_like(scored.worth)
    asked = np.asarray(thresholds)
    if scored.strictness is not None:
        asked = 1 - (1 - asked) * scored.strictness
    first = walk(worth, opinion, asked)
    ran = worth & (np.arange(worth.shape[1]) <= first[:, None])
    return walk(worth, opinion, asked, scored.allowed), ran


def compare(scored: Scored, thresholds: Sequence[float], weight: Floats | None = None) -> list[Row]:
    """Measure the ladder beside always-teacher, best fixed rung, random mix and oracle.

    The random mix sends a random share of the requests, as large as what the ladder settles, to the best
    fixed rung and the rest to the teacher; its row is the expectation. The oracle knows the
    cheapest rung that is right, and asks the teacher where none is. `weight` is that of `measure`.
    """
    n, n_rungs = scored.right.shape
    ladder = measure("ladder", scored, *settle(scored, thresholds), weight)
    nothing = np.zeros_like(scored.right)
    always = measure("always teacher", scored, np.full(n, n_rungs), nothing, weight)
    best = int(np.average(scored.right, axis=0, weights=weight).argmax())
    only = nothing.copy()
    only[:, best] = True
    fixed = measure(f"best fixed rung ({scored.rungs[best]})", scored, np.full(n, best), only, weight)
    share = ladder.settled
    assert fixed.agreement is not None
    size = n if weight is None else _counts(weight)
    count = round(share * n) if weight is None else share * size
    mix = Row(
        "random mix", share, clopper_pearson(count, size), fixed.agreement if count else None,
        clopper_pearson(fixed.agreement * count, count) if count else None,
        share * fixed.agreement + 1 - share,
        share * fixed.usd + (1 - share) * always.usd, share * fixed.ms + (1 - share) * always.ms,
    )  # fmt: skip
    first = np.where(scored.right.any(axis=1), scored.right.argmax(axis=1), n_rungs)
    oracle = measure("oracle", scored, first, np.arange(n_rungs) == first[:, None], weight)
    return [ladder, always, fixed, mix, oracle]


def ablation(
    test: Scored, calibration: Scored, bar: float, delta: float, strictness: Sequence[float]
) -> list[Row]:
    """Measure what acceptor and difficulty model add, each way certified anew on the calibration records."""
    test = test.sliced(None, None)  # what is compared is the thresholds
    rows = []
    for name, skip, top in (
        ("largest probability only", False, True),
        ("+ acceptor", False, False),
        ("+ acceptor + difficulty", True, False),
    ):
        opinion = calibration.p_top if top else calibration.confidence
        shape = [1.0] * len(strictness) if top else strictness
        seen = np.where(calibration.worth, opinion, -np.inf) if skip else opinion
        if calibration.admitted is not None:
            seen = np.where(calibration.admitted, seen, -np.inf)
        found = learn_then_test(to_levels(seen, shape), calibration.right, bar, delta)
        thresholds = rung_thresholds(found.threshold, shape)
        first, ran = settle(test, thresholds, test.p_top if top else test.confidence, skip)
        rows.append(measure(name, test, first, ran))
    return rows


def settled_against_agreement(confidence: Floats, right: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Give the agreement among the n surest records, for every n: shares and agreements, each of shape (n,).

    A record's confidence is that of its surest rung.
    """
    best = confidence.argmax(axis=1)
    at = np.arange(len(best))
    order = np.argsort(-confidence[at, best], kind="stable")
    hits = right[at, best][order]
    counts = np.arange(1, len(hits) + 1)
    return counts / len(hits), np.cumsum(hits) / counts


def reliability(
    confidence: Floats, right: NDArray[np.bool_], bins: int = 10
) -> list[tuple[float, float, int]]:
    """Give mean confidence, share right and count of bins with equally many answers."""
    order = np.argsort(confidence, kind="stable")
    return [
        (float(confidence[part].mean()), float(right[part].mean()), len(part))
        for part in np.array_split(order, bins)
        if len(part)
    ]


def calibration_error(confidence: Floats, right: NDArray[np.bool_], bins: int = 10) -> float:
    """Give the expected calibration error over bins with equally many answers."""
    parts = reliability(confidence, right, bins)
    return float(sum(abs(c - r) * n for c, r, n in parts) / max(len(right), 1))


def wrong_pairs(
    scored: Scored, thresholds: Sequence[float], labels: Sequence[str], top: int = 15
) -> list[tuple[str, str, int]]:
    """Count what was settled wrong: (teacher's label, label answered, how often), the commonest first."""
    first, _ = settle(scored, thresholds)
    pairs: Counter[tuple[str, str]] = Counter()
    for i in np.flatnonzero(first < scored.right.shape[1]):
        if not scored.right[i, first[i]]:
            truth = labels[scored.y[i]] if scored.y[i] >= 0 else "(unseen label)"
            pairs[truth, labels[scored.answer[i, first[i]]]] += 1
    ranked = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
    return [(truth, answer, count) for (truth, answer), count in ranked[:top]]


def by_label(
    scored: Scored, thresholds: Sequence[float], labels: Sequence[str]
) -> list[tuple[str, int, float, float | None]]:
    """Give label, records, settled share and agreement of each of the teacher's labels, the worst first."""
    first, _ = settle(scored, thresholds)
    local = first < scored.right.shape[1]
    good = np.zeros(len(first), dtype=bool)
    good[local] = scored.right[np.flatnonzero(local), first[local]]
    rows: list[tuple[str, int, float, float | None]] = []
    for i, label in enumerate(labels):
        mine = scored.y == i
        if mine.any():
            n_local = int((local & mine).sum())
            share = int((good & mine).sum()) / n_local if n_local else None
            rows.append((label, int(mine.sum()), n_local / int(mine.sum()), share))
    return sorted(rows, key=lambda row: (2.0 if row[3] is None else row[3], row[0]))


@dataclass(frozen=True)
class Validity:
    """How often certificates held over random re-splits.

    Attributes
    ----------
    n_splits, certified, broken : int
        Re-splits; those that gave a certificate; those of them whose bar was then broken.
    allowed : float
        The share of re-splits that may break: delta plus three standard errors.
    """

    n_splits: int
    certified: int
    broken: int
    allowed: float


def resplit_validity(
    levels: Floats, right: NDArray[np.bool_], bar: float, delta: float, n_splits: int = 200,
    calibration_share: float = 0.5, seed: int = 0, population: Literal["resample", "holdout"] = "resample",
    starts: Sequence[tuple[float, float]] = STARTS, least: int | None = None,
) -> Validity:  # fmt: skip
    """Certify on random parts of cached scores, and see whether the bar holds.

    Parameters
    ----------
    levels : float array of shape (n, n_rungs)
        From `training.thresholds.to_levels`.
    right : bool array of shape (n, n_rungs)
    population : str
        `resample`: calibration records are drawn with replacement, and the truth is the agreement over all
        cached records: this is what the certificate promises. `holdout`: the scores are cut in two, and
        the agreement on the other part is taken as the truth, whose own sampling noise breaks some
        bars that were kept.
    starts, least
        Where the tests begin: see `training.certificate.learn_then_test`.
    """
    rng = np.random.default_rng(seed)
    n, size = len(right), int(len(right) * calibration_share)
    certified = broken = 0
    for _ in range(n_splits):
        if population == "resample":
            calibration, test = rng.integers(0, n, size), np.arange(n)
        else:
            order = rng.permutation(n)
            calibration, test = order[:size], order[size:]
        found = learn_then_test(levels[calibration], right[calibration], bar, delta, starts, least=least)
        if not found.valid:
            continue
        certified += 1
        settles = levels[test] >= found.threshold
        local = settles.any(axis=1)
        good = right[test][np.arange(len(test)), settles.argmax(axis=1)][local]
        broken += bool(len(good) and good.mean() < bar)
    return Validity(n_splits, certified, broken, delta + 3 * float(np.sqrt(delta * (1 - delta) / n_splits)))


def as_json(row: Row) -> dict[str, Any]:
    """Give a row as JSON."""
    return dict(vars(row))
