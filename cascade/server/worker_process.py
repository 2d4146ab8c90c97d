"""A worker process: what its parent knows of it, and what it does from its fork to its end."""

from __future__ import annotations

import json
import logging
import os
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NoReturn

from cascade.errors import ConfigError
from cascade.observe import worker_number
from cascade.server.heart import Heart, Pulse

_log = logging.getLogger(__name__)

EXIT_CONFIG = 2
"""With this code a worker says that its configuration cannot be served: restarting it would not help."""

_MOST_SAID = 4000

Facts = dict[str, Any]
"""What a worker says of itself once it serves, as JSON."""

RunWorker = Callable[[int, Callable[[Facts], None], Heart], int]
"""Serves as one worker: takes its index, what it calls once it serves, and its heart; gives its exit code.

Raises ConfigError where the configuration cannot be served, which the parent says once for all workers."""


@dataclass
class Worker:
    """What the parent knows of a worker.

    Attributes
    ----------
    index : int
        Its place among the workers; the one that is started in its stead has the same.
    generation : int
        Of the configuration that it serves.
    pid : int
    pipe : int
        What it says is read from here.
    heart : Heart
    began : float
        When it was started, by the monotonic clock.
    said : bytes
        A line of `Facts` once it serves, or else why it cannot.
    pulse : Pulse
        Of its heart.
    asked : float or None
        When it was asked where it hangs.
    hung : bool
        Whether it was killed because it hung.
    """

    index: int
    generation: int
    pid: int
    pipe: int
    heart: Heart
    began: float = field(default_factory=time.monotonic)
    said: bytes = b""
    pulse: Pulse = field(default_factory=Pulse)
    asked: float | None = None
    hung: bool = False

    @property
    def ready(self) -> bool:
        """Whether it serves."""
        return self.said.endswith(b"\n")

    @property
    def complaint(self) -> str:
        """Why it cannot serve, as far as it said so."""
        return "" if self.ready else self.said.decode("utf-8", "replace")


def be_worker(
    run: RunWorker,
    index: int,
    pipe: int,
    heart: Heart,
    after: str,
    not_mine: Iterable[int],
    handled: Iterable[int],
    mask: set[int],
) -> NoReturn:
    """Serve as a worker, in a child just forked, and end the process.

    Parameters
    ----------
    run : callable
        See `RunWorker`.
    index : int
    pipe : int
        Where it says that it serves, or why it cannot.
    heart : Heart
    after : str
        What it is started after, of `cascade.observe.worker_number.REASONS`.
    not_mine : iterable of int
        The parent's descriptors.
    handled : iterable of int
        The signals that the parent handles.
    mask : set of int
        The signals that are blocked once the parent's handlers are gone.
    """
    code = 1
    serves = False
    try:
        signal.set_wakeup_fd(-1)
        for number in handled:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for descriptor in not_mine:
            os.close(descriptor)
        _die_with_parent()
        os.environ[worker_number.VARIABLE] = str(index)
        os.environ[worker_number.AFTER] = after

        def tell_ready(facts: Facts) -> None:
            nonlocal serves
            serves = True
            with os.fdopen(pipe, "wb") as told:
                told.write(json.dumps(facts).encode() + b"\n")

        code = run(index, tell_ready, heart)
    except ConfigError as error:
        code = EXIT_CONFIG
        if serves:  # the pipe is closed
            _log.error("worker %d cannot serve: %s", index, error)
        else:
            os.write(pipe, "; ".join(str(error).splitlines()).encode()[:_MOST_SAID])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        _log.exception("worker %d failed", index)
    finally:
        logging.shutdown()
        os._exit(code)  # the parent's exit handlers are not the worker's


def _die_with_parent() -> None:
    """Ask the kernel for SIGTERM when the parent dies, whatever it dies of (Linux only)."""
    with suppress(OSError, AttributeError):
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGTERM, 0, 0, 0)
