"""What a retraining tried, how it did out of fold, and what was kept; and how long it may go on trying."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Tried:
    """One variant of a rung's part.

    Attributes
    ----------
    rung : str
        `linear`, `encoder`, `acceptor`: which part of the ladder it is a variant of.
    variant : str
        In plain words.
    log_loss, accuracy, settled : float, optional
        Out of fold: mean negative log-probability of the teacher's label, share right, and the largest
        share of the records that it could settle at the bar in hindsight. None where it was not run.
    kept : bool
        Whether the bundle holds it.
    note : str
        Why it was not run, or nothing.
    """

    rung: str
    variant: str
    log_loss: float | None
    accuracy: float | None
    settled: float | None
    kept: bool = False
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Give it as the manifest stores it."""
        return {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(self).items()}


class Budget:
    """How long a retraining may try more than its short list.

    Without one only the short list is tried, and the same input gives the same bundle. With one, the long
    list is gone through as long as time is left; a slower machine may get less far, and so another bundle.

    Parameters
    ----------
    seconds : float, optional
        Counted from the making of this object; None for no long list.
    clock : callable
        Seconds that only go up.
    """

    def __init__(self, seconds: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._end = None if seconds is None else clock() + seconds

    def allows(self, expected: float = 0.0) -> bool:
        """Say whether a step of the long list that takes about so many seconds still fits."""
        return self._end is not None and self._clock() + expected <= self._end

    def now(self) -> float:
        """Give the clock's seconds, for expecting how long a like step takes."""
        return self._clock()


def settled_at(confidence: NDArray[np.floating[Any]], right: NDArray[np.bool_], bar: float) -> float:
    """Give the largest share of the surest answers that agree at the bar, in hindsight: not a promise.

    Parameters
    ----------
    confidence : array of shape (n,)
    right : bool array of shape (n,)
    bar : float
    """
    order = np.argsort(-confidence, kind="stable")
    agreement = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    at = np.flatnonzero(agreement >= bar)
    return float((at[-1] + 1) / len(order)) if len(at) else 0.0


def describe(
    rung: str, variant: str, probabilities: NDArray[np.float32], y: NDArray[np.int64], bar: float
) -> Tried:
    """Measure one variant's out-of-fold probabilities, shape (n, n_labels).

    Records that no rung can be right about (`y` is negative) count as wrong, and have no log loss.
    """
    known = y >= 0
    p = np.maximum(probabilities[known, y[known]].astype(np.float64), 1e-12)
    right = probabilities.argmax(axis=1) == y
    return Tried(
        rung,
        variant,
        float(-np.log(p).mean()),
        float(right.mean()),
        settled_at(probabilities.max(axis=1), right, bar),
    )


def keep(tried: Sequence[Tried], chosen: Sequence[str]) -> list[Tried]:
    """Mark the variants that the bundle holds."""
    return [Tried(**(asdict(t) | {"kept": t.variant in chosen and t.log_loss is not None})) for t in tried]
