"""One address for many processes."""

from __future__ import annotations

import socket

from cascade.errors import ConfigError


def reserve_port(listen: str, key: str = "listen") -> tuple[socket.socket, str]:
    """Take an address for all workers: a bound socket to hold on to, and the address with its real port.

    The socket never listens, so it gets no connection; it keeps the port while workers come and go.

    Raises
    ------
    ConfigError
        The address is in use by something else, not this machine's, or a unix socket, which cannot be shared.
    """
    if listen.startswith("unix:"):
        raise ConfigError("listen: several workers cannot share a unix socket; set server.workers to 1")
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        for reuse in (0, 1):  # first alone, because SO_REUSEPORT would silently share it with another service
            held = socket.socket(family, socket.SOCK_STREAM)
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse:
                held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            held.bind((host, int(port)))
            if not reuse:
                port = str(held.getsockname()[1])
                held.close()
    except OSError as error:
        raise ConfigError(
            f"{key}: cannot listen on {listen}; it is in use, or not an address of this machine"
        ) from error
    shown = f"[{host}]" if family == socket.AF_INET6 else host
    return held, f"{shown}:{port}"
