"""Questions as local rungs read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

from cascade.ask import Ask
from cascade.redaction import Redactor
from cascade.rungs.protocol import Query


class Queries(Sequence[Query]):
    """One query a question, made when it is looked at: the linear rung, which reads texts, looks at none.

    Parameters
    ----------
    asks : sequence of Ask
    redactor : Redactor, optional
        What it leaves of the questions is read.

    Attributes
    ----------
    texts : list of str
        The queries' texts.
    """

    def __init__(self, asks: Sequence[Ask], redactor: Redactor | None) -> None:
        self._asks = asks
        self.texts, self._chats = [ask.text for ask in asks], [ask.messages for ask in asks]
        if redactor is not None:
            self.texts, self._chats = redactor.questions(self.texts, self._chats)

    def __len__(self) -> int:
        return len(self._asks)

    @overload
    def __getitem__(self, i: int) -> Query: ...
    @overload
    def __getitem__(self, i: slice) -> list[Query]: ...
    def __getitem__(self, i: int | slice) -> Query | list[Query]:
        if isinstance(i, slice):
            return [self[k] for k in range(len(self))[i]]
        ask = self._asks[i]
        return Query(self.texts[i], self._chats[i], ask.choices, ask.deadline, "", ask.gone)
