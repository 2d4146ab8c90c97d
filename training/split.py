"""Splits a curated data set into what models are trained on and what they are certified on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cascade.errors import RetrainRefused
from training.certificate import first_count
from training.curate import NO_LABEL, Curated
from training.live_sample import MIN_TIMED_SHARE, LiveSample

MIN_DISTINCT_TIMES = 100
MAX_CALIBRATION = 20_000
"""Held-out records that are enough for any proof."""


@dataclass(frozen=True, eq=False)
class Split:
    """Which records are trained on and which are certified on.

    Attributes
    ----------
    train, calibration : int64 array of shape (n_side,)
        Indices into the curated records, ascending; no group is in both. Together all of them, less those
        that share a group with a held-out record and are no fair sample of live traffic.
    how : {"time", "stratified"}
        How the split was made.
    boundary_time : float or None
        Of a split by time: the oldest group's time in calibration, where a group's time is that of its
        latest record.
    """

    train: NDArray[np.int64]
    calibration: NDArray[np.int64]
    how: Literal["time", "stratified"]
    boundary_time: float | None

    def held_out_span(self, curated: Curated) -> tuple[float | None, float | None]:
        """Give the times of the oldest and newest record in calibration; None where times did not decide."""
        times = [t for i in self.calibration if (t := curated.records[i].time) is not None]
        return (min(times), max(times)) if self.how == "time" and times else (None, None)


def calibration_share(n: int, bar: float, delta: float) -> float:
    """Give the share of n records that is held out.

    A quarter, unless the proof takes more: twice what a first test wants but not more than 35 %, or half as
    much again, up to a half. Of 1,000 records at 95/95 this is 35 %: with fewer, one unlucky record may
    decide. With 15 % of 10,000 records, the slack that a proof keeps cost more than they taught.
    """
    n = max(n, 1)
    first = first_count(bar, delta) / n
    return min(max(0.25, min(2 * first, 0.35), 1.5 * first), 0.5)


def held_out_of(n: int, bar: float, delta: float) -> int:
    """Give how many of n records are held out."""
    return min(round(n * calibration_share(n, bar, delta)), MAX_CALIBRATION)


def split(
    curated: Curated,
    calibration_share: float = 0.2,
    max_calibration: int = 2500,
    min_calibration: int = 0,
    seed: int = 0,
    sample: LiveSample | None = None,
) -> Split:
    """Split by time where records carry times, else by label at random; groups stay whole.

    A split by time certifies the newest traffic, which is closest to what is going to be served. The price:
    that the calibration records and future traffic are exchangeable is then an assumption, which drift
    breaks; in a random split, calibration and training records are exchangeable by construction, but both
    may be unlike what comes next.

    Groups are taken while they fit: one larger than what calibration still needs stays in training, so
    calibration is never larger than asked and a single huge group cannot swallow it.

    Parameters
    ----------
    curated : Curated
        The data set.
    calibration_share : float
        Share of the records (of those in the sample, where there is one) that is wanted for calibration, in
        (0, 1).
    max_calibration, min_calibration : int
        Bounds on their number; the lower one holds or the split is refused.
    seed : int
        Seed of the random split; the split by time needs none.
    sample : LiveSample, optional
        What may be held out, and when it was asked; by default everything may.

    Returns
    -------
    Split
        Neither side is empty.

    Raises
    ------
    ValueError
        The share or the bounds make no sense.
    RetrainRefused
        One side would be empty, or calibration smaller than `min_calibration`.
    """
    if not 0 < calibration_share < 1:
        raise ValueError(f"calibration_share must be in (0, 1), not {calibration_share}")
    if not 0 <= min_calibration <= max_calibration or max_calibration < 1:
        raise ValueError(f"bounds on calibration make no sense: {min_calibration} to {max_calibration}")
    times = np.array([np.nan if r.time is None else r.time for r in curated.records], dtype=np.float64)
    open_to = np.arange(len(curated))
    if sample is not None:
        times, open_to = sample.time, np.flatnonzero(sample.drawn)
    times, y = times[open_to], curated.y[open_to]
    numbers, groups = np.unique(curated.groups[open_to], return_inverse=True)
    n = len(open_to)
    target = min(max(round(n * calibration_share), min_calibration, 1), max_calibration)
    if target >= n:
        raise RetrainRefused(
            f"{n} distinct texts are too few: {target} are needed for calibration and more for training; "
            "collect more traffic or import labelled records"
        )
    timed = times[np.isfinite(times)]
    boundary = None
    how: Literal["time", "stratified"] = "stratified"
    if len(timed) >= MIN_TIMED_SHARE * n and len(np.unique(timed)) >= MIN_DISTINCT_TIMES:
        how = "time"
        chosen, boundary = _newest(groups, times, target)
    else:
        # records that no rung can be right about are shared out as if their answers were one label more
        y = np.where(y == NO_LABEL, curated.y.max() + 1, y)
        chosen = _stratified(groups, y, target, np.random.default_rng(seed))
    calibration = open_to[chosen[groups]].astype(np.int64)
    if len(calibration) < max(min_calibration, 1):
        raise RetrainRefused(
            f"only {len(calibration)} of {n} distinct texts can be set apart for calibration, "
            f"{max(min_calibration, 1)} are needed: sessions and near copies, which stay together, form "
            f"{len(chosen)} groups, the largest of {np.bincount(groups).max()}; "
            "collect more varied traffic"
        )
    trained = ~np.isin(curated.groups, numbers[chosen])
    return Split(np.flatnonzero(trained).astype(np.int64), calibration, how, boundary)


def _newest(
    groups: NDArray[np.int64], times: NDArray[np.float64], target: int
) -> tuple[NDArray[np.bool_], float | None]:
    """Choose the newest groups, and give the time of the oldest one chosen; groups without time stay."""
    sizes = np.bincount(groups)
    latest = np.full(len(sizes), -np.inf)
    np.fmax.at(latest, groups, times)
    chosen = np.zeros(len(sizes), dtype=bool)
    for group in np.lexsort((np.arange(len(sizes)), -latest)):
        if target == 0 or latest[group] == -np.inf:
            break
        if sizes[group] <= target:
            chosen[group] = True
            target -= int(sizes[group])
    return chosen, float(latest[chosen].min()) if chosen.any() else None


def _stratified(
    groups: NDArray[np.int64], y: NDArray[np.int64], target: int, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Choose groups at random, each label in its share; the last group of a label stays in training."""
    n_labels = int(y.max()) + 1
    left = np.bincount(y, minlength=n_labels)
    exact = target * left / len(y)
    quota = np.floor(exact).astype(np.int64)
    rest = np.lexsort((rng.permutation(n_labels), quota - exact))[: target - int(quota.sum())]
    quota[rest] += 1
    by_group = np.argsort(groups, kind="stable")
    members = np.split(y[by_group], np.cumsum(np.bincount(groups))[:-1])
    chosen = np.zeros(len(members), dtype=bool)
    order = rng.permutation(len(members))
    for strict in (True, False):  # quotas first; what groups of mixed labels leave open is filled after
        for group in order:
            size = len(members[group])
            if chosen[group] or size > target:
                continue
            labels, counts = np.unique(members[group], return_counts=True)
            if (left[labels] <= counts).any():
                continue
            if strict and 2 * np.minimum(np.maximum(quota[labels], 0), counts).sum() <= size:
                continue
            chosen[group] = True
            target -= size
            left[labels] -= counts
            quota[labels] -= counts
            if target == 0:
                return chosen
    return chosen
