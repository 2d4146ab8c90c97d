"""The certificate: thresholds proven on held-out traffic to keep the bar.

Learn-then-Test with the fallback procedure. For a threshold t, the hypothesis "agreement among the answers
that t settles is below the bar" is tested by the exact binomial tail on held-out records that no model has
seen. Thresholds are tried from strict to loose, in an order fixed beforehand. One fixed sequence would stop
at the first that cannot be rejected, and a single unlucky record among the strictest, where few records
settle, would then forbid everything. So the order is cut into chains that begin where given shares of the
records settle, each with a part of delta; a chain stops at its first failure, and one that is rejected whole
hands its part of delta on to the next. The family-wise error stays at most delta (Wiens 2003), so the loosest
rejected threshold keeps the bar with confidence 1 - delta.

References
----------
Angelopoulos, Bates, Candès, Jordan, Lei, "Learn then Test: Calibrating Predictive Algorithms to Achieve
Risk Control", Annals of Applied Statistics 2025 (arXiv 2110.01052).
Bauer, "Multiple testing in clinical trials", Statistics in Medicine 1991.
Wiens, "A fixed sequence Bonferroni procedure for testing multiple endpoints", Pharmaceutical Statistics 2003.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
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
        Held-out records that were counted, one a group of near copies and sessions; those that the threshold
        settles; those of them that disagree with the teacher.
    agreement_lower : float
        Exact one-sided lower confidence bound (Clopper-Pearson, at 1 - delta) of the agreement at the
        threshold, for reading; the proof itself is the test.
    more_records : int
        Where not valid: about how many more records of the same kind it would take, those for training
        among them, or -1 where no number of records would do, because the models are not good enough.
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


STARTS = ((0.0, 0.15), (0.5, 0.85))
"""Chains: from which settled share on, and with which part of delta. Fixed before any traffic is seen."""

PLENTY = 5000
"""Records from which on it is not said that more of them make better models."""

SINGLE_CHAIN = ((0.0, 1.0),)
"""Plain fixed-sequence testing."""


def first_count(bar: float, delta: float) -> int:
    """Give how many settled records the first test wants: about 3 ln(delta) / ln(bar).

    A first test on fewer fails by one unlucky record and certifies nothing (180 at 95/95; 59 is the floor).
    """
    return int(max(math.ceil(3 * math.log(delta) / math.log(bar)), 1))


def learn_then_test(
    confidence: NDArray[np.floating[Any]],
    right: NDArray[np.bool_],
    bar: float,
    delta: float,
    starts: Sequence[tuple[float, float]] = STARTS,
    allowed: NDArray[np.bool_] | None = None,
    level: float | None = None,
    held_out_share: float = 1.0,
    least: int | None = None,
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
    starts : sequence of (share, part of delta)
        The chains, strict to loose; the parts sum to 1.
    allowed : bool array of shape (n, n_rungs), optional
        Which answers may settle; one in a fenced slice may not, and sends its record to the teacher.
    level : float, optional
        What the tests may spend of delta, by default all of it: see `training.slices`.
    held_out_share : float
        Share of all records that is held out: more records in total are needed than held-out ones.
    least : int, optional
        Settled records below which no level is tested; by default `first_count`. Like `starts` it must be
        fixed before these records are looked at.

    Returns
    -------
    Certificate
    """
    n = len(confidence)
    levels = LEVELS
    alpha = delta if level is None else level
    settled, wrong = count_by_level(confidence, right, levels, allowed)
    proven = _loosest_rejected(settled, wrong, n, bar, alpha, starts, least)
    if proven >= 0:
        s, w = int(settled[proven]), int(wrong[proven])
        lower = float(beta.ppf(alpha, s - w, w + 1)) if w < s else 0.0
        return Certificate(
            True, bar, delta, float(levels[proven]), n, s, w, lower, 0,
            f"with confidence {1 - delta:.0%}, at least {bar:.1%} of the answers settled locally agree with "
            f"the teacher: on {n} held-out records {s} were settled and {w} of them disagreed",
        )  # fmt: skip
    more, rate = _more_records(settled, wrong, n, bar, alpha)
    if more > 0:
        more = math.ceil(more / held_out_share)
    records = n / held_out_share
    need = (
        f"about {more:,} more records are needed"
        if more >= 0
        else "holding out more would not prove it: these models disagree with the teacher too often even "
        "where they are surest. It takes better ones, "
        + ("from more records (plan for 2,000 to 5,000), " if records < PLENTY else "steadier labels, ")
        + "or another rung"
    )
    if more >= 0 and rate is not None:  # what refused them is that this is not sure
        need += f", if no more than {rate:.1%} of the surest answers go on being wrong ({1 - bar:.1%} may be)"
    return Certificate(
        False, bar, delta, 2.0, n, 0, 0, 0.0, more,
        f"agreement of {bar:.1%} cannot be proven with confidence {1 - delta:.0%} "
        f"on {n} held-out records; {need}",
    )  # fmt: skip


def _loosest_rejected(
    settled: NDArray[np.int64],
    wrong: NDArray[np.int64],
    n: int,
    bar: float,
    delta: float,
    starts: Sequence[tuple[float, float]],
    least: int | None = None,
) -> int:
    """Give the index of the loosest level that the fallback procedure rejects; -1 for none.

    Where a chain begins depends on how many records settle, never on whether they are right.
    """
    p_value = binom.cdf(wrong, settled, 1 - bar)
    least = first_count(bar, delta) if least is None else least
    begins = [int(np.searchsorted(settled, max(least, math.ceil(share * n)))) for share, _ in starts]
    proven, carried = -1, 0.0
    for chain, (begin, (_, part)) in enumerate(zip(begins, starts, strict=True)):
        end = begins[chain + 1] if chain + 1 < len(begins) else len(settled)
        alpha = delta * part + carried
        failures = np.flatnonzero(p_value[begin:end] > alpha)
        stop = begin + int(failures[0]) if len(failures) else end
        if stop > begin:
            proven = stop - 1
        # an empty chain has nothing to fail: its part goes on too
        carried = alpha if stop == end else 0.0
    return proven


def count_by_level(
    confidence: NDArray[np.floating[Any]],
    right: NDArray[np.bool_],
    levels: NDArray[np.floating[Any]],
    allowed: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count, for each level, how many records settle and how many of them are wrong."""
    settled, wrong = counts_by_slice(
        confidence, right, levels, np.zeros(right.shape, dtype=np.int64), 1, allowed
    )
    return settled[0], wrong[0]


def counts_by_slice(
    confidence: NDArray[np.floating[Any]],
    right: NDArray[np.bool_],
    levels: NDArray[np.floating[Any]],
    slices: NDArray[np.int64],
    n_slices: int,
    allowed: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count, for each slice and level, how many records settle and how many of them are wrong.

    Rung r settles a record for levels in (best of the rungs before, its own], so each (record, rung) adds
    to one run of levels; `levels` descend. Where its answer is not allowed, nothing settles in that run.

    Parameters
    ----------
    slices : int array of shape (n, n_rungs)
        The slice of each rung's answer, in [0, n_slices).

    Returns
    -------
    settled, wrong : int arrays of shape (n_slices, n_levels)
    """
    settled = np.zeros((n_slices, len(levels) + 1), dtype=np.int64)
    wrong = np.zeros((n_slices, len(levels) + 1), dtype=np.int64)
    before = np.full(len(confidence), -np.inf)
    for r in range(confidence.shape[1]):
        own = confidence[:, r]
        live = own > before
        if allowed is not None:
            live &= allowed[:, r]
        begin = np.searchsorted(-levels, -own[live], side="left")
        end = np.searchsorted(-levels, -before[live], side="left")
        bad, where = ~right[live, r], slices[live, r]
        np.add.at(settled, (where, begin), 1)
        np.add.at(settled, (where, end), -1)
        np.add.at(wrong, (where[bad], begin[bad]), 1)
        np.add.at(wrong, (where[bad], end[bad]), -1)
        before = np.maximum(before, own)
    return np.cumsum(settled[:, :-1], axis=1), np.cumsum(wrong[:, :-1], axis=1)


def _more_records(
    settled: NDArray[np.int64], wrong: NDArray[np.int64], n: int, bar: float, delta: float
) -> tuple[int, float | None]:
    """Estimate how many more records a proof takes, and at which error rate, were it to stay as it was seen.

    The rate at a level is taken with one more wrong record than was seen, so that luck at the top of a
    small sample does not promise too much.

    Returns
    -------
    more : int
        -1 where no number would do: also where enough records were there, and none of their answers may
        settle, because their slices are fenced or something refuses them all.
    rate : float or None
        None where nothing settled that it could be taken from.
    """
    first = first_count(bar, delta)
    usable = settled >= min(30, max(settled.max(initial=0) // 2, 1))
    if n == 0 or not usable.any():
        return (first if n < first else -1), None
    rate = (wrong[usable] + 1) / (settled[usable] + 1)
    share = settled[usable] / n
    for factor in np.geomspace(1, 100, 60):
        accepted = np.floor(share * n * factor)
        enough = (accepted >= first) & (binom.cdf(np.ceil(rate * accepted), accepted, 1 - bar) <= delta)
        if enough.any():
            more = max(math.ceil(n * (factor - 1)), math.ceil(n / 10))  # less would be false precision
            return more, float(rate[enough].max())
    return -1, None
