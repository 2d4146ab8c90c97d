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
    """

    __slots__ = ("own", "shared")

    def __init__(self, shared: Mapping[str, Any], own: Mapping[str, Sequence[Any]]) -> None:
        self.shared, self.own = shared, own

    @property
    def ids(self) -> Sequence[str]:
        """Their ids."""
        return self.own["decision_id"]

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self) -> list[tuple[Any, ...]]:
        """Give rows of all `DECISION_COLUMNS`: the values of `INSERT_DECISION`."""
        columns = [self.own.get(name) or repeat(self.shared.get(name)) for name in _NAMES]
        return list(zip(*columns, strict=False))
