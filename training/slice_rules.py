"""The single rules that certificates per slice are made of: tests, how delta is shared, what is still needed.

`training.slice_certificate` puts them together and gives the papers.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

EMPTY_SHARE = 0.95
"""Part of delta that the proof without late fences may spend."""

BEGIN_SHARE = 0.6
"""A slice's sequence begins where this share of what it is expected to settle has settled."""

_WEIGHT = 30.0  # weight, in records, of the node's error rate in a small slice's


def more_for_slice(settled: int, wrong: int, node_rate: float, bar: float, alpha: float) -> int:
    """Estimate how many more settled records a slice needs for a proof of its own.

    Its error rate is drawn towards the node's, since a few records say little about it.

    Returns
    -------
    int
        -1 where it is not below what the bar allows.
    """
    rate = (wrong + _WEIGHT * node_rate) / (settled + _WEIGHT)
    if rate >= 1 - bar:
        return -1
    floor = math.ceil(math.log(alpha) / math.log(bar))
    counts = np.unique(np.ceil(np.geomspace(floor, 1000 * floor, 400)).astype(np.int64))
    enough = binom.cdf(np.ceil(rate * counts), counts, 1 - bar) <= alpha
    if not enough.any():
        return -1
    return max(int(counts[enough.argmax()]) - settled, 1)


def part_of_delta(late: int, free: int) -> float:
    """Give the part of delta that belongs to one set of so many late fences among `free` slices."""
    if late == 0:
        return EMPTY_SHARE
    return float((1 - EMPTY_SHARE) * 0.5**late / math.comb(free, late))


def sharing(settled: NDArray[np.int64], bar: float, delta: float) -> int:
    """Give how many slices share delta: Tarone's rule with the p-value of a slice without an error."""
    best = np.sort(bar ** settled.astype(np.float64))
    for k in range(1, len(best) + 1):
        if int((best <= delta / k).sum()) <= k:
            return k
    return max(len(best), 1)


def needed(settled: NDArray[np.int64], bar: float, alpha: float) -> NDArray[np.int64]:
    """Give how many records settle where each slice's sequence begins."""
    floor = math.ceil(math.log(alpha) / math.log(bar))
    need: NDArray[np.int64] = np.maximum(floor, np.ceil(BEGIN_SHARE * settled)).astype(np.int64)
    return need


def hopeless(
    settled: NDArray[np.int64], bar: float, delta: float, out_of_fold: NDArray[np.float64] | None
) -> NDArray[np.bool_]:
    """Say which slices would not be proven, were their held-out answers as good as out of fold."""
    alpha = delta / sharing(settled, bar, delta)
    rate = np.zeros(len(settled)) if out_of_fold is None else out_of_fold
    luck = 2 * np.sqrt(rate * (1 - rate) * settled)  # so that few are fenced late, which costs the others
    found: NDArray[np.bool_] = binom.cdf(np.ceil(rate * settled + luck), settled, 1 - bar) > alpha
    return found


def p_of_proof(
    settled: NDArray[np.int64],
    wrong: NDArray[np.int64],
    need: NDArray[np.int64],
    stop: int,
    bar: float,
) -> NDArray[np.float64]:
    """Give each slice's p-value of "below the bar" at level `stop`: the largest along its sequence."""
    p = binom.cdf(wrong, settled, 1 - bar)
    out = np.ones(len(settled))
    for k in range(len(settled)):
        begin = int(np.searchsorted(settled[k], need[k]))
        if begin <= stop:
            out[k] = p[k, begin : stop + 1].max()
    return out


def p_of_refutation(
    settled: NDArray[np.int64], wrong: NDArray[np.int64], stop: int, bar: float
) -> NDArray[np.float64]:
    """Give each slice's p-value of "keeps the bar" at level `stop`: the largest from the loosest level on."""
    p: NDArray[np.float64] = binom.sf(wrong[:, stop:] - 1, settled[:, stop:], 1 - bar).max(axis=1)
    return p


def holm(p: NDArray[np.float64], level: float) -> NDArray[np.bool_]:
    """Reject by Holm's procedure: any false rejection has a chance of at most `level`."""
    order = np.argsort(p, kind="stable")
    passed = p[order] <= level / np.arange(len(p), 0, -1)
    rejected = np.zeros(len(p), dtype=bool)
    rejected[order[: len(p) if passed.all() else int(passed.argmin())]] = True
    return rejected
