"""Errors become gRPC statuses with `google.rpc` details, and never carry a stack trace."""

from __future__ import annotations

import logging
import secrets
from typing import Any, NoReturn, Protocol

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from cascade.errors import CascadeError, InvalidInput

_log = logging.getLogger(__name__)

DOMAIN = "cascade"
# A status travels in trailers, which many peers cut at 8 KiB, and holds the text twice.
MAX_TEXT_BYTES = 1024


class Internal(CascadeError):
    """Something went wrong that nobody foresaw. The log has it under the reference."""


def internal(error: BaseException) -> Internal:
    """Log an unforeseen error with its stack trace, and give the error that the caller may see."""
    reference = secrets.token_hex(4)
    _log.error("internal error, reference %s", reference, exc_info=error)
    return Internal(f"internal error, reference {reference}")


def known(error: Exception) -> CascadeError:
    """Give the error itself if it is ours, and `internal(error)` otherwise."""
    return error if isinstance(error, CascadeError) else internal(error)


def status_of(error: CascadeError) -> status_pb2.Status:
    """Make an error a `google.rpc.Status`."""
    details: list[Any] = [error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)]
    if isinstance(error, InvalidInput):
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=_cut(error.field), description=_cut(error.description)
        )
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    retry_after = getattr(error, "retry_after", None)
    if retry_after is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(retry_after * 1e9))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    packed = []
    for detail in details:
        packed.append(any_pb2.Any())
        packed[-1].Pack(detail)
    code = grpc.StatusCode[error.code].value[0]
    return status_pb2.Status(code=code, message=_cut(error.message), details=packed)


class Ending(Protocol):
    """A call that can be ended."""

    def abort_with_status(self, status: status_pb2.Status, reason: str, /) -> NoReturn:
        """End the call with a status, and the error's reason."""
        ...


def abort(context: Ending, error: Exception) -> NoReturn:
    """End the call with the error's status."""
    ours = known(error)
    context.abort_with_status(status_of(ours), ours.reason)


def _cut(text: str) -> str:
    raw = text.encode("utf-8", "replace")
    if len(raw) <= MAX_TEXT_BYTES:
        return text
    return raw[: MAX_TEXT_BYTES - 3].decode("utf-8", "ignore") + "..."
