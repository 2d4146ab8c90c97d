"""Whether held-out records are like the training records: two-sample tests on scores neither trained.

Scores of the ladder itself would not do: on training records they come from models of the other folds, on
held-out records from models of all folds, which are better. So the training records are cut in two: class
centroids of n-gram features are fitted on one part, and the other part is compared with the held-out
records. Two scores are tested by Kolmogorov and Smirnov's test, each at half the level: how near a record
is to any class (a change of requests shows there), and how much nearer to its own class than to any other
(a change of what the teacher answers shows there). Sessions and near copies stay together in a split, so
one record stands for each group.

References
----------
Rabanser, Günnemann and Lipton, "Failing loudly: an empirical study of methods for detecting dataset shift",
NeurIPS 2019 (univariate Kolmogorov-Smirnov tests with Bonferroni correction).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.stats import ks_2samp
from sklearn.preprocessing import normalize

from cascade.features import Featurizer
from training.groups import one_a_group
from training.linear import to_matrix

MAX_SIDE = 2000
"""Groups on each side: with more, differences would be found that mean nothing."""

MIN_SIDE = 50
"""Below, a test sees nothing and is not made."""

FITTED_SHARE = 0.6
"""Share of the training groups that centroids are fitted on."""


@dataclass(frozen=True)
class ScoreTest:
    """One two-sample test.

    Attributes
    ----------
    name : str
        What was compared.
    statistic, p_value : float
        Largest distance of the two distributions, and the chance of one as large without a change.
    n_train, n_held_out : int
    """

    name: str
    statistic: float
    p_value: float
    n_train: int
    n_held_out: int


@dataclass(frozen=True)
class Exchangeability:
    """What the tests of held-out against training records came to.

    Attributes
    ----------
    level : float
        Chance of a false alarm over all tests; 0 for never.
    tests : tuple of ScoreTest
        Empty where there are too few records.
    failed : bool
    reason : str
        In plain words.
    """

    level: float
    tests: tuple[ScoreTest, ...]
    failed: bool
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Give it as the manifest's certificate stores it, under `exchangeability`."""
        return asdict(self) | {"tests": [asdict(test) for test in self.tests]}


def compare_with_training(
    texts: Sequence[str],
    y: NDArray[np.int64],
    groups: NDArray[np.int64],
    train: NDArray[np.int64],
    held_out: NDArray[np.int64],
    level: float,
    seed: int = 0,
) -> Exchangeability:
    """Test whether held-out and training records are exchangeable.

    Parameters
    ----------
    texts, y, groups : sequence and arrays of n records
        Of all curated records: text, label and group. Those with a negative label have no class to be near
        to, and are left out.
    train, held_out : int arrays
        Indices of the two parts.
    level : float
        Chance of a false alarm.
    seed : int
        Of the cut of the training records.
    """
    rng = np.random.default_rng(seed)
    of_train = rng.permutation(np.unique(groups[train]))
    cut = int(len(of_train) * FITTED_SHARE)
    fitted = train[np.isin(groups[train], of_train[:cut])]
    compared = _one_a_group(train[np.isin(groups[train], of_train[cut:])], groups, rng)
    newest = _one_a_group(held_out, groups, rng)
    fitted = fitted[y[fitted] >= 0]
    known = np.unique(y[fitted])
    compared, newest = compared[np.isin(y[compared], known)], newest[np.isin(y[newest], known)]
    if min(len(compared), len(newest)) < MIN_SIDE or len(known) < 2:
        return Exchangeability(level, (), False, "too few records to compare held-out with training ones")
    featurizer = Featurizer.fit([texts[i] for i in fitted])

    def rows(at: NDArray[np.int64]) -> csr_matrix:
        return normalize(to_matrix(featurizer([texts[i] for i in at]), featurizer.n_columns))

    column = {int(label): k for k, label in enumerate(known)}
    member = csr_matrix(
        (np.ones(len(fitted)), ([column[int(label)] for label in y[fitted]], np.arange(len(fitted))))
    )
    centroids = normalize(member @ rows(fitted))

    def scores(at: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        near = np.asarray((rows(at) @ centroids.T).todense(), dtype=np.float64)
        own = np.array([column[int(label)] for label in y[at]])
        mine = near[np.arange(len(at)), own]
        others = near.copy()
        others[np.arange(len(at)), own] = -np.inf
        return near.max(axis=1), mine - others.max(axis=1)

    tests = []
    for name, a, b in zip(
        ("nearness to any class", "nearness to the teacher's answer"), scores(compared), scores(newest),
        strict=True,
    ):  # fmt: skip
        found = ks_2samp(a, b)
        tests.append(ScoreTest(name, float(found.statistic), float(found.pvalue), len(a), len(b)))
    worst = min(tests, key=lambda test: test.p_value)
    failed = worst.p_value * len(tests) <= level
    reason = (
        f"held-out records are not like training records: {worst.name} differs "
        f"(Kolmogorov-Smirnov distance {worst.statistic:.3f}, p = {worst.p_value:.1e}, level {level:g} over "
        f"{len(tests)} tests)"
        if failed
        else "held-out records look like training records: "
        f"smallest p = {worst.p_value:.2g} of {len(tests)} tests"
    )
    return Exchangeability(level, tuple(tests), failed, reason)


def _one_a_group(
    at: NDArray[np.int64], groups: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Give one record of each group, at most `MAX_SIDE` of them."""
    return np.sort(rng.permutation(one_a_group(at, groups, rng))[:MAX_SIDE])
