"""Threads of a busy worker let each other finish, by the kernel's batch scheduling."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_log = logging.getLogger(__name__)

_THREADS = Path("/proc/self/task")

SetPolicy = Callable[[bool], object]
"""Has all threads of the process scheduled as a batch, or, if false, as usual. Raises OSError."""


def set_batch(batch: bool) -> None:
    """Have the threads of this process scheduled as a batch (sched(7)), or as usual; those to come as well.

    Whoever wakes up in a batch waits until the one that runs on its core rests or has had its share, as
    other programs' threads would not. Needs no privilege.

    Raises
    ------
    OSError
        It is forbidden here, as a seccomp filter may.
    """
    policy = os.SCHED_BATCH if batch else os.SCHED_OTHER
    for thread in _THREADS.iterdir():
        with suppress(ProcessLookupError):  # it has ended meanwhile
            os.sched_setscheduler(int(thread.name), policy, os.sched_param(0))


def can_be_set() -> bool:
    """Whether this process is scheduled as usual: a policy that somebody chose for it is left alone."""
    return hasattr(os, "SCHED_BATCH") and os.sched_getscheduler(0) == os.SCHED_OTHER and _THREADS.is_dir()


def on_one_core() -> bool:
    """Whether this process may run on a single core only."""
    return len(os.sched_getaffinity(0)) == 1


class BusyScheduling:
    """Has a process that keeps its only core busy scheduled as a batch, for as long as it does.

    gRPC brings each call in four steps, and each wakes its poller's thread, which interrupts the event loop
    that woke it, only to wake it in turn: 6.5 changes of threads a decision, and a quarter of its processor
    time. In a batch the poller waits until the event loop has nothing left to do. A worker with little to do
    gains nothing by that, and beside other programs its threads would wait for the core longer. Where there
    are several cores, threads that wait for one while they hold the interpreter's lock make it less than half
    as fast: a worker that may use them is left alone.

    Parameters
    ----------
    begin : float
        Cores' worth of processor time from which the process is scheduled as a batch.
    end : float
        Cores' worth below which it is no longer.
    every_seconds : float
        How long one look after another is.
    set_policy : callable, optional
        See `SetPolicy`. By default `set_batch`, where it can be set.
    one_core : callable
        Whether the process has a single core.
    clock, used : callable
        Give seconds, and seconds of the process's processor time.
    """

    def __init__(
        self,
        begin: float = 0.4,
        end: float = 0.25,
        every_seconds: float = 0.25,
        set_policy: SetPolicy | None = None,
        one_core: Callable[[], bool] = on_one_core,
        clock: Callable[[], float] = time.monotonic,
        used: Callable[[], float] = time.process_time,
    ) -> None:
        self._begin, self._end, self._every_seconds = begin, end, every_seconds
        self._one_core, self._clock, self._used = one_core, clock, used
        self._set_policy = set_policy or (set_batch if can_be_set() else None)
        self._batch = False
        self._seen_at, self._seen_used = clock(), used()

    def look(self) -> None:
        """Look, where it is time; to be called every now and then, by one thread."""
        now = self._clock()
        if self._set_policy is None or now - self._seen_at < self._every_seconds:
            return
        used = self._used()
        share = (used - self._seen_used) / (now - self._seen_at)
        self._seen_at, self._seen_used = now, used
        batch = share >= (self._end if self._batch else self._begin) and self._one_core()
        if batch is self._batch:
            return
        try:
            self._set_policy(batch)
        except OSError as error:
            _log.info("busy threads will interrupt each other: batch scheduling is refused here: %s", error)
            self._set_policy = None
        self._batch = batch
