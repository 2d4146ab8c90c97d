"""How often a node below its bar is certified by trying again: `python -m benchmarks.repeated_retraining`.

Of every answer, whatever its confidence, the same share agrees with the teacher, just below the bar: so each
certificate is false. A node begins with 1,500 records and is retrained after every 250 more, on the newest
quarter, until one try certifies it; the tries share most of their held-out records.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks.table import show
from training.certificate import learn_then_test
from training.thresholds import choose_starts

BAR, DELTA = 0.95, 0.05
FIRST, STEP, HELD_OUT = 1_500, 250, 4


def tries_until_certified(confidence: NDArray[np.float64], right: NDArray[np.bool_], most: int) -> int | None:
    """Give the number of the first try that certifies; None where none of them does.

    Parameters
    ----------
    confidence, right : arrays of shape (n, 1)
        In the order in which the records come.
    most : int
    """
    for k in range(most):
        n = FIRST + STEP * k
        held_out = slice(n - n // HELD_OUT, n)
        starts = choose_starts(n // HELD_OUT, BAR, DELTA)
        found = learn_then_test(
            confidence[held_out], right[held_out], BAR, DELTA, starts.chains, least=starts.least
        )
        if found.valid:
            return k + 1
    return None


def main(
    draws: Annotated[int, typer.Option(help="Nodes.")] = 1_000,
    agreement: Annotated[float, typer.Option(help="The true one; the bar is 95 %.")] = 0.945,
    seed: int = 0,
) -> None:
    """Count false certificates within so many tries."""
    rng = np.random.default_rng(seed)
    most = 20
    n = FIRST + STEP * most
    found = [
        tries_until_certified(1 - 10 ** rng.uniform(-3.5, -0.2, (n, 1)), rng.random((n, 1)) < agreement, most)
        for _ in range(draws)
    ]
    rows = [
        {"tries": k, "falsely certified": f"{sum(at is not None and at <= k for at in found) / draws:.1%}"}
        for k in (1, 2, 5, 10, 20)
    ]
    show(f"true agreement {agreement:.1%}, bar {BAR:.0%}, {draws:,} nodes", rows)


if __name__ == "__main__":
    typer.run(main)
