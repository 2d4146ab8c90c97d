"""Decisions that are written together, column by column: what all of them share is kept, and bound, once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import repeat
from typing import Any

DECISION_COLUMNS = (
    "decision_id, node, time, text, choices, context, output, rung, by_teacher, confidence, bundle_version, "
    "mode, attempts, usd, input_tokens, output_tokens, latency_ms, request_id, tenant, messages, error"
)
_NAMES = tuple(DECISION_COLUMNS.split(", "))

# DO NOTHING makes a retry after a commit of unknown fate harmless; OR IGNORE would hide missing values.
IF_NEW = "ON CONFLICT (decision_id) DO NOTHING"
INSERT_DECISION = (
    f"INSERT INTO decisions ({DECISION_COLUMNS}) VALUES ({', '.join('?' * len(_NAMES))}) {IF_NEW}"
)


class DecisionColumns:
    """The values of one or more decisions, in their order. A column that is given in neither way is NULL.

    Parameters
    ----------
    shared : mapping of str to value
        Columns whose value all of them share.
    own : mapping of str to sequence
        Columns of which each has its own value, `decision_id` among them.

    Attributes
    ----------
    ids : sequence of str
    shared_columns, own_columns : tuple of str
    shared : tuple
        The values of the former.
    rows : list of tuple
        The values of the latter, a row for each decision.
    """

    __slots__ = ("ids", "own_columns", "rows", "shared", "shared_columns")

    def __init__(self, shared: Mapping[str, Any], own: Mapping[str, Sequence[Any]]) -> None:
        self.ids: Sequence[str] = own["decision_id"]
        self.shared_columns, self.own_columns = tuple(shared), tuple(own)
        self.shared = tuple(shared.values())
        self.rows = list(zip(*own.values(), strict=True))

    def __len__(self) -> int:
        return len(self.rows)

    def whole_rows(self) -> list[tuple[Any, ...]]:
        """Give rows of all `DECISION_COLUMNS`: the values of `INSERT_DECISION`."""
        columns: dict[str, Any] = dict(zip(self.own_columns, zip(*self.rows, strict=True), strict=True))
        columns |= {name: repeat(value) for name, value in zip(self.shared_columns, self.shared, strict=True)}
        return list(zip(*[columns.get(name) or repeat(None) for name in _NAMES], strict=False))
