"""Tells systemd how the service stands: sd_notify(3), one datagram to the socket that NOTIFY_SOCKET names.

Lines of our own, because that is all it takes, and no library is better kept than they: `sdnotify` had its
last release in 2017; `systemd-python` wants a compiler and systemd's headers; `cysystemd` brings compiled
code, for one send to a socket.

Only the process that systemd started may speak (`NotifyAccess=main`): the supervisor, or the one process
where there is no supervisor.
"""

from __future__ import annotations

import logging
import os
import socket
import time

_log = logging.getLogger(__name__)

SOCKET = "NOTIFY_SOCKET"

_PATIENCE = 1.0
"""Seconds: what systemd has not yet read may fill the socket, and a lost READY=1 is a failed start."""


def ready(status: str) -> None:
    """Say that all is served: after the start, and after a reload, also after one that was given up.

    Parameters
    ----------
    status : str
        One line for `systemctl status`.
    """
    _send("READY=1", status)


def reloading(status: str) -> None:
    """Say that a reload has begun; `ready` ends it."""
    # systemd 253 and later want to know when, to tell this reload from an earlier one.
    _send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}", status)


def stopping(status: str) -> None:
    """Say that the drain has begun."""
    _send("STOPPING=1", status)


def _send(state: str, status: str) -> None:
    path = os.environ.get(SOCKET, "")
    if not path:
        return
    address = f"\0{path[1:]}" if path.startswith("@") else path  # of Linux's abstract names
    said = f"{state}\nSTATUS={' '.join(status.split())}"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as speaking:
            speaking.settimeout(_PATIENCE)
            speaking.sendto(said.encode(), address)
    except OSError as error:
        _log.warning("%s=%s cannot be told %r: %s", SOCKET, path, state.partition("\n")[0], error)
