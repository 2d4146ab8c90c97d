"""What is kept of a decision until its spans are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Ended(NamedTuple):
    """A decision's span that has ended, and what its attributes and attempts are read from.

    Attributes
    ----------
    traceparent : str
        Its own, by W3C: the ids of its trace and of itself.
    node : str
    began : int
        When the request was read, in nanoseconds since 1970.
    parent : str
        Id of the caller's span in hexadecimal; empty for none.
    until : int
        When it was logged, or when nobody waited for that any more, in nanoseconds.
    time : float
        When the first attempt began, in seconds.
    decision_id : str
        Empty for what never was logged; nothing that follows is known then.
    rung, mode, bundle, usd, attempts, by_teacher, input_tokens, output_tokens, error
        As in `cascade.traffic.records.Decision`.
    """

    traceparent: str
    node: str
    began: int
    parent: str
    until: int
    time: float = 0.0
    decision_id: str = ""
    rung: str = ""
    mode: str = ""
    bundle: str = ""
    usd: float = 0.0
    attempts: Sequence[Mapping[str, Any]] = ()
    by_teacher: bool = False
    input_tokens: int = 0
    output_tokens: int = 0
    error: str | None = None
