"""Waiting, in a test, for what another thread or process does soon."""

import time
from collections.abc import Callable

_SECONDS = 30.0  # far beyond what it takes: a test must not depend on the machine's speed


def comes(condition: Callable[[], bool]) -> bool:
    """Wait until a condition holds, and say whether it did in time."""
    end = time.monotonic() + _SECONDS
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    return condition()
