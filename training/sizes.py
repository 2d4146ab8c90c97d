"""How large a ladder a node needs: each shorter ladder with what it settles, weighs, takes and costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.certificate import learn_then_test
from training.evaluate import Scored
from training.thresholds import to_levels

ENCODER_FILES = ("head.onnx", "neighbours", "kernel")
"""Beginnings of the bundle's files that only an encoder rung reads."""


@dataclass(frozen=True)
class LadderSize:
    """One ladder that a node could have.

    Attributes
    ----------
    rungs : tuple of str
        Its local rungs.
    clears : bool
        Whether its certificate is valid on the held-out records.
    settled : float
        Share that it settles.
    agreement : float, optional
        Of what it settles, on the held-out records; None where that is nothing.
    bytes : int
        Its models on disk, the shared encoder included; in memory they take about as much.
    local_ms : float
        Mean time of its rungs for one request.
    usd_per_1000 : float, optional
        What 1,000 requests pay the teacher; None where its price is not known.
    """

    rungs: tuple[str, ...]
    clears: bool
    settled: float
    agreement: float | None
    bytes: int
    local_ms: float
    usd_per_1000: float | None

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON."""
        return asdict(self)


def ladder_sizes(
    scored: Scored,
    strictness: Sequence[float],
    bar: float,
    delta: float,
    rung_ms: Sequence[float],
    rung_bytes: Sequence[int],
    common_bytes: int,
    counted: NDArray[np.int64] | None = None,
) -> list[LadderSize]:
    """Measure the ladders that end after each rung, the smallest first.

    Each is certified for itself, with its share of delta, so that the choice among them keeps the promise;
    and as it would serve: what the certified slices, the out-of-scope detector or a validator keep back does
    not count as settled.

    Parameters
    ----------
    scored : Scored
        What the full ladder says about the held-out records.
    strictness : sequence of n_rungs floats
    bar, delta : float
    rung_ms : sequence of n_rungs floats
        Time of each rung for one request, in milliseconds.
    rung_bytes : sequence of n_rungs ints
        What each rung needs for itself.
    common_bytes : int
        What any ladder needs: features, difficulty model, acceptor.
    counted : int array, optional
        The records that the certificate counts, one a group of near copies and sessions; by default all.
    """
    n_rungs = len(scored.rungs)
    may = scored.worth if scored.admitted is None else scored.worth & scored.admitted
    levels = to_levels(np.where(may, scored.confidence, -np.inf), strictness)
    if scored.strictness is not None:
        levels = 1 - (1 - levels) / scored.strictness
    sizes = []
    for k in range(1, n_rungs + 1):
        once = np.arange(len(levels)) if counted is None else counted
        allowed = None if scored.allowed is None else scored.allowed[once, :k]
        certificate = learn_then_test(
            levels[once, :k], scored.right[once, :k], bar, delta / n_rungs, allowed=allowed
        )
        threshold = certificate.threshold if certificate.valid else np.inf
        done = np.logical_or.accumulate(levels[:, :k] >= threshold, axis=1)
        open_before = np.concatenate([np.ones((len(levels), 1), bool), ~done[:, :-1]], axis=1)
        runs = (open_before & scored.worth[:, :k]).mean(axis=0)
        settled = certificate.n_settled / max(certificate.n_held_out, 1) if certificate.valid else 0.0
        wrong = certificate.n_wrong / certificate.n_settled if certificate.valid and settled else None
        known = np.isfinite(scored.teacher_usd)
        sizes.append(
            LadderSize(
                scored.rungs[:k],
                bool(certificate.valid),
                settled,
                None if wrong is None else 1 - wrong,
                common_bytes + sum(rung_bytes[:k]),
                float((runs * np.asarray(rung_ms[:k])).sum()),
                float(1000 * (1 - settled) * scored.teacher_usd) if known else None,
            )
        )
    return sizes


def smallest(sizes: Sequence[LadderSize]) -> LadderSize | None:
    """Give the smallest ladder that clears the bar; None where none does."""
    return next((size for size in sizes if size.clears), None)


def bundle_bytes(folder: Path, kinds: Sequence[str], encoders: Mapping[int, Path]) -> tuple[list[int], int]:
    """Give what each rung of a bundle weighs, and what they share.

    Parameters
    ----------
    folder : Path
        The bundle.
    kinds : sequence of str
        Each local rung's kind.
    encoders : mapping of int to Path
        The folder of the encoder of each rung of that kind.

    Returns
    -------
    list of int, int
    """
    files = [path for path in folder.iterdir() if path.suffix in {".onnx", ".npy"}]
    of_encoder = sum(path.stat().st_size for path in files if path.name.startswith(ENCODER_FILES))
    linear = sum(path.stat().st_size for path in files if path.name.startswith("linear"))
    common = sum(path.stat().st_size for path in files) - of_encoder - linear
    each = []
    for r, kind in enumerate(kinds):
        if kind == "encoder":
            model = sum(path.stat().st_size for path in encoders[r].iterdir() if path.is_file())
            each.append(of_encoder + model)
        else:
            each.append(linear if kind == "linear" else 0)
    return each, common
