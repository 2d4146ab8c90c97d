"""Waiting, in a test, for what another thread or process does soon."""

import time
from collections.abc import Callable

SECONDS = 60.0
"""Far beyond what it takes: a test must not depend on the machine's speed."""


def comes(condition: Callable[[], object], seconds: float = SECONDS) -> bool:
    """Wait until a condition holds, and say whether it did in time; once it did, it is not asked again."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True
