"""The `linear` rung: an n-gram softmax classifier, tens of microseconds a text."""

from __future__ import annotations

from collections.abc import Sequence

from cascade.rungs.protocol import Answer, Answers, Batch, best_labels


class LinearRung:
    """Answers with the label that the linear model finds most probable."""

    def __init__(self, name: str, labels: Sequence[str]) -> None:
        self.name = name
        self._answers = tuple(map(Answer, labels))

    def answer(self, batch: Batch) -> Answers:
        """Answer a batch, of which the linear model's probabilities are known."""
        assert batch.linear is not None
        return Answers(best_labels(batch.linear, self._answers), batch.linear, linear=batch.linear)
