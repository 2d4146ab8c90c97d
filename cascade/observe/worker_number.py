"""Which of several workers this process is."""

from __future__ import annotations

import os

VARIABLE = "CASCADE_WORKER"
"""Environment variable that the supervisor sets in each worker, counted from 0."""

AFTER = "CASCADE_WORKER_AFTER"
"""Environment variable that the supervisor sets in each worker: what it is started after."""

REASONS = ("start", "reload", "death", "hang")
"""Of the service, or of one worker."""


def worker_number() -> int | None:
    """Give this worker's number; None in a process that is none: the supervisor, or one that serves alone."""
    number = os.environ.get(VARIABLE)
    return None if number is None else int(number)


def started_after() -> str:
    """Give what this process is started after, of `REASONS`."""
    return os.environ.get(AFTER, REASONS[0])
