"""Judges slices by out-of-fold answers to training records, before any held-out record is looked at.

A slice that breaks its bar gets a stricter threshold that keeps it, or a fence where none does. Which slices
break it is found by the Benjamini-Hochberg procedure: being strict without need costs savings and breaks no
promise, so the false discovery rate is the error that matters.

References
----------
Benjamini and Hochberg, "Controlling the false discovery rate", JRSS B 1995.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, false_discovery_control

from training.certificate import LEVELS, learn_then_test
from training.slices import Slicing, not_fenced, settled_by_slice, stricter
from training.thresholds import STRICTNESS

FENCE_FDR = 0.05
"""Expected share of needless fences among the fences that each look at the data makes."""

STRICTER = STRICTNESS[1:]
"""How much more may be asked of a slice: it settles from 1 - (1 - threshold) * strictness on."""

MIN_SETTLED = 10
"""Out-of-fold answers that a stricter threshold must leave in a slice."""


@dataclass(frozen=True)
class Judged:
    """What out-of-fold answers to training records say about the slices.

    Attributes
    ----------
    expected : float
        The level that they prove, or the one at which half of them settle.
    strictness : float array of shape (n_slices,)
    fenced : bool array of shape (n_slices,)
    rates : float array of shape (n_slices,)
        Error rates at that level; 1 where nothing settles.
    """

    expected: float
    strictness: NDArray[np.float64]
    fenced: NDArray[np.bool_]
    rates: NDArray[np.float64]


def judge(
    levels: NDArray[np.float64],
    right: NDArray[np.bool_],
    answers: NDArray[np.int64],
    slicing: Slicing,
    bar: float,
    delta: float,
) -> Judged:
    """Judge the slices by out-of-fold answers to training records: arrays of shape (n, n_rungs)."""
    ids = slicing.members.of(answers, slicing.train)
    n_slices = len(slicing.members.slices)
    found = learn_then_test(levels, right, bar, delta)
    expected = found.threshold if found.valid else _half_settles(levels)
    strictness, fenced = judge_training(levels, right, ids, n_slices, slicing.demand.bar, expected)
    levels = stricter(levels, ids, strictness)
    again = learn_then_test(levels, right, bar, delta, allowed=not_fenced(ids, fenced))
    if again.valid:
        expected = again.threshold
    return Judged(expected, strictness, fenced, ratessettled_by_slice(levels, right, ids, n_slices, expected))


def _half_settles(levels: NDArray[np.float64]) -> float:
    """Give the strictest level at which half of the records settle; the loosest where none does."""
    surest = np.sort(levels.max(axis=1))
    at = int(np.searchsorted(-LEVELS, -surest[len(surest) // 2]))
    return float(LEVELS[min(at, len(LEVELS) - 1)])


def judge_training(
    levels: NDArray[np.float64],
    right: NDArray[np.bool_],
    ids: Sequence[NDArray[np.int64]],
    n_slices: int,
    bar: float,
    level: float,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Ask more of slices that break the bar out of fold, and fence those that no strictness helps.

    Parameters
    ----------
    levels : float array of shape (n, n_rungs)
        Of the training records' out-of-fold answers.
    ids : list of int arrays of shape (n, n_rungs)
        From `Members.of`.
    level : float
        The level that is proven out of fold.

    Returns
    -------
    strictness : float array of shape (n_slices,)
        1 for slices that do not break the bar; for the others the loosest of `STRICTER` that keeps it.
    fenced : bool array of shape (n_slices,)
        Slices for which none does.
    """
    strictness, fenced = np.ones(n_slices), np.zeros(n_slices, dtype=bool)
    judged = np.zeros(n_slices, dtype=bool)
    at = np.array([level])
    while True:
        asked, allowed = stricter(levels, ids, strictness), not_fenced(ids, fenced)
        settled, wrong = settled_by_slice(asked, right, ids, n_slices, allowed, at)
        p_value = binom.sf(wrong[:, 0] - 1, settled[:, 0], 1 - bar)
        bad = refuted(p_value, FENCE_FDR) & ~judged
        if not bad.any():
            return strictness, fenced
        if len(ids) > 1:  # where slices overlap, the worst may be what makes the others look bad
            bad = np.arange(n_slices) == np.where(bad, p_value, np.inf).argmin()
        judged |= bad
        for s in STRICTER:
            strictness[bad] = s
            asked = stricter(levels, ids, strictness)
            settled, wrong = settled_by_slice(asked, right, ids, n_slices, allowed, at)
            # a slice with hardly any answers left keeps any bar by luck
            bad &= ~((settled[:, 0] >= MIN_SETTLED) & (wrong[:, 0] <= (1 - bar) * settled[:, 0]))
            if not bad.any():
                break
        strictness[bad] = 1.0
        fenced |= bad


def ratessettled_by_slice(
    levels: NDArray[np.float64],
    right: NDArray[np.bool_],
    ids: Sequence[NDArray[np.int64]],
    n_slices: int,
    level: float,
) -> NDArray[np.float64]:
    """Give each slice's error rate among what settles at a level, shape (n_slices,); 1 where nothing does."""
    settled, wrong = settled_by_slice(levels, right, ids, n_slices, None, np.array([level]))
    rates: NDArray[np.float64] = np.where(settled[:, 0] > 0, wrong[:, 0] / np.maximum(settled[:, 0], 1), 1.0)
    return rates


def refuted(p: NDArray[np.float64], level: float) -> NDArray[np.bool_]:
    """Benjamini-Hochberg."""
    if not len(p):
        return np.zeros(0, dtype=bool)
    rejected: NDArray[np.bool_] = false_discovery_control(np.clip(p, 0, 1)) <= level
    return rejected
