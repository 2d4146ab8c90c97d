"""What every rung does: it takes a batch of queries and returns a JSON value with scores for each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from cascade.contract import JsonValue

if TYPE_CHECKING:
    from cascade.server.gone import Gone

Scores = NDArray[np.float32]


@dataclass(slots=True)
class Query:
    """One request as a rung sees it.

    Attributes
    ----------
    text : str
        The input as one text; a chat is joined by `cascade.text.flatten_messages`.
    messages : tuple of (role, content)
        The chat, where the input is one; empty otherwise.
    choices : tuple of str
        The labels that are allowed now; empty for all.
    deadline : float, optional
        `time.monotonic()` at which nobody waits any more.
    trace : str
        The W3C `traceparent` that a chat rung sends along; empty for none.
    gone : Gone, optional
        Tells when whoever asked goes away.
    """

    text: str
    messages: tuple[tuple[str, str], ...] = ()
    choices: tuple[str, ...] = ()
    deadline: float | None = None
    trace: str = ""
    gone: Gone | None = None

    def awaited(self) -> bool:
        """Say whether anybody still waits for the answer."""
        if self.gone is not None and self.gone.fired:
            return False
        return self.deadline is None or self.deadline > time.monotonic()


@dataclass(slots=True)
class Batch:
    """Queries that are answered together, with what was already computed for them.

    Attributes
    ----------
    queries : sequence of Query
    linear : array of shape (n, n_labels), optional
        The linear model's probabilities. A ladder's own rungs need them; the teacher does not.
    """

    queries: Sequence[Query]
    linear: Scores | None = None

    def __len__(self) -> int:
        return len(self.queries)

    def take(self, keep: Sequence[int]) -> Batch:
        """Give some of the queries, in the order asked."""
        if len(keep) == len(self.queries):
            return self
        return Batch(
            [self.queries[i] for i in keep],
            None if self.linear is None else self.linear[list(keep)],
        )


@dataclass(slots=True)
class Answer:
    """One rung's answer to one query.

    Attributes
    ----------
    value : JSON value
        The answer; meaningless where `error` is set.
    usd : float
        What the answer cost, retries included.
    input_tokens, output_tokens : int
        What a chat rung read and wrote.
    error : Exception, optional
        Why there is no answer. A `cascade.errors.RungError` where the rung knew.
    """

    value: JsonValue = None
    usd: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0
    error: Exception | None = None


@dataclass(slots=True)
class Answers:
    """A rung's answers to a batch.

    Attributes
    ----------
    each : list of Answer
        One a query, in order.
    scores : array of shape (n, n_labels), optional
        The rung's probability for each label, in the contract's order. None where the rung has none.
    neighbours : array of shape (n, n_labels), optional
        Each label's share among the nearest training records, from an encoder.
    nearest : array of shape (n,), optional
        Cosine similarity to the nearest training record, from an encoder.
    linear : array of shape (n, n_labels), optional
        The linear model's probabilities, which a later rung need not compute again.
    scope : array of shape (n, len(cascade.scope.HEAD_NAMES)), optional
        How near the text is to the training records, from an encoder.
    in_scope : array of shape (n,), optional
        The out-of-scope detector's P(some label applies); set by the ladder, where it has one.
    places : list of int, optional
        Of the queries that these answers are to, where nobody waited for the others any more; else all.
    """

    each: list[Answer] = field(default_factory=list)
    scores: Scores | None = None
    neighbours: Scores | None = None
    nearest: Scores | None = None
    linear: Scores | None = None
    scope: Scores | None = None
    in_scope: Scores | None = None
    places: list[int] | None = None


class NobodyWaits(Exception):
    """Nobody waits for the answer to any of the queries: none was asked."""


@runtime_checkable
class Rung(Protocol):
    """One model of a ladder."""

    name: str
    """The rung's name in the configuration."""

    def answer(self, batch: Batch) -> Answers:
        """Answer a batch.

        One answer a query, in order. What fails for one query is that answer's `error`; what fails for
        all may be raised. The answer to a query does not depend on what else is in the batch. A rung
        whose queries have to wait leaves those out that are not awaited by then, see `Answers.places`, and
        raises NobodyWaits where none is.
        """
        ...


def best_labels(scores: Scores, answers: Sequence[Answer]) -> list[Answer]:
    """Give each query's most probable label; `answers` has one for each label, which nobody changes.

    A request's `choices` do not change a local rung's answer: what was certified is the answer among all
    labels. Where it is not one of the choices, the contract sends the request up the ladder.
    """
    return [answers[i] for i in scores.argmax(axis=1).tolist()]
