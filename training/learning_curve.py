"""Forecasts what the next records would bring: the settled share against the number of records.

The node's best trained opinion is fitted on nested subsets of the training records, whose embeddings are
there already, and asked about records outside all of them. An inverse power law is fitted to what each
could settle at the bar in hindsight, and carried on: what more records teach the models. What a proof keeps
back beside that shrinks as more records are held out: it is measured by certifying the largest subset's
answers on as many records as are held out now, and then. (Certified shares of small subsets are no curve to
carry on: most are refused, so it rises steeply and promised 5 points too much on BANKING77.)

References
----------
Hestness et al., "Deep learning scaling is predictable, empirically", 2017 (arXiv 1712.00409).
Figueroa, Zeng-Treitler, Kandula, Ngo, "Predicting sample size required for classification performance",
BMC Medical Informatics and Decision Making 2012.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from training.certificate import learn_then_test
from training.fit import FittedLadder
from training.fusion import Fusion, log_opinions
from training.linear import fit_softmax
from training.neighbours import Neighbours, fit_kernel
from training.opinions import EncoderFit
from training.tried import settled_at

FRACTIONS = (0.1, 0.2, 0.4, 0.7, 1.0)
"""Sizes of the subsets, as shares of the records that are not asked."""

ASKED_SHARE, MAX_ASKED = 0.25, 1500
MAX_FITTED = 6000
"""Largest subset, to keep the forecast cheap beside the retraining."""

N_DRAWS = 60
LEVEL = 0.9
"""Level of the intervals."""

EXPONENTS: NDArray[np.float64] = np.geomspace(0.2, 1.6, 16)
NEXT = 1000


@dataclass(frozen=True)
class Point:
    """One subset.

    Attributes
    ----------
    records : int
        Records that a node of this size has, held-out ones included.
    settled, low, high : float
        The share that could settle at the bar in hindsight, and its interval at `LEVEL` by bootstrap.
    """

    records: int
    settled: float
    low: float
    high: float


@dataclass(frozen=True)
class Forecast:
    """What the next records would bring.

    Attributes
    ----------
    records, next_records : int
        Records now, and how many more are asked about.
    settled_now : float
        What this retraining certified; 0 where it was refused.
    settled_next, low, high : float
        What a retraining with the next records would certify, and its interval at `LEVEL`.
    points : tuple of Point
        The measured curve.
    floor, slope, exponent : float
        The law: what is not settled = floor + slope * records ** -exponent.
    """

    records: int
    next_records: int
    settled_now: float
    settled_next: float
    low: float
    high: float
    points: tuple[Point, ...]
    floor: float
    slope: float
    exponent: float

    def at(self, records: NDArray[np.float64]) -> NDArray[np.float64]:
        """Give the law's settled share, through the point now where there is one."""
        gap: NDArray[np.float64] = self.floor + self.slope * records**-self.exponent
        now = self.floor + self.slope * float(self.records) ** -self.exponent
        scale = (1 - self.settled_now) / max(now, 1e-9) if self.settled_now > 0 else 1.0
        return np.clip(1 - scale * gap, 0.0, 1.0)

    @property
    def sentence(self) -> str:
        """Say it in plain words."""
        return (
            f"with {self.next_records:,} more records like these, a retraining would settle about "
            f"{self.settled_next:.1%} ({self.low:.1%} to {self.high:.1%}), against {self.settled_now:.1%} now"
        )

    def to_json(self) -> dict[str, Any]:
        """Give the forecast as the manifest and `--json` hold it."""
        rounded = {k: round(v, 4) if isinstance(v, float) else v for k, v in vars(self).items()}
        points = [
            {k: round(v, 4) if isinstance(v, float) else v for k, v in vars(p).items()} for p in self.points
        ]
        return rounded | {"points": points, "level": LEVEL, "sentence": self.sentence}


def forecast(
    fitted: FittedLadder,
    settled_now: float,
    records: int,
    held_out_of: Callable[[int], int],
    bar: float,
    delta: float,
    seed: int,
    next_records: int = NEXT,
) -> Forecast | None:
    """Measure the learning curve on the training records and carry it on.

    Parameters
    ----------
    fitted : FittedLadder
        Without an encoder rung the linear one is what is measured.
    settled_now : float
        Settled share that was certified, 0 where it was refused.
    records : int
        All records, held-out ones included.
    held_out_of : callable
        How many of so many records are held out.
    next_records : int
        How many more are asked about.

    Returns
    -------
    Forecast or None
        None where there are too few records for three subsets, or nearly all of them are refused, and after
        a refusal where the proof of what comes next would be refused again more often than not.
    """
    y, embedding, encoder, linear = fitted.y, fitted.embedding, fitted.encoder, fitted.linear
    n, n_labels = len(y), fitted.opinions.scores[0].shape[1]
    rng = np.random.default_rng(seed)
    order = rng.permutation(n)
    n_asked = min(int(n * ASKED_SHARE), MAX_ASKED)
    asked, pool = order[:n_asked], order[n_asked:][:MAX_FITTED]
    share_trained = 1 - held_out_of(records) / records
    sizes = sorted({int(len(pool) * f) for f in FRACTIONS if len(pool) * f >= max(2 * n_labels, 50)})
    if len(sizes) < 3 or n_asked < 100:
        return None
    totals, drawn = [], []
    confidence, right = np.zeros(0), np.zeros(0, dtype=bool)
    for size in sizes:
        rows = np.zeros(n, dtype=bool)
        rows[pool[:size]] = True
        rows &= y >= 0
        if embedding is not None and encoder is not None:
            p = _encoder_opinion(embedding, y, n_labels, rows, asked, encoder, seed)
        else:
            model = fit_softmax(fitted.matrix[rows], y[rows], n_labels, linear.penalty)
            p = np.asarray(
                softmax(np.float32(linear.temperature) * model.logits(fitted.matrix[asked]), axis=1),
                dtype=np.float32,
            )
        total = int(size / share_trained)
        confidence, right = p.max(axis=1).astype(np.float64), p.argmax(axis=1) == y[asked]
        picked = rng.integers(0, n_asked, (N_DRAWS, n_asked))
        totals.append(total)
        drawn.append([settled_at(confidence[rows], right[rows], bar) for rows in picked])
    proofs = [
        _certified(confidence, right, held_out_of(size), bar, delta, rng)
        for size in (records, records + next_records)
    ]
    return _extrapolate(
        np.array(totals, dtype=np.float64), np.array(drawn), settled_now, records, next_records, rng, proofs
    )


def _encoder_opinion(
    embedding: NDArray[np.float32],
    y: NDArray[np.int64],
    n_labels: int,
    rows: NDArray[np.bool_],
    asked: NDArray[np.int64],
    encoder: EncoderFit,
    seed: int,
) -> NDArray[np.float32]:
    """Give the probabilities of the encoder's head without the linear model, which is dear to fit again."""
    near = Neighbours.of(embedding, y, n_labels, rows, seed)
    vectors = embedding[asked]
    logits = np.maximum(fit_softmax(embedding[rows], y[rows], n_labels, encoder.penalty).logits(vectors), -50)
    shares, _ = near.shares(vectors, encoder.fusion.sharpness)
    kernel = np.zeros_like(logits)
    if encoder.kernel is not None:
        kernel = fit_kernel(near, encoder.kernel.sharpness, encoder.ridge).scores(near, vectors)
    weights = dict(encoder.fusion.weights)
    left = sum(weights.values()) - weights["linear"]
    scale = sum(weights.values()) / left if left > 0 else 0.0
    weights = {name: w * scale for name, w in weights.items()} | {"linear": 0.0}
    if left <= 0:
        weights["embedding"] = 1.0
    opinions = log_opinions(logits, np.ones_like(logits), shares, kernel)
    return Fusion(weights, encoder.fusion.sharpness).probabilities(opinions)


def _certified(
    confidence: NDArray[np.float64],
    right: NDArray[np.bool_],
    n_held_out: int,
    bar: float,
    delta: float,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Give the share certified on each of `N_DRAWS` draws of so many held-out records."""
    out = np.empty(N_DRAWS)
    for i in range(N_DRAWS):
        rows = rng.integers(0, len(right), max(n_held_out, 1))
        found = learn_then_test(confidence[rows, None], right[rows, None], bar, delta)
        out[i] = found.n_settled / max(found.n_held_out, 1)
    return out


def _fit_law(totals: NDArray[np.float64], settled: NDArray[np.float64]) -> tuple[float, float, float]:
    """Fit settled = 1 - floor - slope * records ** -exponent by least squares; floor and slope >= 0.

    Returns
    -------
    floor, slope, exponent : float
    """
    gap = 1 - settled
    weight = totals / totals.max()  # what is nearest to what is asked counts most
    best: tuple[float, float, float, float] | None = None
    for floor in np.linspace(0.0, 0.9, 10) * gap.min():
        for exponent in EXPONENTS:
            x = totals**-exponent
            slope = max(float((weight * x * (gap - floor)).sum() / (weight * x * x).sum()), 0.0)
            loss = float((weight * (gap - floor - slope * x) ** 2).sum())
            if best is None or loss < best[0]:
                best = loss, float(floor), slope, float(exponent)
    assert best is not None
    return best[1], best[2], best[3]


def _extrapolate(
    totals: NDArray[np.float64],
    drawn: NDArray[np.float64],
    settled_now: float,
    records: int,
    next_records: int,
    rng: np.random.Generator,
    proofs: Sequence[NDArray[np.float64]] = (),
) -> Forecast | None:
    """Carry the curve on.

    Parameters
    ----------
    drawn : float array of shape (n_sizes, N_DRAWS)
        What each subset could settle.
    proofs : two float arrays of shape (N_DRAWS,), optional
        What is certified of the largest subset's answers on as many held-out records as now, and then.
    """
    tails = ((1 - LEVEL) / 2, 1 - (1 - LEVEL) / 2)
    points = tuple(
        Point(int(t), float(d.mean()), *(float(q) for q in np.quantile(d, tails)))
        for t, d in zip(totals, drawn, strict=True)
    )
    usable = np.median(drawn, axis=1) > 0  # where most draws are refused, the curve has not begun
    if usable.sum() < 2:
        return None
    totals, drawn = totals[usable], drawn[usable]
    law = _fit_law(totals, drawn.mean(axis=1))
    now, later = float(records), float(records + next_records)
    refused_later = float((proofs[1] == 0).mean()) if len(proofs) > 1 else 0.0
    if settled_now == 0 and refused_later > 0.5:  # what could settle in hindsight is luck then
        return None
    kept_now, kept_later, noise = _kept_back(drawn[-1], proofs)
    gap_now = 1 - settled_now if settled_now > 0 else min(_gap(law, now) + kept_now, 1.0)

    def carried(law: tuple[float, float, float]) -> float:
        # what the models cannot settle shrinks by the law's factor, what the proof keeps back by its own
        models = gap_now if not kept_now else min(_gap(law, now), gap_now)
        proof = (gap_now - models) * (kept_later / kept_now if kept_now else 0.0)
        return 1 - models * _gap(law, later) / max(_gap(law, now), 1e-9) - proof

    following = carried(law)
    spread = np.empty(N_DRAWS)
    for i in range(N_DRAWS):
        drawn_law = _fit_law(totals, drawn[np.arange(len(totals)), rng.integers(0, N_DRAWS, len(totals))])
        spread[i] = carried(drawn_law)
    # luck of the records held out then, and of those that were held out now
    spread += rng.choice(noise, N_DRAWS) - rng.choice(noise, N_DRAWS)
    low, high = (float(np.clip(q, 0, 1)) for q in np.quantile(spread, tails))
    if settled_now == 0 and refused_later > tails[0]:
        low = 0.0
    return Forecast(
        records, next_records, settled_now, following, min(low, following), max(high, following), points, *law
    )


def _kept_back(
    could: NDArray[np.float64], proofs: Sequence[NDArray[np.float64]]
) -> tuple[float, float, NDArray[np.float64]]:
    """Give what a proof keeps back now and then, and how much luck there is in a certified share."""
    proven = [draws[draws > 0] for draws in proofs]
    if len(proven) < 2 or min(len(draws) for draws in proven) < N_DRAWS // 4:
        return 0.0, 0.0, could - could.mean()
    now, later = (max(float(could.mean() - draws.mean()), 0.0) for draws in proven)
    return now, min(later, now), proven[0] - proven[0].mean()


def _gap(law: tuple[float, float, float], records: float) -> float:
    return float(law[0] + law[1] * records ** -law[2])
