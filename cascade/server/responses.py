"""Decisions and errors become response messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc

from cascade import json_value
from cascade.ask import Decided
from cascade.errors import CascadeError, InvalidInput
from cascade.observe.failures import failures
from cascade.server.response_template import written
from cascade.v1 import decision_pb2 as pb

_MODES = {"passthrough": pb.MODE_PASSTHROUGH, "shadow": pb.MODE_SHADOW, "live": pb.MODE_LIVE}


def response_of(decided: Decided) -> bytes:
    """Make a decision a `DecideResponse`, as bytes."""
    return written(decided, _response)


def _response(decided: Decided) -> bytes:
    response = pb.DecideResponse()
    _fill(response, decided)
    return response.SerializeToString()


def _fill(response: pb.DecideResponse, decided: Decided) -> None:
    # Set in place: nested constructors copy.
    output = decided.output
    response.rung = decided.rung
    response.bundle_version = decided.bundle_version
    response.mode = _MODES[decided.mode]
    if isinstance(output, str):
        response.output.string_value = output
        response.label = output
    else:
        response.output.CopyFrom(json_value.to_message(output))
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
    cost = response.cost
    cost.SetInParent()
    if decided.usd or decided.input_tokens or decided.output_tokens:
        cost.usd = decided.usd
        cost.input_tokens = decided.input_tokens
        cost.output_tokens = decided.output_tokens


def error_of(error: CascadeError, method: str, request_id: str = "") -> pb.DecideError:
    """Make an error a `DecideError`, and count it as that method's."""
    failures.count(method, error.code, error.reason)
    return pb.DecideError(
        code=grpc.StatusCode[error.code].value[0],
        message=error.message,
        field=error.field if isinstance(error, InvalidInput) else "",
        retry_after_seconds=getattr(error, "retry_after", None),
        request_id=request_id,
    )


def streamed_response(outcome: Decided | CascadeError, request_id: str) -> bytes:
    """Make a decision or an error a `StreamDecideResponse`, as bytes."""
    if isinstance(outcome, Decided):
        return written(outcome, _streamed)
    response = pb.StreamDecideResponse()
    response.result.error.CopyFrom(error_of(outcome, "StreamDecide", request_id))
    return response.SerializeToString()


def _streamed(decided: Decided) -> bytes:
    response = pb.StreamDecideResponse()
    _fill(response.result.response, decided)
    return response.SerializeToString()


def batch_response(outcomes: Sequence[Decided | CascadeError], requests: Sequence[Any]) -> bytes:
    """Make a `BatchDecideResponse` of outcomes, as bytes."""
    # Messages that follow each other are one message with the results of all: protobuf's encoding says so.
    return b"".join([
        written(outcome, _batch_of_one)
        if isinstance(outcome, Decided)
        else _error_of_one(outcome, request.request_id)
        for outcome, request in zip(outcomes, requests, strict=True)
    ])  # fmt: skip


def _batch_of_one(decided: Decided) -> bytes:
    response = pb.BatchDecideResponse()
    _fill(response.results.add().response, decided)
    return response.SerializeToString()


def _error_of_one(error: CascadeError, request_id: str) -> bytes:
    response = pb.BatchDecideResponse()
    response.results.add().error.CopyFrom(error_of(error, "BatchDecide", request_id))
    return response.SerializeToString()
