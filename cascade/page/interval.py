"""The interval of a share that is estimated from weighted records."""

from __future__ import annotations

import math
from collections.abc import Sequence

Z95 = 1.959963984540054


def weighted_share(
    right: Sequence[bool], propensity: Sequence[float], z: float = Z95
) -> tuple[float, float, float] | None:
    """Estimate the share of right answers among all settled ones from those that were audited.

    Audits are drawn with different probabilities; each stands for 1 / propensity answers.

    Parameters
    ----------
    right : sequence of bool
    propensity : sequence of float
        With which probability each was drawn, in (0, 1].
    z : float
        The normal quantile of the interval; by default of 95 %.

    Returns
    -------
    (estimate, low, high) or None
        The Hajek estimate with the Wilson interval at Kish's effective sample size; None without records. It
        is shown to people; the guard's decisions rest on its own test, not on this.

    References
    ----------
    Wilson, JASA 1927; Kish, "Survey Sampling", 1965.

    Examples
    --------
    >>> [round(x, 3) for x in weighted_share([True] * 98 + [False] * 2, [0.1] * 100)]
    [0.98, 0.93, 0.994]
    """
    weights = [1.0 / p for p in propensity]
    total = sum(weights)
    if not total:
        return None
    p = sum(weight for weight, good in zip(weights, right, strict=True) if good) / total
    n = total * total / sum(weight * weight for weight in weights)
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return p, max(0.0, centre - half), min(1.0, centre + half)
