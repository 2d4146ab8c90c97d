"""Memory that was freed goes back to the system."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGE = 128 << 10
"""Bytes from which glibc gives a block pages of its own, until it learns otherwise."""
_LARGEST = 32 << 20
"""The most that it learns."""

_loading_lock = threading.Lock()
_loading = 0


class _MallInfo(ctypes.Structure):
    """`struct mallinfo2` of glibc 2.33."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
            "fordblks", "keepcost",
        )
    )  # fmt: skip


def trim() -> None:
    """Give back what was freed: glibc keeps most of it for good unless asked. Elsewhere does nothing.

    Takes some milliseconds, in which other threads that allocate wait: not for a request's way.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def free_bytes() -> int:
    """Give how many bytes of glibc's heap hold nothing, given back or not; 0 where that cannot be asked."""
    try:
        ask = ctypes.CDLL(None).mallinfo2
    except (OSError, AttributeError):
        return 0
    ask.restype = _MallInfo
    return int(ask().fordblks)


@contextmanager
def pages_of_its_own() -> Iterator[None]:
    """Give each large block that is allocated meanwhile pages of its own, which go back when it is freed.

    For models, which are kept long and then loaded anew. glibc does so too, until the first such block is
    freed: from then on it takes that one's size for usual, and blocks of up to 32 MB come from the heap,
    where each model that goes leaves a hole, of which the next one fills a part. For what comes and goes with
    a call that is right, since new pages cost time: from the end of this on it is so, whatever was loaded
    before. What other threads allocate meanwhile gets pages of its own, too. Without glibc it does nothing.
    """
    global _loading
    with _loading_lock:
        _loading += 1
        if _loading == 1:
            _set_large(_LARGE)
    try:
        yield
    finally:
        with _loading_lock:
            _loading -= 1
            if not _loading:
                _set_large(_LARGEST)


def _set_large(size: int) -> None:
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_THRESHOLD, size)
    # glibc learns no more once it was told one of the two, so the other is set to what it would have learned:
    # the heap's end going back and forth costs calls their time.
    mallopt(_M_TRIM_THRESHOLD, 2 * _LARGEST)


class HeapWatch:
    """Gives memory back once much lies free: after a rush of calls above all.

    Thousands of calls under way take some 15 kB each, which glibc keeps when they are gone.

    Parameters
    ----------
    much : int
        How many bytes more must lie free than after the last time. What was given back counts as free still.
    every_seconds : float
        How long one look after another is. Much must lie free at two: in between it may be in use again.
    free : callable
        Gives how many bytes lie free.
    give_back : callable
    clock : callable
        Gives seconds.
    """

    def __init__(
        self,
        much: int = 32 << 20,
        every_seconds: float = 5.0,
        free: Callable[[], int] = free_bytes,
        give_back: Callable[[], object] = trim,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._much, self._every_seconds = much, every_seconds
        self._free, self._give_back, self._clock = free, give_back, clock
        self._least = self._last = free()
        self._next = clock() + every_seconds

    def look(self) -> None:
        """Look, where it is time; to be called every now and then, by one thread."""
        now = self._clock()
        if now < self._next:
            return
        self._next = now + self._every_seconds
        free = self._free()
        self._least = min(self._least, free)
        if min(free, self._last) - self._least >= self._much:
            self._give_back()
            self._least = self._free()
        self._last = free
