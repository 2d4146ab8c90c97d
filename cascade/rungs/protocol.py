"""What every rung does: it takes a batch of queries and returns a JSON value with scores for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from cascade.contract import JsonValue
from cascade.features import TextFeatures


@dataclass(slots=True)
class Query:
    """One request as a rung sees it.

    Attributes
    ----------
    text : str
        The input as one text; a chat is joined by `cascade.features.flatten_messages`.
    messages : tuple of (role, content)
        The chat, where the input is one; empty otherwise.
    choices : tuple of str
        The labels that are allowed now; empty for all.
    deadline : float, optional
        `time.monotonic()` at which nobody waits any more.
    features : TextFeatures, optional
        What the node's featurizer made of the text, computed once and shared by all rungs.
    shared : dict
        What one rung leaves for a later one: an encoder's embedding, for example.
    """

    text: str
    messages: tuple[tuple[str, str], ...] = ()
    choices: tuple[str, ...] = ()
    deadline: float | None = None
    features: TextFeatures | None = None
    shared: dict[str, NDArray[np.float32]] = field(default_factory=dict)


@dataclass(slots=True)
class Answer:
    """One rung's answer to one query.

    Attributes
    ----------
    value : JSON value
        The answer; meaningless where `error` is set.
    scores : array of shape (n_labels,), optional
        The rung's probability for each label, in the contract's order. None where the rung has none.
    usd : float
        What the answer cost, retries included.
    input_tokens, output_tokens : int
        What a chat rung read and wrote.
    error : Exception, optional
        Why there is no answer. A `cascade.errors.RungError` where the rung knew.
    """

    value: JsonValue = None
    scores: NDArray[np.float32] | None = None
    usd: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0
    error: Exception | None = None


@runtime_checkable
class Rung(Protocol):
    """One model of a ladder."""

    name: str
    """The rung's name in the configuration."""

    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        """Answer a batch.

        One answer a query, in order. What fails for one query is that answer's `error`; what fails for
        all may be raised. The answer to a query does not depend on what else is in the batch.
        """
        ...
