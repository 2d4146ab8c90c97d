"""Asks a node's own validators about answers whose truth is known, as serving would."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascade.ask import Ask
from cascade.validators import Validator, name_of
from training.curate import CuratedRecord

Progress = Callable[[str], None]
SLOW = 60.0
"""Expected seconds from which on it is said how long they will take."""


@dataclass(frozen=True, eq=False)
class Refusals:
    """What a node's own validators refuse.

    Attributes
    ----------
    names : tuple of str
    stops : bool array of shape (n, n_rungs, n_validators)
    micros : tuple of float
        Mean microseconds of one call of each; 0 where none was made.
    """

    names: tuple[str, ...]
    stops: NDArray[np.bool_]
    micros: tuple[float, ...]

    @property
    def any(self) -> NDArray[np.bool_]:
        """Whether any of them refuses, shape (n, n_rungs)."""
        return np.asarray(self.stops.any(axis=2), dtype=bool)

    def by_certificate(self, certified: Sequence[bool]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Say which answers give way to the next rung, and which send their request straight to the teacher.

        As in serving, the first validator that refuses decides: one that the bundle was certified with lets
        the next rung try, one that came later does not.

        Parameters
        ----------
        certified : sequence of bool
            Of each validator.

        Returns
        -------
        next_rung, to_teacher : bool arrays of shape (n, n_rungs)
        """
        if not certified:
            return self.any, self.any
        known = np.asarray(certified, dtype=bool)[self.stops.argmax(axis=2)]
        return self.any & known, self.any & ~known


def ask_about(
    node: str,
    validators: Sequence[Validator],
    records: Sequence[CuratedRecord],
    answers: NDArray[np.int64],
    labels: Sequence[str],
    progress: Progress = lambda _: None,
) -> Refusals:
    """Ask a node's own validators about answers to curated records: see `refusals`."""
    if validators:
        progress("asking the node's own validators")
    asks = [Ask(node, record.text, record.messages or (), record.context) for record in records]
    return refusals(validators, asks, answers, labels, progress)


def refusals(
    validators: Sequence[Validator],
    asks: Sequence[Ask | None],
    answers: NDArray[np.int64],
    labels: Sequence[str],
    progress: Progress = lambda _: None,
) -> Refusals:
    """Ask every validator about every answer.

    One that raises refuses, as in serving. The same answer of two rungs to one question is asked about once.

    Parameters
    ----------
    validators : sequence of callable
    asks : sequence of n Ask, or None where the question is not known any more: nothing is refused there
    answers : int array of shape (n, n_rungs)
        Indices of labels; below 0 for no answer, which no validator sees.
    labels : sequence of str
    progress : callable
        Told where it will take long.
    """
    stops = np.zeros((*answers.shape, len(validators)), dtype=bool)
    spent, calls = np.zeros(len(validators)), np.zeros(len(validators), dtype=np.int64)
    warned = False
    for i, ask in enumerate(asks):
        if ask is None:
            continue
        for answer in np.unique(answers[i][answers[i] >= 0]):
            rungs = answers[i] == answer
            for v, validator in enumerate(validators):
                began = time.perf_counter()
                try:
                    verdict = validator(ask, labels[answer])
                except Exception:
                    verdict = False
                spent[v] += time.perf_counter() - began
                calls[v] += 1
                stops[i, rungs, v] = verdict is not None and verdict is not True
        expected = spent.sum() / (i + 1) * len(asks)
        if not warned and i >= 20 and expected > SLOW:
            progress(f"asking the node's own validators, which takes about {expected / 60:.0f} min")
            warned = True
    micros = 1e6 * spent / np.maximum(calls, 1)
    return Refusals(tuple(name_of(v) for v in validators), stops, tuple(micros.tolist()))
