"""A process' sign of life: the event loop that reads calls beats once a second, where its parent sees it.

A worker and its parent share a page of memory, made before the fork: a beat is a number written there, and
costs neither a call of the system nor a message. The parent counts how long the number stays the same.
"""

from __future__ import annotations

import asyncio
import faulthandler
import mmap
import os
import signal
import struct
import tempfile
import threading
from collections.abc import Callable

EVERY_SECONDS = 1.0
SIGNAL = signal.SIGUSR2
"""Has a worker write down where each of its threads is, whoever holds the interpreter's lock."""

_LONGEST_TICK = 2.0
_BEATS = struct.Struct("<QQ")
STDERR = 2


class Heart:
    """A worker's, shared with its parent; made before the fork.

    Attributes
    ----------
    stacks : int
        Descriptor of the file in memory where a worker writes, at `SIGNAL`, where its threads are.
    """

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, mmap.PAGESIZE)
        self._count = 0
        if hasattr(os, "memfd_create"):
            self.stacks = os.memfd_create("cascade-stacks")
        else:  # not Linux
            with tempfile.TemporaryFile() as file:
                self.stacks = os.dup(file.fileno())

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Beat from now on, and heed `SIGNAL`. In the worker."""
        faulthandler.register(SIGNAL, file=self.stacks, all_threads=True, chain=False)
        beat_on(loop, self.beat)

    def beat(self) -> None:
        """Beat once. On the event loop."""
        self._count += 1
        _BEATS.pack_into(self._page, 0, self._count, threading.get_ident())

    @property
    def beats(self) -> int:
        """How often it has beaten."""
        return int(_BEATS.unpack_from(self._page)[0])

    @property
    def thread(self) -> int:
        """The event loop's thread, as `threading.get_ident` and stacks name it; 0 before the first beat."""
        return int(_BEATS.unpack_from(self._page)[1])

    def read_stacks(self) -> str:
        """Give what the worker wrote down. In the parent."""
        return os.pread(self.stacks, os.fstat(self.stacks).st_size, 0).decode("utf-8", "replace")

    def forget_stacks(self) -> None:
        """Drop what the worker wrote down, before it is asked again. In the parent."""
        os.ftruncate(self.stacks, 0)
        os.lseek(self.stacks, 0, os.SEEK_SET)  # where the worker writes next: a fork shares that place

    def close(self) -> None:
        """Let go of what is shared."""
        self._page.close()
        os.close(self.stacks)


class LoneHeart:
    """That of a process without a parent: where it stops, the stacks of all threads are written to stderr.

    By a thread that needs no lock of the interpreter; each beat puts it off.

    Parameters
    ----------
    seconds : float
        After how long without a beat.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Beat from now on."""
        beat_on(loop, self.beat)

    def beat(self) -> None:
        """Beat once."""
        faulthandler.dump_traceback_later(self._seconds, file=STDERR)


class Pulse:
    """How long a heart has been silent, by the ticks of whoever looks.

    What looks may itself have been stopped, or the machine suspended: of the time between two looks no more
    counts than a look should have taken to come.
    """

    def __init__(self) -> None:
        self._beats = -1
        self._looked = 0.0
        self._silent = 0.0

    def look(self, beats: int, now: float) -> float:
        """Look, and give the seconds of silence.

        Parameters
        ----------
        beats : int
        now : float
            By the monotonic clock.
        """
        if beats != self._beats:
            self._beats, self._silent = beats, 0.0
        else:
            self._silent += min(now - self._looked, _LONGEST_TICK)
        self._looked = now
        return self._silent


def beat_on(loop: asyncio.AbstractEventLoop, beat: Callable[[], object]) -> None:
    """Have an event loop beat, now and every second, for as long as it comes round. For any thread."""

    def again() -> None:
        beat()
        loop.call_later(EVERY_SECONDS, again)

    loop.call_soon_threadsafe(again)
