"""Whether one rung alone would do better than the whole ladder: a ladder may be dominated by its own rung.

A cheap rung that settles first answers what a better one would have answered right. Thresholds are chosen to
settle as much as the bar allows, not to be right more often than it asks, so nothing else would say so.

References
----------
McNemar, "Note on the sampling error of the difference between correlated proportions", Psychometrika 1947
(here the exact binomial form, on the records where exactly one of the two is right).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from training.evaluate import Scored, measure, settle

LEVEL = 0.05
"""Of the two-sided test, shared by the rungs that are compared."""

LESS = 0.005
"""Share of the records that the rung alone may settle less, and is still said to settle as much."""


@dataclass(frozen=True)
class RungAlone:
    """One rung that settles as much as its ladder, and is right more often.

    Attributes
    ----------
    rung : str
    settled, ladder_settled : float
        Shares of the held-out records.
    agreement, ladder_agreement : float
        Among what each settles.
    better, worse : int
        Records that both settle, and only this rung, or only the ladder, answers as the teacher does.
    p_value : float
        Of McNemar's test, two-sided: as many or more apart by luck.
    usd : float
        What it costs more a decision than the ladder; negative where it is cheaper.
    """

    rung: str
    settled: float
    ladder_settled: float
    agreement: float
    ladder_agreement: float
    better: int
    worse: int
    p_value: float
    usd: float

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON values."""
        return asdict(self)


def rung_alone(scored: Scored, thresholds: Sequence[float], groups: int | None = None) -> RungAlone | None:
    """Find the rung that would do better alone, at its threshold in the ladder: the one most often right.

    Nothing is proven about it: that takes a retraining with that ladder.

    Parameters
    ----------
    scored : Scored
        Of the held-out records, with prices.
    thresholds : sequence of float
        One a local rung.
    groups : int, optional
        Of near copies and sessions among the records; by default one each. Where records are more, as many
        fewer of them count for the test, since those of a group are right or wrong together.

    Returns
    -------
    RungAlone or None
        None where no rung settles as much and is right more often, beyond what luck explains.
    """
    n, n_rungs = scored.right.shape
    if n_rungs < 2:
        return None
    whole = _answered(scored, thresholds)
    found = []
    for rung in range(n_rungs):
        only = np.arange(n_rungs) == rung
        alone = _answered(replace(scored, worth=scored.worth & only), thresholds)
        both = whole.local & alone.local
        better = int((both & alone.right & ~whole.right).sum())
        worse = int((both & whole.right & ~alone.right).sum())
        if better <= worse or alone.local.sum() < whole.local.sum() - LESS * n:
            continue
        once = min((n if groups is None else groups) / n, 1.0)
        more, less = math.floor(better * once), math.ceil(worse * once)
        p_value = float(binomtest(more, more + less).pvalue) if more > less else 1.0
        if p_value > LEVEL / n_rungs:
            continue
        found.append(
            RungAlone(
                scored.rungs[rung], float(alone.local.mean()), float(whole.local.mean()),
                float(alone.right[alone.local].mean()), float(whole.right[whole.local].mean()),
                better, worse, p_value, alone.usd - whole.usd,
            )
        )  # fmt: skip
    return max(found, key=lambda one: one.agreement, default=None)


@dataclass(frozen=True)
class _Answered:
    """What a policy settles, where that is right, and dollars a decision."""

    local: NDArray[np.bool_]
    right: NDArray[np.bool_]
    usd: float


def _answered(scored: Scored, thresholds: Sequence[float]) -> _Answered:
    n, n_rungs = scored.right.shape
    first, ran = settle(scored, thresholds)
    local = first < n_rungs
    right = local & scored.right[np.arange(n), np.minimum(first, n_rungs - 1)]
    return _Answered(local, right, measure("", scored, first, ran).usd)
