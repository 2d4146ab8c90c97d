"""Memory that was freed goes back to the system."""

from __future__ import annotations

import ctypes
from contextlib import suppress


def trim() -> None:
    """Give back what was freed: glibc keeps most of it for good unless asked. Elsewhere does nothing.

    Takes some milliseconds, in which other threads that allocate wait: not for a request's way.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
