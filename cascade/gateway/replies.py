"""Requests' bodies and errors, as the OpenAI API has them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from typing import Any

import grpc
from starlette.requests import Request
from starlette.responses import JSONResponse

from cascade.errors import CascadeError, InvalidInput, Overloaded, ShuttingDown
from cascade.observe.failures import HTTP, failures
from cascade.traffic.strict_json import Refused, parse

_BODY_SECONDS = 60.0
"""A caller that does not send its body holds a place of those who would."""

_STATUS = {
    "INVALID_ARGUMENT": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "FAILED_PRECONDITION": 422,
    "RESOURCE_EXHAUSTED": 429,
    "UNAVAILABLE": 502,
    "DEADLINE_EXCEEDED": 504,
}


class TooLarge(InvalidInput):
    """The request's body is larger than the limit."""

    reason = "TOO_LARGE"


class TooSlow(InvalidInput):
    """The request's body does not come."""

    reason = "TOO_SLOW"


class Busy(Overloaded):
    """More is under way than this process takes, whoever asks."""


_OWN_STATUS: tuple[tuple[type[CascadeError], int], ...] = (
    (TooLarge, 413),
    (TooSlow, 408),
    (Busy, 503),
    (ShuttingDown, 503),  # not 502: nothing is wrong upstream
)


def status_of(error: CascadeError) -> int:
    """Give the HTTP status of an error."""
    assert error.code in grpc.StatusCode.__members__
    own = (status for kind, status in _OWN_STATUS if isinstance(error, kind))
    return next(own, _STATUS.get(error.code, 500))


def error_reply(error: CascadeError, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Give an error in the OpenAI API's shape, with `Retry-After` where another try is worthwhile."""
    failures.count(HTTP, error.code, error.reason)
    status = status_of(error)
    kind = "invalid_request_error" if status < 500 else "api_error"
    shown = {
        "message": error.message,
        "type": kind,
        "code": error.reason.lower(),
        "param": error.field if isinstance(error, InvalidInput) else None,
    }
    retry_after = getattr(error, "retry_after", None)
    hint = {} if retry_after is None else {"retry-after": str(max(1, math.ceil(retry_after)))}
    return JSONResponse({"error": shown}, status, {**(headers or {}), **hint})


async def raw_body(request: Request, limit: int) -> bytes:
    """Read a request's body.

    Raises
    ------
    TooLarge, TooSlow
    """
    parts, size = [], 0
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for part in request.stream():
                size += len(part)
                if size > limit:
                    raise TooLarge(
                        "body", f"is larger than the limit of {limit} bytes, `http.max_body_bytes`"
                    )
                parts.append(part)
    except TimeoutError:
        raise TooSlow("body", f"did not come within {_BODY_SECONDS:g} s") from None
    return b"".join(parts)


def chat_request(raw: bytes) -> dict[str, Any]:
    """Read a chat completion request.

    Raises
    ------
    InvalidInput
        It is no JSON object with a list of messages, or holds what no UTF-8 text, database or other reader
        of JSON takes: half a surrogate pair, NaN, a nesting without end.
    """
    try:
        body = parse(raw, repeated_keys=True)
    except Refused as error:
        raise InvalidInput("body", f"is no JSON object that can be read: {error}") from None
    messages = body.get("messages")
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise InvalidInput("messages", "must be a list of messages")
    return body


def header_text(value: object) -> str:
    """Make a value fit into a header: printable ASCII, not long."""
    text = "".join(c if " " <= c <= "~" else "?" for c in str(value))
    return text[:300]
