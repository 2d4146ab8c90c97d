"""What gRPC is told of a server's bounds, and which release of it knows them."""

from __future__ import annotations

import logging
from typing import Any

import grpc

from cascade.config.server import ServerConfig

_log = logging.getLogger(__name__)

_FIRST_BOUNDED = (1, 82)


def server_options(config: ServerConfig, reuse_port: bool) -> list[tuple[str, Any]]:
    """Give the options of a server, as gRPC's core names them.

    Parameters
    ----------
    config : ServerConfig
    reuse_port : bool
        Whether other processes listen on the same port.
    """
    return [
        ("grpc.so_reuseport", int(reuse_port)),
        ("grpc.max_receive_message_length", config.max_message_bytes),
        # Beyond that a client waits on its own side. gRPC also counts what has ended and is not freed yet,
        # and resets what is begun beyond the limit then: that bounds what a flood of streams that are begun
        # and reset can take (CVE-2023-44487), and is why the limit is above what one connection usually asks.
        ("grpc.max_concurrent_streams", config.max_streams_per_connection),
        # What waits in gRPC, because the event loop cannot take it in as fast, is ended by gRPC after that
        # time, which costs less than a refusal. gRPC's own default is 30 s: of callers with shorter deadlines
        # each was looked at when its time was nearly over, and few were answered.
        ("grpc.server_max_unrequested_time_in_server", config.max_unseen_seconds),
        # What comes while so many wait is refused by gRPC's own threads, in a fraction of an answer's
        # time. Between the one bound and the other it would refuse some at random.
        ("grpc.server.max_pending_requests", config.max_unseen),
        ("grpc.server.max_pending_requests_hard_limit", config.max_unseen),
        ("grpc.max_metadata_size", config.max_metadata_bytes),
        # The same: between the two gRPC refuses some calls and not others.
        ("grpc.absolute_max_metadata_size", config.max_metadata_bytes),
        # Find out about dead peers, and let clients ping to find out about us.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ]


def bounds_what_waits(version: str = grpc.__version__) -> bool:
    """Say whether a release of grpcio refuses what comes while much waits in it (`server.max_unseen`)."""
    major, minor, *_ = version.split(".")
    return (int(major), int(minor)) >= _FIRST_BOUNDED


def warn_of_release(version: str = grpc.__version__) -> None:
    """Warn in the log of a release that cannot do what the configuration says."""
    if not bounds_what_waits(version):
        _log.warning(
            "grpcio %s does not know server.max_unseen: under overload any number of calls wait in it, up to"
            " server.max_unseen_seconds each; install 1.82",
            version,
        )
