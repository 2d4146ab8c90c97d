"""The walk up the ladder, as pure rules.

The same rules decide one request in the server and whole arrays of held-out requests in training, so a
certificate speaks about exactly what is served.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class LocalRung:
    """How one local rung takes part in the walk.

    Attributes
    ----------
    name : str
        The rung's name.
    threshold : float
        The acceptor's probability from which on its answer settles; above 1, it never does.
    skip_below : float
        The difficulty model's probability below which the rung is not worth running.
    """

    name: str
    threshold: float
    skip_below: float = 0.0


@dataclass(frozen=True, slots=True)
class LadderPolicy:
    """The rules of one node's ladder.

    Attributes
    ----------
    rungs : tuple of LocalRung
        The local rungs, cheapest first. The teacher stands above them and is not listed.
    certified : bool
        Whether a valid certificate covers the thresholds. Without one nothing settles locally.
    """

    rungs: tuple[LocalRung, ...]
    certified: bool

    def worth_running(self, p_right: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
        """Say which rungs are worth running for each request.

        Parameters
        ----------
        p_right : array of shape (n, n_rungs)
            The difficulty model's P(rung is right | request).

        Returns
        -------
        bool array of shape (n, n_rungs)
            From the cheapest rung worth trying on, all are run: a rung is only skipped from below.
        """
        floors = np.array([rung.skip_below for rung in self.rungs], dtype=p_right.dtype)
        worth: NDArray[np.bool_] = np.logical_or.accumulate(p_right >= floors, axis=1)
        return worth

    def accepts(self, rung: int, confidence: float) -> str | None:
        """Say why the answer of a rung is not accepted at this confidence; None where it is.

        Examples
        --------
        >>> policy = LadderPolicy((LocalRung("linear", 0.9),), certified=True)
        >>> policy.accepts(0, 0.95) is None
        True
        >>> policy.accepts(0, 0.5)
        'confidence 0.5000 is below 0.9000'
        """
        if not self.certified:
            return "uncertified"
        threshold = self.rungs[rung].threshold
        if confidence >= threshold:
            return None
        return f"confidence {confidence:.4f} is below {threshold:.4f}"


def walk(
    worth: NDArray[np.bool_], confidence: NDArray[np.floating[Any]], thresholds: NDArray[np.floating[Any]]
) -> NDArray[np.int64]:
    """Give the rung that settles each request; n_rungs stands for the teacher.

    Parameters
    ----------
    worth : bool array of shape (n, n_rungs)
        Which rungs are run.
    confidence : array of shape (n, n_rungs)
        The acceptor's probability for each rung's answer; -inf where the answer breaks the contract.
    thresholds : array of shape (n_rungs,)
        The threshold of each rung.

    Returns
    -------
    int array of shape (n,)
        Index of the settling rung.
    """
    settles = worth & (confidence >= thresholds)
    first: NDArray[np.int64] = np.where(settles.any(axis=1), settles.argmax(axis=1), settles.shape[1])
    return first
