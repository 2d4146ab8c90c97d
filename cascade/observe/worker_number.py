"""Which of several workers this process is."""

from __future__ import annotations

import os

VARIABLE = "CASCADE_WORKER"
"""Environment variable that the supervisor sets in each worker, counted from 0."""


def worker_number() -> int | None:
    """Give this worker's number; None in a process that is none: the supervisor, or one that serves alone."""
    number = os.environ.get(VARIABLE)
    return None if number is None else int(number)
