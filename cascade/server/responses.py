"""Decisions and errors become response messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc

from cascade import json_value
from cascade.ask import Decided
from cascade.errors import CascadeError, InvalidInput
from cascade.v1 import decision_pb2 as pb

_MODES = {"passthrough": pb.MODE_PASSTHROUGH, "shadow": pb.MODE_SHADOW, "live": pb.MODE_LIVE}


def response_of(decided: Decided) -> pb.DecideResponse:
    """Make a decision a `DecideResponse`."""
    response = pb.DecideResponse()
    _fill(response, decided)
    return response


def _fill(response: pb.DecideResponse, decided: Decided) -> None:
    # Set in place: this is the hot path, and nested constructors copy.
    output = decided.output
    response.decision_id = decided.decision_id
    response.rung = decided.rung
    if decided.confidence is not None:
        response.confidence = decided.confidence
    response.bundle_version = decided.bundle_version
    response.mode = _MODES[decided.mode]
    response.request_id = decided.request_id
    if type(output) is str:
        response.output.string_value = output
        response.label = output
    else:
        response.output.CopyFrom(json_value.to_message(output))
    add = response.attempts.add
    for attempt in decided.attempts:
        add(
            rung=attempt.rung,
            p_right_before=attempt.p_right_before,
            confidence_after=attempt.confidence_after,
            latency_ms=attempt.latency_ms,
            reason=attempt.reason,
        )
    cost = response.cost
    cost.SetInParent()
    if decided.usd or decided.input_tokens or decided.output_tokens:
        cost.usd = decided.usd
        cost.input_tokens = decided.input_tokens
        cost.output_tokens = decided.output_tokens


def error_of(error: CascadeError, request_id: str = "") -> pb.DecideError:
    """Make an error a `DecideError`."""
    return pb.DecideError(
        code=grpc.StatusCode[error.code].value[0],
        message=error.message,
        field=error.field if isinstance(error, InvalidInput) else "",
        retry_after_seconds=getattr(error, "retry_after", None),
        request_id=request_id,
    )


def result_of(outcome: Decided | CascadeError, request_id: str) -> pb.DecideResult:
    """Make a decision or an error a `DecideResult`."""
    result = pb.DecideResult()
    _fill_result(result, outcome, request_id)
    return result


def _fill_result(result: pb.DecideResult, outcome: Decided | CascadeError, request_id: str) -> None:
    if isinstance(outcome, Decided):
        _fill(result.response, outcome)
    else:
        result.error.CopyFrom(error_of(outcome, request_id))


def batch_response(outcomes: Sequence[Decided | CascadeError], requests: Sequence[Any]) -> bytes:
    """Make a `BatchDecideResponse` of outcomes, as bytes."""
    response = pb.BatchDecideResponse()
    add = response.results.add
    for outcome, request in zip(outcomes, requests, strict=True):
        _fill_result(add(), outcome, request.request_id)
    return response.SerializeToString()
