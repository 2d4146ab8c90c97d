"""The certificate: thresholds proven on held-out traffic to keep the bar.

Learn-then-Test with fixed-sequence testing. For a threshold t, the hypothesis "agreement among the answers
that t settles is below the bar" is tested by the exact binomial tail on held-out records that no model has
seen. Thresholds are tried from strict to loose, in an order fixed beforehand, and the walk stops at
the first that cannot be rejected; the family-wise error is then at most delta (Bauer 1991), so the last
rejected threshold keeps the bar with confidence 1 - delta.

References
----------
Angelopoulos, Bates, Candès, Jordan, Lei, "Learn then Test: Calibrating Predictive Algorithms to Achieve
Risk Control", Annals of Applied Statistics 2025 (arXiv 2110.01052).
Bauer, "Multiple testing in clinical trials", Statistics in Medicine 1991.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, binom


@dataclass(frozen=True)
class Certificate:
    """The proof that the bar is met, or the refusal.

    Attributes
    ----------
    valid : bool
        Whether the bar is proven.
    bar, delta : float
        The agreement demanded, and the allowed chance that the proof is wrong.
    threshold : float
        The acceptor's probability from which on answers settle; 2.0 where nothing does.
    n_held_out, n_settled, n_wrong : int
        Held-out records; those that the threshold settles; those of them that disagree with the teacher.
    agreement_lower : float
        Exact one-sided lower confidence bound (Clopper-Pearson, at 1 - delta) of the agreement at the
        threshold, for reading; the proof itself is the test.
    more_records : int
        Where not valid: about how many more records of the same kind it would take, or -1 where no
        number of records would do, because the models are not good enough.
    reason : str
        In plain words.
    """

    valid: bool
    bar: float
    delta: float
    threshold: float
    n_held_out: int
    n_settled: int
    n_wrong: int
    agreement_lower: float
    more_records: int
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Give the certificate as the manifest stores it."""
        return asdict(self)


LEVELS: NDArray[np.float64] = 1.0 - np.geomspace(2e-4, 0.7, 150)
"""Thresholds that are tried, strict to loose: fixed before any traffic is seen, as the proof wants."""


def first_count(bar: float, delta: float) -> int:
    """Give how many settled records the first test wants: about 3 ln(delta) / ln(bar).

    A first test on fewer fails by one unlucky record and certifies nothing (180 at 95/95; 59 is the floor).
    """
    return int(max(math.ceil(3 * math.log(delta) / math.log(bar)), 1))


def learn_then_test(
    confidence: NDArray[np.floating[Any]], right: NDArray[np.bool_], bar: float, delta: float
) -> Certificate:
    """Find the loosest common threshold that is proven to keep the bar.

    Parameters
    ----------
    confidence : array of shape (n, n_rungs)
        The acceptor's P(right) of each rung's answer on held-out records, -inf where the rung was not
        run or broke the contract.
    right : bool array of shape (n, n_rungs)
        Whether each rung's answer equals the teacher's.
    bar, delta : float
        The agreement demanded in (0, 1), and the allowed chance of error in (0, 1).

    Returns
    -------
    Certificate
    """
    n = len(confidence)
    levels = LEVELS
    settled, wrong = _counts(confidence, right, levels)
    proven = -1
    start = int(np.searchsorted(settled, first_count(bar, delta)))  # `settled` grows as levels loosen
    if start < len(levels):
        rejected = binom.cdf(wrong[start:], settled[start:], 1 - bar) <= delta
        failures = np.flatnonzero(~rejected)
        stop = failures[0] if len(failures) else len(rejected)
        proven = start + int(stop) - 1 if stop else -1
    if proven >= 0:
        s, w = int(settled[proven]), int(wrong[proven])
        lower = float(beta.ppf(delta, s - w, w + 1)) if w < s else 0.0
        return Certificate(
            True, bar, delta, float(levels[proven]), n, s, w, lower, 0,
            f"with confidence {1 - delta:.0%}, at least {bar:.1%} of the answers settled locally agree with "
            f"the teacher: on {n} held-out records {s} were settled and {w} of them disagreed",
        )  # fmt: skip
    more = _more_records(settled, wrong, n, bar, delta)
    need = (
        f"about {more} more records are needed"
        if more >= 0
        else "more records of this kind will not help: the models disagree with the teacher too often "
        "even where they are surest"
    )
    return Certificate(
        False, bar, delta, 2.0, n, 0, 0, 0.0, more,
        f"agreement of {bar:.1%} cannot be proven with confidence {1 - delta:.0%} "
        f"on {n} held-out records; {need}",
    )  # fmt: skip


def _counts(
    confidence: NDArray[np.floating[Any]], right: NDArray[np.bool_], levels: NDArray[np.floating[Any]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count, for each level, how many records settle and how many of them are wrong.

    Rung r settles a record for levels in (best of the rungs before, its own], so each (record, rung) adds
    to one run of levels; `levels` descend.
    """
    settled = np.zeros(len(levels) + 1, dtype=np.int64)
    wrong = np.zeros(len(levels) + 1, dtype=np.int64)
    before = np.full(len(confidence), -np.inf)
    for r in range(confidence.shape[1]):
        own = confidence[:, r]
        live = own > before
        begin = np.searchsorted(-levels, -own[live], side="left")
        end = np.searchsorted(-levels, -before[live], side="left")
        bad = ~right[live, r]
        np.add.at(settled, begin, 1)
        np.add.at(settled, end, -1)
        np.add.at(wrong, begin[bad], 1)
        np.add.at(wrong, end[bad], -1)
        before = np.maximum(before, own)
    return np.cumsum(settled[:-1]), np.cumsum(wrong[:-1])


def _more_records(
    settled: NDArray[np.int64], wrong: NDArray[np.int64], n: int, bar: float, delta: float
) -> int:
    """Estimate how many more records a proof takes, were the error rates to stay as they were seen.

    The rate at a level is taken with one more wrong record than was seen, so that luck at the top of a
    small sample does not promise too much.
    """
    if n == 0:
        return first_count(bar, delta)
    usable = settled >= min(30, max(settled.max(initial=0) // 2, 1))
    if not usable.any():
        return first_count(bar, delta)
    rate = (wrong[usable] + 1) / (settled[usable] + 1)
    share = settled[usable] / n
    for factor in np.geomspace(1, 100, 60):
        accepted = np.floor(share * n * factor)
        if np.any(
            (accepted >= first_count(bar, delta))
            & (binom.cdf(np.ceil(rate * accepted), accepted, 1 - bar) <= delta)
        ):
            return int(max(math.ceil(n * (factor - 1)), 1))
    return -1
