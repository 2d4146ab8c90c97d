"""The channel's options that both clients share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc

Metadata = Sequence[tuple[str, str]]
Options = Sequence[tuple[str, Any]]

DEFAULT_OPTIONS: Options = (
    # A batch's answer is larger than its request; the server is the one to bound it.
    ("grpc.max_receive_message_length", -1),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
)


def was_ended(error: grpc.RpcError) -> bool:
    """Say whether gRPC's core ended a call at the server, where most likely no handler saw it.

    It does so with calls that arrive between the server's shutdown and the client's reading of its GOAWAY,
    with those that come while `server.max_unseen` others wait in it, and with those that waited in it for
    `server.max_unseen_seconds`. A call that this side cancelled has other details.
    """
    return bool(error.code() is grpc.StatusCode.CANCELLED and error.details() in ("CANCELLED", "Cancelled"))


def was_refused(error: grpc.RpcError) -> bool:
    """Say whether the server refused a call's stream before it looked at it.

    That is REFUSED_STREAM of HTTP/2 (RFC 9113, 8.7), which promises that a call may be made again; gRPC's
    core does so once by itself, and then tells it in words alone.
    """
    return error.code() is grpc.StatusCode.UNAVAILABLE and "RST_STREAM with error code 7" in (
        error.details() or ""
    )
