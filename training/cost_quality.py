"""The cost-quality curve of a ladder of models, next to always-each, best fixed, random mix and oracle.

For a price of quality v (dollars that a right answer is worth), the router sends each prompt to the rung with
the largest v * P(right) - cost; sweeping v from nothing to everything gives the curve. Nothing is fitted to
the curve itself: estimates are cross-fitted and the prices stand beforehand, so where nothing can be learned
the curve lies on the random mix and not above it.

References
----------
Hu et al., "RouterBench", 2024 (arXiv 2403.12031): the zero router (here: random mix) and the area.
Dekoninck et al., "A Unified Approach to Routing and Cascading for LLMs", ICML 2025 (arXiv 2410.10347): the
linear trade-off is the optimal routing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.outcome_table import OutcomeTable

Floats = NDArray[np.float64]
Interval = tuple[float, float]

N_PRICES = 80
N_BOOTSTRAP = 400
TARGETS = (0.95, 0.98, 0.99, 1.0)
"""Shares of the best fixed rung's quality at which the cheapest plan is named."""


@dataclass(frozen=True)
class Point:
    """One plan: what it costs and how good it is, on average.

    Attributes
    ----------
    name : str
    cost : float
        Dollars a prompt.
    quality : float
        Mean score, in [0, 1].
    cost_interval, quality_interval : (low, high)
        95 %, by bootstrap over prompts.
    """

    name: str
    cost: float
    quality: float
    cost_interval: Interval
    quality_interval: Interval


@dataclass(frozen=True)
class Plan:
    """The cheapest point of the router's curve that keeps a share of the best fixed rung's quality.

    Attributes
    ----------
    target : float
        The share.
    point : Point, optional
        None where no point of the curve reaches it.
    saving, saving_interval : float, (low, high)
        Share of the best fixed rung's cost that is saved.
    shares : dict of str to float
        Share of the prompts that each rung answers.
    price : float
        Dollars that a right answer is taken to be worth.
    """

    target: float
    point: Point | None
    saving: float
    saving_interval: Interval
    shares: dict[str, float]
    price: float


@dataclass(frozen=True, eq=False)
class Simulation:
    """What an outcome table says about a ladder.

    Attributes
    ----------
    n : int
    rungs : tuple of str
    always : list of Point
        One a rung, the cheapest first.
    best_fixed : str
    curve, oracle : float arrays of shape (n_points, 2)
        Cost and quality of the router and of an oracle that knows each outcome, ascending in cost.
    mix : float array of shape (n_points, 2)
        Corners of the random mix: the best that a router which looks at no prompt can do.
    areas : dict of str to (value, (low, high))
        Mean quality over the costs from the cheapest to the dearest rung: `router`, `random mix`, `oracle`,
        and `gain`, router less random mix.
    plans : list of Plan
    """

    n: int
    rungs: tuple[str, ...]
    always: list[Point]
    best_fixed: str
    curve: Floats
    mix: Floats
    oracle: Floats
    areas: dict[str, tuple[float, Interval]]
    plans: list[Plan]

    @property
    def learnable(self) -> bool:
        """Whether routing by difficulty beats the random mix beyond what luck explains."""
        return self.areas["gain"][1][0] > 0

    def to_json(self) -> dict[str, Any]:
        """Give everything as JSON values."""
        data = {**asdict(self), "learnable": self.learnable}
        for name in ("curve", "mix", "oracle"):
            data[name] = getattr(self, name).tolist()
        data["areas"] = {
            name: {"value": value, "interval": list(interval)}
            for name, (value, interval) in self.areas.items()
        }
        return data


def simulate(
    table: OutcomeTable, p_right: Floats, seed: int = 0, n_bootstrap: int = N_BOOTSTRAP
) -> Simulation:
    """Measure the router that follows `p_right`, and its alternatives.

    Parameters
    ----------
    table : OutcomeTable
    p_right : float array of shape (n, n_rungs)
        Cross-fitted estimates.
    seed : int
        Of the bootstrap.
    n_bootstrap : int
        Resamples of the prompts.
    """
    n, n_rungs = table.right.shape
    rng = np.random.default_rng(seed)
    weights = np.vstack([np.ones(n), rng.multinomial(n, np.full(n, 1 / n), size=n_bootstrap)]) / n
    expected = np.broadcast_to(table.cost.mean(axis=0), table.cost.shape)  # the cost is not known beforehand
    prices = _prices(expected[0])
    chosen = _choices(p_right, expected, prices)
    known = _choices(table.right, table.cost, prices)
    each = _means(weights, np.tile(np.arange(n_rungs), (n, 1)), table)
    router, oracle = _means(weights, chosen, table), _means(weights, known, table)
    areas: dict[str, list[float]] = {name: [] for name in ("router", "random mix", "oracle", "gain")}
    for fixed, here, best in zip(each, router, oracle, strict=True):
        low, high = float(fixed[:, 0].min()), float(fixed[:, 0].max())
        mix = hull(fixed)
        areas["router"].append(area(here, low, high))
        areas["random mix"].append(area(mix, low, high))
        areas["oracle"].append(area(best, low, high))
        areas["gain"].append(areas["router"][-1] - areas["random mix"][-1])
    always = [_point(f"always {name}", each[:, r]) for r, name in enumerate(table.rungs)]
    best_at = int(each[0, :, 1].argmax())
    return Simulation(
        n=n, rungs=table.rungs, always=always, best_fixed=table.rungs[best_at],
        curve=_ascending(router[0]), mix=hull(each[0]), oracle=_ascending(oracle[0]),
        areas={name: (values[0], _interval(values[1:])) for name, values in areas.items()},
        plans=[_plan(t, router, each[:, best_at], chosen, table.rungs, prices) for t in TARGETS],
    )  # fmt: skip


def _prices(cost: Floats) -> Floats:
    """Give the prices of a right answer that are tried: from where only cost counts to only quality."""
    gaps = np.abs(cost[:, None] - cost[None, :])
    unit = float(gaps[gaps > 0].min(initial=np.inf))
    span = float(gaps.max())
    if not np.isfinite(unit):
        return np.array([0.0, 1.0])
    return np.concatenate([[0.0], np.geomspace(unit, 1e4 * span, N_PRICES)])


def _choices(score: Floats, cost: Floats, prices: Floats) -> NDArray[np.int64]:
    """Give each prompt's rung at each price, shape (n, n_prices); of equals the cheapest."""
    return np.stack([(v * score - cost).argmax(axis=1) for v in prices], axis=1)


def _means(weights: Floats, chosen: NDArray[np.int64], table: OutcomeTable) -> Floats:
    """Give mean cost and quality of each choice in each resample, shape (n_resamples, n_choices, 2)."""
    rows = np.arange(len(chosen))[:, None]
    return np.stack([weights @ table.cost[rows, chosen], weights @ table.right[rows, chosen]], axis=2)


def hull(points: Floats) -> Floats:
    """Give the corners of the best mixes of points (cost, quality): the rising upper part of their hull.

    Examples
    --------
    >>> hull(np.array([[1.0, 0.5], [2.0, 0.4], [3.0, 0.9]])).tolist()
    [[1.0, 0.5], [3.0, 0.9]]
    """
    corners: list[tuple[float, float]] = []
    for x, y in sorted(map(tuple, points.tolist()), key=lambda p: (p[0], -p[1])):
        if corners and y <= corners[-1][1]:
            continue  # dearer and no better
        while len(corners) >= 2:
            (ax, ay), (bx, by) = corners[-2:]
            if (by - ay) * (x - ax) > (y - ay) * (bx - ax):
                break
            corners.pop()
        corners.append((x, y))
    return np.array(corners)


def area(points: Floats, low: float, high: float) -> float:
    """Give the mean quality over costs from `low` to `high`, linear between points and flat outside."""
    curve = _ascending(points)
    if high <= low:
        return float(curve[:, 1].max())
    x = np.unique(np.concatenate([curve[:, 0], [low, high]]).clip(low, high))
    return float(np.trapezoid(np.interp(x, curve[:, 0], curve[:, 1]), x) / (high - low))


def quality_at(points: Floats, cost: float) -> float:
    """Give a curve's quality at a cost."""
    curve = _ascending(points)
    return float(np.interp(cost, curve[:, 0], curve[:, 1]))


def _ascending(points: Floats) -> Floats:
    ordered: Floats = np.unique(points, axis=0)
    return ordered


def _interval(values: Sequence[float] | Floats) -> Interval:
    low, high = np.percentile(np.asarray(values, dtype=float), [2.5, 97.5])
    return float(low), float(high)


def _point(name: str, resamples: Floats) -> Point:
    cost, quality = resamples[0]
    return Point(name, float(cost), float(quality), _interval(resamples[1:, 0]), _interval(resamples[1:, 1]))


def _plan(
    target: float,
    router: Floats,
    fixed: Floats,
    chosen: NDArray[np.int64],
    rungs: Sequence[str],
    prices: Floats,
) -> Plan:
    reached = np.flatnonzero(router[0, :, 1] >= target * fixed[0, 1])
    if not len(reached):
        return Plan(target, None, 0.0, (0.0, 0.0), {}, 0.0)
    at = int(reached[router[0, reached, 0].argmin()])
    saving = 1 - router[:, at, 0] / np.maximum(fixed[:, 0], 1e-300)
    shares = {name: float((chosen[:, at] == r).mean()) for r, name in enumerate(rungs)}
    return Plan(
        target, _point(f"router at {target:.0%}", router[:, at]), float(saving[0]), _interval(saving[1:]),
        shares, float(prices[at]),
    )  # fmt: skip
