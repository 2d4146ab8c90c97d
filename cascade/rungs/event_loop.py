"""The one asyncio event loop on which all chat rungs of a process do their network I/O."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def background_loop() -> asyncio.AbstractEventLoop:
    """Give the running event loop; the first call starts its daemon thread."""
    global _loop
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="cascade-chat-io", daemon=True).start()
        return _loop


def run_in_background(work: Coroutine[Any, Any, T]) -> Future[T]:
    """Start a coroutine on the event loop.

    Cancelling the future cancels the coroutine. Waiting for the future on the loop's own thread would
    never end.

    Examples
    --------
    >>> run_in_background(asyncio.sleep(0, "done")).result(10)
    'done'
    """
    return asyncio.run_coroutine_threadsafe(work, background_loop())


def _forget_after_fork() -> None:
    """A forked child has the loop object but not its thread, so it must start its own."""
    global _lock, _loop
    _lock = threading.Lock()
    _loop = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
