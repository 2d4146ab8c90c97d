"""The `encoder` rung: a sentence encoder with a trained head, fused with the linear model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cascade.onnx_session import open_session
from cascade.rungs.combining import Combining
from cascade.rungs.protocol import Answer, Answers, Batch, Scores, best_labels
from cascade.scope import HEAD_NAMES

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
"""Texts in, unit vectors out, shape (n, dim)."""


class EncoderHead:
    """Embedding and linear probabilities in, fused probabilities out.

    The fused answer weighs up to four opinions in log space: softmax regression and a kernel machine on the
    embedding, the linear model, and the labels of the nearest training records.

    Parameters
    ----------
    path : Path
        The ONNX file that `training.head.export` wrote.
    """

    def __init__(self, path: Path) -> None:
        self._session = open_session(path)
        self._has_scope = len(self._session.get_outputs()) > 3

    def __call__(
        self, embedding: NDArray[np.float32], linear: Scores
    ) -> tuple[Scores, Scores, Scores, Scores | None]:
        """Give fused probabilities, the neighbours' shares, the nearest cosine, and what tells scope.

        Rows go through the model one at a time: matrix products of different heights may round
        differently, and a text's answer must not depend on its batch.

        Returns
        -------
        float32 arrays of shape (n, n_labels), (n, n_labels), (n,) and (n, len(cascade.scope.HEAD_NAMES))
            The last is None in a bundle from before there was a detector.
        """
        scores, neighbours = np.empty_like(linear), np.empty_like(linear)
        nearest = np.empty(len(linear), dtype=np.float32)
        scope = np.empty((len(linear), len(HEAD_NAMES)), dtype=np.float32) if self._has_scope else None
        for i in range(len(linear)):
            feed = {"embedding": embedding[i : i + 1], "linear": linear[i : i + 1]}
            scores[i], neighbours[i], nearest[i], *rest = (out[0] for out in self._session.run(None, feed))
            if scope is not None:
                scope[i] = rest[0]
        return scores, neighbours, nearest, scope


class EncoderRung:
    """Answers with the most probable label of the fused head."""

    def __init__(self, name: str, embed: Embed, head: EncoderHead, labels: Sequence[str]) -> None:
        self.name = name
        self._embed = embed
        self._head = head
        self._answers = tuple(map(Answer, labels))

    def answer(self, batch: Batch) -> Answers:
        """Answer a batch, of which the linear model's probabilities are known."""
        queries, linear, places = batch.queries, batch.linear, None
        assert linear is not None
        texts = [query.text for query in queries]
        if isinstance(self._embed, Combining):
            kept, embedding = self._embed.of_awaited(texts, lambda place: queries[place].awaited())
            if len(kept) < len(texts):
                places, linear = kept, linear[kept]
        else:
            embedding = self._embed(texts)
        scores, neighbours, nearest, scope = self._head(embedding, linear)
        answers = best_labels(scores, self._answers)
        return Answers(answers, scores, neighbours, nearest, linear, scope, places=places)
