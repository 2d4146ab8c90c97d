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


def met_a_drain(error: grpc.RpcError) -> bool:
    """Say whether a call came to a server in the moment in which it began to drain.

    gRPC's core cancels calls that arrive between the server's shutdown and the client's reading of its
    GOAWAY, unseen by any handler, and calls that outlast the drain. Asking once more, on a new connection, is
    right for both. It also ends so what waited in it for too long because too much is asked: that is asked
    once more after a rest. A call that this side cancelled has other details.
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
