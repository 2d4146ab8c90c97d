"""The local rungs of one bundle, working together: what calibration measures is what serving runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascade.acceptor import Acceptor
from cascade.first_pass import FirstPass, FirstSeen
from cascade.rungs.combining import Combining
from cascade.rungs.linear import LinearRung
from cascade.rungs.local_chat import LocalChatRung
from cascade.rungs.protocol import Answers, Batch, Query, Rung
from cascade.scope import ScopeDetector

NO_ANSWER = -2
"""Where a rung named no label; -1 is a label that training never saw."""


@dataclass(slots=True)
class Prepared:
    """Requests with what is computed once for all rungs.

    Attributes
    ----------
    batch : Batch
        The queries, and what the linear model says of them.
    seen : FirstSeen
    """

    batch: Batch
    seen: FirstSeen

    @property
    def request(self) -> NDArray[np.float32]:
        """What the difficulty model and the acceptor see of each request, shape (n, n_request_features)."""
        return self.seen.request

    @property
    def p_right(self) -> NDArray[np.float32]:
        """The difficulty model's P(rung is right | request), shape (n, n_rungs)."""
        return self.seen.p_right

    def take(self, keep: Sequence[int]) -> Prepared:
        """Give some of the requests."""
        if len(keep) == len(self.batch):
            return self
        return Prepared(self.batch.take(keep), self.seen[list(keep)])


class LocalLadder:
    """Local rungs with their difficulty model and acceptor.

    Parameters
    ----------
    rungs : sequence of Rung
        Cheapest first.
    first : FirstPass
    acceptor : Acceptor
    scope : ScopeDetector, optional
        Without one every answer counts as in scope.
    """

    def __init__(
        self,
        rungs: Sequence[Rung],
        first: FirstPass,
        acceptor: Acceptor,
        scope: ScopeDetector | None = None,
    ) -> None:
        self.rungs = tuple(rungs)
        self.first = Combining(first)
        self.acceptor = acceptor
        self.scope = scope

    def prepare(self, queries: Sequence[Query], texts: Sequence[str] | None = None) -> Prepared:
        """Compute features, difficulty and the linear model; with those of other threads that wait for it.

        Parameters
        ----------
        queries : sequence of Query
        texts : sequence of str, optional
            Theirs, where they are at hand: then no query is looked at.
        """
        seen = self.first([query.text for query in queries] if texts is None else texts)
        return Prepared(Batch(queries, seen.linear), seen)

    def run(self, rung: int, prepared: Prepared) -> tuple[Answers, NDArray[np.float32]]:
        """Ask one rung, and the acceptor and the out-of-scope detector about its answers.

        Returns
        -------
        answers : Answers
            With `in_scope`, where there is a detector.
        confidence : float32 array of shape (n,)
            P(answer is right); 0 where there is none. Of as many as were answered, see `Answers.places`.

        Raises
        ------
        RungError
            The rung failed for the whole batch.
        NobodyWaits
            Nobody waits for an answer any more.
        """
        asked, seen = self.rungs[rung], prepared.seen
        answers = asked.answer(prepared.batch)
        assert answers.scores is not None
        if answers.places is not None:
            seen = seen[answers.places]
        if isinstance(asked, LinearRung):
            confidence = seen.confidence
        else:
            confidence = self.acceptor.confidence(seen.request, rung, seen.p_right[:, rung], answers)
        if isinstance(asked, LocalChatRung):  # its row is empty where it failed
            confidence = np.where(answers.scores.any(axis=1), confidence, np.float32(0))
        if self.scope is not None:
            answers.in_scope = self.scope.in_scope(
                rung, seen.request, answers.scores, answers.neighbours, answers.scope
            )
        return answers, confidence

    def run_all(
        self, texts: Sequence[str | Query], size: int = 256, with_chat: bool = True
    ) -> Mapping[str, NDArray[np.generic]]:
        """Ask every rung about every text, without stopping at the first that settles.

        Parameters
        ----------
        texts : sequence of str or Query
        size : int
            How many are asked at once.
        with_chat : bool
            Whether chat rungs are asked, which costs time and money. Where not, their columns are empty.

        Returns
        -------
        dict of arrays
            `p_right`, `confidence`, `p_top` and `in_scope` (1 where there is no detector) of shape
            (n, n_rungs), and `answer`, the same of int64: the index of the label answered, `NO_ANSWER` for
            none.
        """
        parts: list[dict[str, NDArray[np.generic]]] = []
        for start in range(0, len(texts), size):
            part = texts[start : start + size]
            prepared = self.prepare([Query(text) if isinstance(text, str) else text for text in part])
            columns: dict[str, list[NDArray[np.generic]]] = {
                name: [] for name in ("confidence", "p_top", "in_scope", "answer")
            }
            for r, rung in enumerate(self.rungs):
                if isinstance(rung, LocalChatRung) and not with_chat:
                    nothing = np.zeros(len(prepared.batch), dtype=np.float32)
                    columns["confidence"].append(nothing)
                    columns["p_top"].append(nothing)
                    columns["in_scope"].append(nothing + 1)
                    columns["answer"].append(np.full(len(nothing), NO_ANSWER))
                    continue
                answers, confidence = self.run(r, prepared)
                assert answers.scores is not None
                columns["confidence"].append(confidence)
                columns["p_top"].append(answers.scores.max(axis=1))
                columns["in_scope"].append(
                    np.ones_like(confidence) if answers.in_scope is None else answers.in_scope
                )
                label = answers.scores.argmax(axis=1)
                columns["answer"].append(np.where(answers.scores.any(axis=1), label, NO_ANSWER))
            stacked = {name: np.stack(column, axis=1) for name, column in columns.items()}
            parts.append(stacked | {"p_right": prepared.p_right})
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
