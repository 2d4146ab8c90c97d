"""Chooses, from out-of-fold answers alone, the shape of the thresholds that the certificate then proves.

The certificate walks one level t from strict to loose. Each rung settles from 1 - (1 - t) * strictness on, so
that a cheaper rung can be asked for more than the rung above it, which would do better on what it lets go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from training.certificate import LEVELS, SINGLE_CHAIN, STARTS, first_count, learn_then_test

STRICTNESS = (1.0, 0.7, 0.5, 0.35, 0.25, 0.15, 0.1, 0.05, 0.02)
TOLERATED_LOSS = 0.003
"""Settled share that a looser cheap rung may cost, against the best strictness."""

SURVIVED = 2
"""Wrong records that the first test of few held-out ones must survive."""

LEFT = 0.95
"""Part of delta that the node's proof has where slices are judged beside it: see
`training.slice_certificate`."""

SKIPPED_SHARE = 0.0005
"""Share of all requests that would have settled locally and may go to the teacher unasked."""


def to_levels(confidence: NDArray[np.floating[Any]], strictness: Sequence[float]) -> NDArray[np.float64]:
    """Map each rung's confidence to the level from which on it settles.

    Parameters
    ----------
    confidence : array of shape (n, n_rungs)
    strictness : sequence of n_rungs floats in (0, 1]
    """
    levels: NDArray[np.float64] = 1 - (1 - np.asarray(confidence, dtype=np.float64)) / np.asarray(strictness)
    return levels


def rung_thresholds(level: float, strictness: Sequence[float]) -> list[float]:
    """Give each rung's threshold at a level; above 1 where the level is."""
    return [level if level > 1 else 1 - (1 - level) * s for s in strictness]


def choose_strictness(
    confidence: NDArray[np.floating[Any]], right: NDArray[np.bool_], bar: float, delta: float
) -> tuple[float, ...]:
    """Choose how much stricter each cheaper rung is than the last one.

    The loosest that loses at most `TOLERATED_LOSS` of the settled share at the bar is taken: a cheap rung
    that settles more is the point of a ladder.
    """
    n_rungs = confidence.shape[1]
    if n_rungs == 1:
        return (1.0,)
    shares = []
    for s in STRICTNESS:
        levels = to_levels(confidence, [s] * (n_rungs - 1) + [1.0])
        found = learn_then_test(levels, right, bar, delta)
        shares.append(found.n_settled / max(found.n_held_out, 1))
    best = max(shares)
    chosen = next(s for s, share in zip(STRICTNESS, shares, strict=True) if share >= best - TOLERATED_LOSS)
    return (*[chosen] * (n_rungs - 1), 1.0)


@dataclass(frozen=True)
class Starts:
    """Where the certificate's tests begin: see `training.certificate.learn_then_test`.

    Attributes
    ----------
    chains : tuple of (share, part of delta)
    least : int
    """

    chains: tuple[tuple[float, float], ...]
    least: int


def choose_starts(n_held_out: int, bar: float, delta: float) -> Starts:
    """Choose where the tests begin, from the number of held-out records alone, so the proof holds.

    Of many records the fixed starts rarely fail. Of few, every part of delta that a second chain takes makes
    all tests harder, so there is one chain with all of it. It begins at the first level at which so many
    records settle that the test survives `SURVIVED` wrong ones: earlier, one unlucky record among the
    strictest would end it; much later, the first test is already a hard one.

    Parameters
    ----------
    n_held_out : int
    bar, delta : float
    """
    if STARTS[-1][0] * n_held_out >= first_count(bar, delta):
        return Starts(STARTS, first_count(bar, delta))
    least = SURVIVED + 1
    while binom.cdf(SURVIVED, least, 1 - bar) > LEFT * delta:
        least += 1
    return Starts(SINGLE_CHAIN, least)


def no_looser(levels: NDArray[np.float64], loosest: float) -> NDArray[np.float64]:
    """Keep a certificate from levels looser than `loosest`: what only such a level settles, nothing does."""
    return np.where(levels >= loosest, levels, -np.inf)


def choose_skips(
    p_right: NDArray[np.floating[Any]],
    confidence: NDArray[np.floating[Any]],
    strictness: Sequence[float],
    right: NDArray[np.bool_],
    bar: float,
    delta: float,
) -> list[float]:
    """Choose, for each rung, the P(right) below which it is not worth running.

    Running a rung whose answer will not be accepted only costs time. The floor of a rung is the highest that
    keeps all but `SKIPPED_SHARE` of the requests that it, or a cheaper rung, would settle.

    Returns
    -------
    list of n_rungs floats
        Ascending in effect: a rung skipped for a request means all cheaper ones were.
    """
    levels = to_levels(confidence, strictness)
    found = learn_then_test(levels, right, bar, delta)
    level = found.threshold if found.valid else float(LEVELS[len(LEVELS) // 2])
    floors = []
    for r in range(levels.shape[1]):
        useful = np.sort(p_right[levels[:, r] >= level, r])
        if not len(useful):
            floors.append(0.0)
            continue
        floors.append(float(useful[min(int(SKIPPED_SHARE * len(p_right)), len(useful) - 1)]))
    return [float(np.float32(floor * 0.999)) for floor in floors]
