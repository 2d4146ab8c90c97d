"""Betting on bounded records: evidence that stays valid however often one looks.

A gambler starts with 1 and, before each record, stakes a share of the wealth on the record's value x in
[0, 1] being above (or below) a limit m. With a stake L and a weight w that are known before x is, one record
multiplies the wealth by

    1 + L w (x - m)                                                      0 < w <= 1,  -1/(1-m) < L < 1/m

**Why this is evidence.** Let the null be "each time, given all that came before, E[w (x - m)] <= 0", and L >
0. Then the factor's conditional expectation is 1 + L E[w (x - m)] <= 1, and it is never negative because 1 -
L w m > 0. So the wealth is a nonnegative supermartingale that starts at 1, and by Ville's inequality the
chance that it *ever* reaches 1/delta is at most delta, whatever rule decides when to look or stop, and
whatever the records' dependence on the past. For L < 0 the same holds for the null E[w (x - m)] >= 0. A
mixture of such wealths with weights that sum to 1 is again one (expectations add up).

Two mixtures are made here.

*Over stakes.* No single L is good against both a small and a large shortfall. For x in {0, 1} and w = 1 a
stake is the likelihood ratio of Bernoulli(q) to Bernoulli(m), L = (q - m) / (m (1 - m)); the stakes stand for
a fixed grid of q whose odds are multiples of the limit's.

*Over start times.* A gambler who bet through a long good time is broke when the bad time begins. So a part of
the capital waits: of 1, the reserve after t records is

    R(t) = 1 / (2 (1 + ln(1 + t / 200)))    for t >= 1,    R(0) = 1

and the difference R(t-1) - R(t) starts to bet at record t. Each start is a supermartingale from its start on,
money that waits is constant, so their sum is a supermartingale that starts at 1: the chance of a false alarm
in an endless life is still at most delta. This is an e-detector of Shiryaev-Roberts form, but with starts
weighted so that they sum to 1 rather than each starting with 1: it gives up a little speed (a start near
record t costs ln(1 / (d gamma_t)) of evidence for a delay of d) and gets control of the lifetime error
instead of control of the average run length. The recursion needs one number for each stake:

    S_t = (S_{t-1} + gamma_t) (1 + L w (x - m)),    evidence = R(t) + sum_L prior(L) S_t(L)

**Weights.** A record that came into the sample with propensity p gets w = p0 / p, where p0 is the smallest
propensity that any record could have had at that moment, known beforehand. Among the sampled, E[w (x - m)]
then equals (p0 / P(sampled)) E[x - m] over all, whatever p depends on: inverse propensity weighting, scaled
by a predictable number so that the weight is bounded by 1. Where all have the same propensity at a moment, w
= 1, and a rate that changes with time costs nothing.

References
----------
Waudby-Smith, Ramdas, "Estimating means of bounded random variables by betting", Journal of the Royal
Statistical Society B 86(1), 2024 (arXiv 2010.09686).
Shin, Ramdas, Rinaldo, "E-detectors: a nonparametric framework for sequential change detection", New England
Journal of Statistics in Data Science 2(2), 2023 (arXiv 2203.03532).
Waudby-Smith, Wu, Ramdas, Karampatziakis, Mineiro, "Anytime-valid off-policy inference for contextual
bandits", ACM/IMS Journal of Data Science 1(3), 2024 (arXiv 2210.10768): propensities that are known, records
that depend on the past. Ville, "Étude critique de la notion de collectif", 1939.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

ODDS_ABOVE = (1.25, 1.5, 2.0, 3.0, 4.5, 7.0, 12.0, 30.0)
ODDS_BELOW = (0.8, 0.6, 0.4, 0.25, 0.1, 0.02)
"""The alternatives that are bet on, as multiples of the limit's odds: power depends on them, validity not."""

RESERVE_SCALE = 200.0
LARGEST = 1e200
"""Wealth beyond this is thrown away: less wealth is never wrong, and infinity times zero would be."""

Direction = Literal["above", "below"]


@dataclass(frozen=True, eq=False)
class Wealth:
    """What a test's gamblers own; for one stream of records, or for many at once.

    Attributes
    ----------
    count : int64 array of shape (...)
        Records bet on.
    active : float64 array of shape (..., n_stakes)
        The wealth that is betting, for each stake, before the prior.
    """

    count: NDArray[np.int64]
    active: NDArray[np.float64]

    def to_json(self) -> dict[str, Any]:
        """Give a single stream's wealth as JSON values; floats come back exactly."""
        return {"count": int(self.count), "active": [float(value) for value in self.active]}

    @staticmethod
    def from_json(data: dict[str, Any]) -> Wealth:
        """Read what `to_json` gave."""
        return Wealth(np.asarray(data["count"], np.int64), np.asarray(data["active"], np.float64))


@dataclass(frozen=True, eq=False)
class BettingTest:
    """A one-sided test of a mean against a limit.

    Attributes
    ----------
    limit : float
        m in (0, 1).
    direction : {"above", "below"}
        "above" gathers evidence that the mean is above the limit; its null is that it is at most the limit.
    stakes : float64 array of shape (n_stakes,)
        L of each gambler.
    restarts : bool
        Whether capital is kept back for later starts, so that a change in the middle is found.
    """

    limit: float
    direction: Direction
    stakes: NDArray[np.float64]
    restarts: bool

    @staticmethod
    def of(limit: float, direction: Direction, restarts: bool) -> BettingTest:
        """Make the test with the standard grid of stakes.

        Raises
        ------
        ValueError
            The limit is not in (0, 1).
        """
        if not 0 < limit < 1:
            raise ValueError(f"limit must be in (0, 1), not {limit}")
        odds = np.array(ODDS_ABOVE if direction == "above" else ODDS_BELOW) * limit / (1 - limit)
        alternatives = odds / (1 + odds)
        return BettingTest(limit, direction, (alternatives - limit) / (limit * (1 - limit)), restarts)

    def start(self, shape: tuple[int, ...] = ()) -> Wealth:
        """Give the wealth before any record, for `shape` streams."""
        return Wealth(np.zeros(shape, np.int64), np.zeros((*shape, len(self.stakes))))

    def bet(self, wealth: Wealth, x: ArrayLike, weight: ArrayLike = 1.0) -> Wealth:
        """Give the wealth after one more record of each stream.

        Parameters
        ----------
        wealth : Wealth
            Of shape (...).
        x : array of shape (...)
            The records' values in [0, 1].
        weight : array of shape (...)
            Their weights in (0, 1].
        """
        away = (np.asarray(weight, np.float64) * (np.asarray(x, np.float64) - self.limit))[..., None]
        return self._play(wealth, np.ones_like(wealth.count), 1.0 + self.stakes * away)

    def bet_counts(self, wealth: Wealth, hits: ArrayLike, n: ArrayLike) -> Wealth:
        """Give the wealth after `n` records of which `hits` are 1 and the rest 0, all of weight 1.

        Restarts within the batch are drawn together at its beginning; `n` must not depend on the values.
        """
        hits, n = np.asarray(hits, np.int64), np.asarray(n, np.int64)
        with np.errstate(over="ignore", under="ignore"):
            factor = np.exp(
                hits[..., None] * np.log1p(self.stakes * (1 - self.limit))
                + (n - hits)[..., None] * np.log1p(-self.stakes * self.limit)
            )
        return self._play(wealth, n, factor)

    def evidence(self, wealth: Wealth) -> NDArray[np.float64]:
        """Give each stream's e-value: if the null holds, it ever reaches 1/delta with chance <= delta."""
        value: NDArray[np.float64] = self._reserve(wealth.count) + wealth.active.mean(axis=-1)
        return value

    def _play(self, wealth: Wealth, n: NDArray[np.int64], factor: NDArray[np.float64]) -> Wealth:
        count = wealth.count + n
        drawn = (self._reserve(wealth.count) - self._reserve(count))[..., None]
        with np.errstate(over="ignore"):
            active = np.minimum((wealth.active + drawn) * factor, LARGEST)
        return Wealth(count, active)

    def _reserve(self, count: NDArray[np.int64]) -> NDArray[np.float64]:
        later = 0.5 / (1 + np.log1p(count / RESERVE_SCALE)) if self.restarts else 0.0
        return np.where(count == 0, 1.0, later)


@dataclass(frozen=True, slots=True)
class Stretch:
    """The records since the evidence began to gather, for telling people; tests do not depend on it.

    After a long good time the counts of a whole life say nothing about what went wrong last week. So records
    are counted from where the likelihood ratio at twice the limit's odds was last at its lowest (Page's
    CUSUM).

    Attributes
    ----------
    n, hits : int
        Records in it, and those of them that were 1.
    score : float
        The logarithm of the likelihood ratio over it, above 0 unless it is empty.
    """

    n: int = 0
    hits: int = 0
    score: float = 0.0

    def add(self, limit: float, hits: int, n: int) -> Stretch:
        """Take `n` more records; where they make the ratio fall below 1, begin anew."""
        double = 2 * limit / (1 + limit)
        gained = hits * math.log(double / limit) + (n - hits) * math.log((1 - double) / (1 - limit))
        score = self.score + gained
        return Stretch(self.n + n, self.hits + hits, score) if score > 0 else NO_STRETCH


NO_STRETCH = Stretch()
"""The stretch before any record."""
