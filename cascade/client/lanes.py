"""A client's channel, and another in its place once the files of its credentials were renewed."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from cascade.v1 import decision_pb2_grpc

C = TypeVar("C")

_LOOK_SECONDS = 1.0

Stamp = list[tuple[int, int, int]]


class Lane(Generic[C]):
    """A channel with its stub, and how many calls are on it."""

    __slots__ = ("channel", "stub", "users")

    def __init__(self, channel: C) -> None:
        self.channel = channel
        self.stub: Any = decision_pb2_grpc.DecisionServiceStub(channel)  # type: ignore[no-untyped-call]
        self.users = 0


class Lanes(Generic[C]):
    """Gives calls the newest channel, and old ones back to be closed when their last call has ended.

    gRPC reads credentials once: with a certificate of a day, a channel would find no server any more after
    the first connection that breaks tomorrow. May be used by many threads.

    Parameters
    ----------
    files : sequence of path
        Looked at when a call begins, at most once a second.
    make : callable
        Makes a channel of the files as they are now; raises ValueError or OSError where they cannot be used,
        as in the middle of a renewal. Then the channel stays that there is.
    """

    def __init__(self, files: Sequence[str | os.PathLike[str]], make: Callable[[], C]) -> None:
        self._files, self._make = files, make
        self._lock = threading.Lock()
        self._stamp, self._looked = self._stamp_now(), time.monotonic()
        self._lane = Lane(make())
        self._old: list[Lane[C]] = []

    def enter(self) -> Lane[C]:
        """Give a call its channel; it has to `leave` it."""
        with self._lock:
            if self._files and time.monotonic() - self._looked >= _LOOK_SECONDS:
                self._look()
            self._lane.users += 1
            return self._lane

    def leave(self, lane: Lane[C]) -> list[C]:
        """End a call; gives the channels to be closed now."""
        with self._lock:
            lane.users -= 1
            if not self._old:
                return []
            done = [old.channel for old in self._old if not old.users]
            self._old = [old for old in self._old if old.users]
            return done

    def end(self) -> list[C]:
        """Give all channels, to be closed; no other one is made from here on."""
        with self._lock:
            self._files = ()
        return self.all()

    def all(self) -> list[C]:
        """Give all channels that are open."""
        with self._lock:
            return [lane.channel for lane in (self._lane, *self._old)]

    def _look(self) -> None:
        self._looked = time.monotonic()
        now = self._stamp_now()
        if now is None or now == self._stamp:
            return
        try:
            lane = Lane(self._make())
        except (ValueError, OSError):
            return
        self._old.append(self._lane)
        self._lane, self._stamp = lane, now

    def _stamp_now(self) -> Stamp | None:
        try:
            found = [os.stat(file) for file in self._files]
        except OSError:
            return None
        return [(each.st_mtime_ns, each.st_size, each.st_ino) for each in found]
