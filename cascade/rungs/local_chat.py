"""A `chat` rung below the teacher: a small language model that answers a label node without being trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cascade.contract import Contract
from cascade.rungs.protocol import Answers, Batch
from cascade.waiting import waiting

if TYPE_CHECKING:  # the OpenAI client takes long to import, and most ladders have no such rung
    from cascade.rungs.chat import ChatRung

OpenChat = Callable[[str, Contract], "ChatRung"]
"""Gives the chat model that a rung's name is configured with, answering a contract."""


class LocalChatRung:
    """Asks a chat model for one of the labels.

    A chat model gives no probabilities: its scores are 1 for the label that it named, and 0 in the whole row
    where it failed or named none. What the acceptor goes by is how often answers like this one were right.

    Parameters
    ----------
    name : str
    chat : ChatRung
    labels : sequence of str
    """

    def __init__(self, name: str, chat: ChatRung, labels: Sequence[str]) -> None:
        self.name = name
        self._chat = chat
        self._index = {label: i for i, label in enumerate(labels)}

    def answer(self, batch: Batch) -> Answers:
        """Answer a batch. All its queries are under way at once."""
        with waiting():
            answers = self._chat.answer(batch)
        scores = np.zeros((len(batch), len(self._index)), dtype=np.float32)
        for row, answer in zip(scores, answers.each, strict=True):
            at = self._index.get(answer.value) if isinstance(answer.value, str) else None
            if answer.error is None and at is not None:
                row[at] = 1
        return Answers(answers.each, scores, linear=batch.linear)
