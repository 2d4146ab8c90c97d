"""The walk up the ladder, as pure rules.

The same rules decide one request in the server and whole arrays of held-out requests in training, so a
certificate speaks about exactly what is served.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.policy.slices import SliceRules


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
    in_scope_at_least : float
        The out-of-scope detector's P(in scope) below which its answer does not settle; 0 for no detector.
    """

    name: str
    threshold: float
    skip_below: float = 0.0
    in_scope_at_least: float = 0.0


@dataclass(frozen=True)
class LadderPolicy:
    """The rules of one node's ladder.

    Attributes
    ----------
    rungs : tuple of LocalRung
        The local rungs, cheapest first. The teacher stands above them and is not listed.
    certified : bool
        Whether a valid certificate covers the thresholds. Without one nothing settles locally.
    too_dear : str
        Why everything is left to the teacher although it need not be: the ladder costs more than it saves.
        Empty where it pays.
    slices : SliceRules
        Parts of the traffic that the certificate does not cover.
    agreement : bool
        Whether an answer settles only where all cheaper rungs that ran gave it too.
    """

    rungs: tuple[LocalRung, ...]
    certified: bool
    too_dear: str = ""
    slices: SliceRules = field(default_factory=SliceRules)
    agreement: bool = False

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

    @cached_property
    def _floors(self) -> tuple[float, ...]:
        # Rounded as in `worth_running`, so that both say the same of the same float32.
        return tuple(float(np.float32(rung.skip_below)) for rung in self.rungs)

    def start(self, p_right: Sequence[float]) -> int:
        """Say where one request starts: the cheapest rung worth running, `len(rungs)` where none is.

        Parameters
        ----------
        p_right : sequence of n_rungs float
            As in `worth_running`, which says the same of many requests.
        """
        for r, floor in enumerate(self._floors):
            if p_right[r] >= floor:
                return r
        return len(self._floors)

    def starts(self, p_right: Sequence[Sequence[float]]) -> list[int]:
        """Say where each of several requests starts.

        Parameters
        ----------
        p_right : n_rungs sequences of n float
            As in `worth_running`, a rung after the other.
        """
        if not p_right:
            return []
        first = self._floors[0]
        return [
            0 if p >= first else self.start([of_rung[i] for of_rung in p_right])
            for i, p in enumerate(p_right[0])
        ]

    def admits(self, in_scope: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
        """Say which answers the out-of-scope detector lets settle.

        Parameters
        ----------
        in_scope : array of shape (n, n_rungs)
            The detector's P(in scope).
        """
        limits = np.array([rung.in_scope_at_least for rung in self.rungs], dtype=np.float32)
        admitted: NDArray[np.bool_] = in_scope.astype(np.float32) >= limits
        return admitted

    def accepts(
        self,
        rung: int,
        confidence: float,
        label: object = None,
        context: Mapping[str, str] | None = None,
        in_scope: float = 1.0,
    ) -> str | None:
        """Say why the answer of a rung is not accepted at this confidence; None where it is.

        Parameters
        ----------
        label : object
            The answer.
        context : mapping of str to str, optional
            The request's; answer and context say which slices may ask for more than the threshold.
        in_scope : float
            The out-of-scope detector's P(in scope).

        Examples
        --------
        >>> policy = LadderPolicy((LocalRung("linear", 0.9),), certified=True)
        >>> policy.accepts(0, 0.95) is None
        True
        >>> policy.accepts(0, 0.5)
        'confidence 0.5000 is below 0.9000'
        """
        return self.accepts_each(rung, [confidence], [label], [context or {}], [in_scope])[0]

    def accepts_each(
        self,
        rung: int,
        confidences: Sequence[float],
        labels: Sequence[object],
        contexts: Sequence[Mapping[str, str]],
        in_scope: Sequence[float],
    ) -> list[str | None]:
        """Say the same of several answers of a rung."""
        if not self.certified:
            return ["uncertified"] * len(confidences)
        threshold, least = self.rungs[rung].threshold, self.rungs[rung].in_scope_at_least
        thresholds: Iterable[float] = repeat(threshold)
        if self.slices.strictness:
            asked = map(self.slices.asked, labels, contexts)
            thresholds = [1 - (1 - threshold) * each if each < 1 else threshold for each in asked]
        return [
            None
            if sure >= enough and not scope < least
            else f"out-of-scope: P(in scope) {scope:.4f} is below {least:.4f}"
            if scope < least
            else f"confidence {sure:.4f} is below {enough:.4f}"
            for sure, scope, enough in zip(confidences, in_scope, thresholds, strict=False)
        ]

    def uncovered(self, label: object, context: Mapping[str, str]) -> str:
        """Say which slice keeps an accepted answer from settling; empty where none does.

        Such a request goes straight to the teacher. Were the next rung asked, a fence on one slice would
        move records into others, and what was proven about those would no longer be what is served.
        """
        return self.slices.why_not(label, context)


def rungs_that_agree(worth: NDArray[np.bool_], answer: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Say whether each answer is that of all cheaper rungs that ran; the first has none to disagree with.

    Parameters
    ----------
    worth : bool array of shape (n, n_rungs)
        Which rungs are run.
    answer : int array of shape (n, n_rungs)
        Index of the label that each answers.
    """
    agree = np.ones_like(worth)
    for r in range(1, worth.shape[1]):
        for earlier in range(r):
            agree[:, r] &= ~worth[:, earlier] | (answer[:, r] == answer[:, earlier])
    return agree


def walk(
    worth: NDArray[np.bool_],
    confidence: NDArray[np.floating[Any]],
    thresholds: NDArray[np.floating[Any]],
    allowed: NDArray[np.bool_] | None = None,
) -> NDArray[np.int64]:
    """Give the rung that settles each request; n_rungs stands for the teacher.

    Parameters
    ----------
    worth : bool array of shape (n, n_rungs)
        Which rungs are run.
    confidence : array of shape (n, n_rungs)
        The acceptor's probability for each rung's answer; -inf where the answer breaks the contract.
    thresholds : array of shape (n_rungs,) or (n, n_rungs)
        The threshold of each rung, or of each answer.
    allowed : bool array of shape (n, n_rungs), optional
        Whether each rung's answer lies in slices that are settled: see `LadderPolicy.uncovered`.

    Returns
    -------
    int array of shape (n,)
        Index of the settling rung.
    """
    settles = worth & (confidence >= thresholds)
    first: NDArray[np.int64] = np.where(settles.any(axis=1), settles.argmax(axis=1), settles.shape[1])
    if allowed is not None:
        some = np.flatnonzero(first < settles.shape[1])
        first[some[~allowed[some, first[some]]]] = settles.shape[1]
    return first
