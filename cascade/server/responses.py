"""Decisions and errors become response messages."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import grpc

from cascade import json_value
from cascade.ask import Decided, Mode
from cascade.contract import MAX_LABEL, JsonValue
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
    if type(output) is str and len(output) <= MAX_LABEL:
        response.CopyFrom(_of_label(output, decided.rung, decided.bundle_version, decided.mode))
    else:
        _fill_common(response, output, decided.rung, decided.bundle_version, decided.mode)
    response.decision_id = decided.decision_id
    if decided.confidence is not None:
        response.confidence = decided.confidence
    if decided.request_id:
        response.request_id = decided.request_id
    add = response.attempts.add
    for attempt in decided.attempts:
        said = add()
        said.rung = attempt.rung
        if attempt.p_right_before is not None:
            said.p_right_before = attempt.p_right_before
        if attempt.confidence_after is not None:
            said.confidence_after = attempt.confidence_after
        said.latency_ms = attempt.latency_ms
        if attempt.reason:
            said.reason = attempt.reason
    if decided.usd or decided.input_tokens or decided.output_tokens:
        cost = response.cost
        cost.usd = decided.usd
        cost.input_tokens = decided.input_tokens
        cost.output_tokens = decided.output_tokens


def _fill_common(
    response: pb.DecideResponse, output: JsonValue, rung: str, bundle_version: str, mode: Mode
) -> None:
    response.rung = rung
    response.bundle_version = bundle_version
    response.mode = _MODES[mode]
    response.cost.SetInParent()
    if isinstance(output, str):
        response.output.string_value = output
        response.label = output
    else:
        response.output.CopyFrom(json_value.to_message(output))


@lru_cache(maxsize=1024)
def _of_label(label: str, rung: str, bundle_version: str, mode: Mode) -> pb.DecideResponse:
    """Give what all responses have that say one label: a copy of it takes less than to set it again."""
    response = pb.DecideResponse()
    _fill_common(response, label, rung, bundle_version, mode)
    return response


def error_of(error: CascadeError, request_id: str = "") -> pb.DecideError:
    """Make an error a `DecideError`."""
    return pb.DecideError(
        code=grpc.StatusCode[error.code].value[0],
        message=error.message,
        field=error.field if isinstance(error, InvalidInput) else "",
        retry_after_seconds=getattr(error, "retry_after", None),
        request_id=request_id,
    )


def streamed_response(outcome: Decided | CascadeError, request_id: str) -> bytes:
    """Make a decision or an error a `StreamDecideResponse`, as bytes."""
    response = pb.StreamDecideResponse()
    _fill_result(response.result, outcome, request_id)
    return response.SerializeToString()


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
