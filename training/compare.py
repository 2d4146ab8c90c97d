"""Two bundles on the same records: whether the new one is better by more than chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from cascade.ask import Ask
from cascade.bundle import Bundle
from cascade.fences import VALIDATORS
from cascade.server.latency import LatencyRecord
from cascade.server.local import walk_local
from cascade.validators import Validator, validators_fence
from training.curate import CuratedRecord

N_RESAMPLES = 2000
_AT_ONCE = 256

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Outcome:
    """What a bundle makes of n records: bool arrays of shape (n,), what it settles, and rightly."""

    settled: Bools
    right: Bools


@dataclass(frozen=True)
class Comparison:
    """A paired comparison of a new bundle with the serving one.

    Attributes
    ----------
    n : int
        Records.
    settled, settled_before : float
        Share that each settles.
    agreement, agreement_before : float, optional
        Of what each settles; None where it settles nothing.
    gained, lost : int
        Records that only the new one settles rightly, and only the serving one.
    p_value : float
        Of McNemar's exact test on these: how probable so uneven a split is if neither is better.
    settled_change, agreement_change : (low, high)
        95 % intervals of the differences, new less serving, by the paired bootstrap.
    """

    n: int
    settled: float
    settled_before: float
    agreement: float | None
    agreement_before: float | None
    gained: int
    lost: int
    p_value: float
    settled_change: tuple[float, float]
    agreement_change: tuple[float, float] | None

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON."""
        return asdict(self)


def outcome(
    bundle: Bundle, records: Sequence[CuratedRecord], validators: Sequence[Validator] = ()
) -> Outcome:
    """Run a bundle over records as serving does.

    Parameters
    ----------
    bundle : Bundle
        Its certificate has to be valid: without one it settles nothing when it serves. Nor does one that was
        certified with validators which are gone or changed.
    records : sequence of CuratedRecord
    validators : sequence of callable
        The node's own.
    """
    bundle.fences.set(VALIDATORS, validators_fence(bundle.manifest.get("validators", ()), validators))
    settled, right = [], []
    latency = {rung.name: LatencyRecord() for rung in bundle.policy.rungs}
    for start in range(0, len(records), _AT_ONCE):
        part = records[start : start + _AT_ONCE]
        asks = [Ask(bundle.node, record.text, record.messages or (), record.context) for record in part]
        walks = walk_local(asks, bundle, bundle.contract, validators, latency)
        settled += [bool(walk.rung) for walk in walks]
        right += [
            bool(walk.rung) and walk.output == record.label for walk, record in zip(walks, part, strict=True)
        ]
    return Outcome(np.array(settled, dtype=bool), np.array(right, dtype=bool))


def nothing_settled(n: int) -> Outcome:
    """Give the outcome of a bundle that leaves all of n records to the teacher."""
    return Outcome(np.zeros(n, dtype=bool), np.zeros(n, dtype=bool))


def compare(new: Outcome, serving: Outcome, seed: int = 0) -> Comparison:
    """Compare two bundles on the same records.

    Parameters
    ----------
    new, serving : Outcome
        Of the same n records, n at least 1.
    seed : int
        Of the bootstrap.

    References
    ----------
    McNemar, Psychometrika 1947; Efron and Tibshirani, "An Introduction to the Bootstrap", 1993.
    """
    n = len(new.right)
    gained, lost = int((new.right & ~serving.right).sum()), int((serving.right & ~new.right).sum())
    p_value = float(binomtest(gained, gained + lost, 0.5).pvalue) if gained + lost else 1.0
    rng = np.random.default_rng(seed)
    picked = rng.integers(0, n, (N_RESAMPLES, n), dtype=np.int32)
    before, after = serving.settled[picked].sum(axis=1), new.settled[picked].sum(axis=1)
    change = (after - before) / n
    agreement_change = None
    both = (before > 0) & (after > 0)
    if both.any():
        shares = new.right[picked].sum(axis=1)[both] / after[both]
        shares = shares - serving.right[picked].sum(axis=1)[both] / before[both]
        agreement_change = _interval(shares)
    return Comparison(
        n,
        float(new.settled.mean()),
        float(serving.settled.mean()),
        _agreement(new),
        _agreement(serving),
        gained,
        lost,
        p_value,
        _interval(change),
        agreement_change,
    )


def _agreement(found: Outcome) -> float | None:
    return float(found.right.sum() / found.settled.sum()) if found.settled.any() else None


def _interval(values: NDArray[np.floating[Any]]) -> tuple[float, float]:
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)
