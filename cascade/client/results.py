"""Decisions and errors as a caller sees them, and the messages they are read from."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from cascade import json_value
from cascade.v1 import decision_pb2 as pb

_MODES: dict[int, Literal["passthrough", "shadow", "live"]] = {pb.MODE_SHADOW: "shadow", pb.MODE_LIVE: "live"}
_CODES = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One rung's try.

    Attributes
    ----------
    rung : str
    p_right_before, confidence_after : float, optional
        The difficulty model's and the acceptor's probability, where they gave one.
    latency_ms : float
    reason : str
        Why it did not settle; empty where it did.
    """

    rung: str
    p_right_before: float | None
    confidence_after: float | None
    latency_ms: float
    reason: str


@dataclass(frozen=True, slots=True)
class Cost:
    """What a decision cost: dollars and tokens of chat rungs."""

    usd: float
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Decision:
    """A decision. The fields are those of the proto's `DecideResponse`.

    Attributes
    ----------
    decision_id : str
        What `report_outcome` takes.
    output : JSON value
    label : str
        The output of a label contract, empty otherwise.
    rung : str
        Who gave the answer.
    confidence : float, optional
        P(right) for a local rung; None for the teacher.
    bundle_version : str
    mode : {"passthrough", "shadow", "live"}
    attempts : tuple of Attempt
    cost : Cost
    request_id : str
    """

    decision_id: str
    output: Any
    label: str
    rung: str
    confidence: float | None
    bundle_version: str
    mode: Literal["passthrough", "shadow", "live"]
    attempts: tuple[Attempt, ...]
    cost: Cost
    request_id: str


class DecisionError(Exception):
    """Why there is no decision.

    Attributes
    ----------
    code : grpc.StatusCode
    message : str
    reason : str
        Stable and machine-readable, such as `INVALID_INPUT`; empty for one item of a batch or stream, and
        where the server did not get to answer.
    field : str
        The request field that was wrong, where one was.
    retry_after_seconds : float, optional
        When another try is worthwhile, where it is.
    request_id : str
        The request's id, for one item of a batch or stream.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        reason: str = "",
        field: str = "",
        retry_after_seconds: float | None = None,
        request_id: str = "",
    ) -> None:
        super().__init__(f"{code.name}: {message}")
        self.code = code
        self.message = message
        self.reason = reason
        self.field = field
        self.retry_after_seconds = retry_after_seconds
        self.request_id = request_id


def decision_of(response: pb.DecideResponse) -> Decision:
    """Read a decision."""
    attempts = tuple(
        Attempt(
            attempt.rung,
            attempt.p_right_before if attempt.HasField("p_right_before") else None,
            attempt.confidence_after if attempt.HasField("confidence_after") else None,
            attempt.latency_ms,
            attempt.reason,
        )
        for attempt in response.attempts
    )
    cost = response.cost
    return Decision(
        decision_id=response.decision_id,
        output=json_value.from_message(response.output),
        label=response.label,
        rung=response.rung,
        confidence=response.confidence if response.HasField("confidence") else None,
        bundle_version=response.bundle_version,
        mode=_MODES.get(response.mode, "passthrough"),
        attempts=attempts,
        cost=Cost(cost.usd, cost.input_tokens, cost.output_tokens),
        request_id=response.request_id,
    )


def result_of(result: pb.DecideResult) -> Decision | DecisionError:
    """Read one result of a batch or stream."""
    if result.WhichOneof("result") == "response":
        return decision_of(result.response)
    error = result.error
    return DecisionError(
        code=_CODES.get(error.code, grpc.StatusCode.UNKNOWN),
        message=error.message,
        field=error.field,
        retry_after_seconds=error.retry_after_seconds if error.HasField("retry_after_seconds") else None,
        request_id=error.request_id,
    )


def error_of(error: Any) -> DecisionError:
    """Read the error of a call, `google.rpc` details included."""
    reason, field, retry_after = "", "", None
    # Details that do not fit the code, or are none: something is between us and the server.
    with suppress(ValueError, AttributeError, DecodeError):
        status = rpc_status.from_call(error)
        for detail in status.details if status is not None else ():
            info = error_details_pb2.ErrorInfo()
            bad = error_details_pb2.BadRequest()
            retry = error_details_pb2.RetryInfo()
            if detail.Unpack(info):
                reason = info.reason
            elif detail.Unpack(bad) and bad.field_violations:
                field = bad.field_violations[0].field
            elif detail.Unpack(retry):
                retry_after = retry.retry_delay.ToNanoseconds() / 1e9
    return DecisionError(error.code(), error.details() or "", reason, field, retry_after)
