"""Reported outcomes, checked."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from cascade import json_value
from cascade.config.server import LimitsConfig
from cascade.contract import JsonValue
from cascade.errors import InvalidInput

_FIRST, _LAST = -62_135_596_800, 253_402_300_799  # year 1 and year 9999, as google.protobuf.Timestamp has it
_AHEAD = 86_400.0  # clocks differ, but not by more than a day


@dataclass(frozen=True, slots=True)
class Report:
    """What `Deciding.report` takes; `field` is the request field that holds the outcome."""

    decision_id: str
    output: JsonValue | None
    right: bool | None
    time: float | None
    field: str


def report_of(request: Any, limits: LimitsConfig) -> Report:
    """Make a `ReportOutcomeRequest` a report.

    Raises
    ------
    InvalidInput
        A field is wrong.
    """
    decision_id = request.decision_id
    if not decision_id:
        raise InvalidInput("decision_id", "must name the decision that is reported on")
    if len(decision_id) > limits.max_request_id_bytes:
        raise InvalidInput("decision_id", f"has {len(decision_id)} characters; no decision's id is that long")
    field = request.WhichOneof("outcome")
    if field is None:
        raise InvalidInput("outcome", "one of label, output and right must be set")
    at = _time(request.time) if request.HasField("time") else None
    if field == "right":
        return Report(decision_id, None, request.right, at, field)
    return Report(decision_id, _output(request, field, limits), None, at, field)


def _output(request: Any, field: str, limits: LimitsConfig) -> JsonValue:
    size = len(request.label.encode("utf-8")) if field == "label" else request.output.ByteSize()
    if size > limits.max_text_bytes:
        raise InvalidInput(field, f"has {size} bytes; the limit is {limits.max_text_bytes}")
    if field == "label":
        if not request.label.strip():
            raise InvalidInput("label", "is empty")
        return request.label
    try:
        output = json_value.from_message(request.output)
    except ValueError as error:
        raise InvalidInput("output", str(error)) from None
    if output is None:
        # The engine's None means: no output was reported.
        raise InvalidInput("output", "null is not an output")
    return output


def _time(stamp: Any) -> float:
    if not (_FIRST <= stamp.seconds <= _LAST and 0 <= stamp.nanos <= 999_999_999):
        raise InvalidInput(
            "time", f"is not a valid timestamp: seconds {stamp.seconds}, nanos {stamp.nanos}; years 1 to 9999"
        )
    at: float = stamp.seconds + stamp.nanos / 1e9
    if at > time.time() + _AHEAD:
        raise InvalidInput("time", "lies more than a day in the future")
    return at
