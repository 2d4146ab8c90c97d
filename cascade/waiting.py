"""Lets code say that it is about to wait, so that its thread's place can be lent to another request."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_hooks = threading.local()


def set_hooks(begin: Callable[[], None], end: Callable[[], None]) -> None:
    """Set what the current thread calls before and after it waits."""
    _hooks.begin, _hooks.end = begin, end


@contextmanager
def waiting() -> Iterator[None]:
    """Mark a stretch in which the current thread only waits. Without hooks, nothing happens."""
    begin = getattr(_hooks, "begin", None)
    if begin is None:
        yield
        return
    begin()
    try:
        yield
    finally:
        _hooks.end()
