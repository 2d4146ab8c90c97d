"""Calls that end before a handler sees them: gRPC takes them in at once, the event loop takes them from it.

Where more is asked than a worker can do, calls wait in gRPC's core, which knows no tenants: it refuses what
comes while too many wait (`grpc.server.max_pending_requests`), and ends what waited for too long
(`grpc.server_max_unrequested_time_in_server`). What it ends so passes no code of ours, so it is
told from the core's own counts, those of channelz (gRFC A14).
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import grpc
from grpc._cython import cygrpc

from cascade.observe.failures import UNSEEN, Failures, failures

_log = logging.getLogger(__name__)

_PAUSE_SECONDS = 0.005
_PAUSES = 2
"""In a row: gRPC's own thread, which brings a call to the event loop, may have to wait for a core."""

_ROUNDS = 10
"""Of the event loop, far more than it takes to have a handler looked for once gRPC has handed a call over."""


class Unseen(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Counts a server's calls that no handler saw; to be the first of its handlers.

    Parameters
    ----------
    begun : callable
        Gives how many calls the server has had until now.
    wait_seconds : float
        How long a call waits for a handler at most, while the event loop comes round.
    soon : callable
        Has something called soon on the event loop that takes the calls; for any thread.
    counted : Failures
    every_seconds : float
        How long one look after another is at least.
    clock, sleep : callable
    """

    def __init__(
        self,
        begun: Callable[[], int],
        wait_seconds: float,
        soon: Callable[[Callable[[], None]], object],
        counted: Failures = failures,
        every_seconds: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._begun, self._wait_seconds, self._soon = begun, wait_seconds, soon
        self._counted, self._every_seconds, self._clock, self._sleep = counted, every_seconds, clock, sleep
        self._looks: deque[tuple[float, int]] = deque()
        self._seen = self._told = 0
        self._in_doubt = False
        self._closed = False
        self._lock = threading.Lock()
        self._round = self._sure = float("-inf")  # when was it that the event loop came round after, at least

    def service(self, _: grpc.HandlerCallDetails) -> None:
        """Count a call that is looked at now, and leave it to the other handlers."""
        self._seen += 1

    def look(self) -> None:
        """Count what ended unseen; to be called some ten times a second, by one thread.

        Where nothing is seen for a moment in which the event loop goes round, nothing waited when that moment
        began, and what had begun and was not seen is unseen. Where there is no such moment, because hundreds
        ask every second: of the calls that had begun so long ago that none of them waits any more, at least
        as many are unseen as there were more than all that were seen until now, which is too few by those of
        some seconds. gRPC ends what waited too long when it is asked for the next call, so nothing is over
        while the event loop stands still.
        """
        with self._lock:
            if self._closed:
                return
            now = self._clock()
            if not self._looks or now >= self._looks[-1][0] + self._every_seconds:
                self._look(now)
            elif self._in_doubt:
                self._look_for_a_pause()

    def close(self) -> None:
        """Look no more, from the moment this comes back on: gRPC is about to close the server."""
        with self._lock:
            self._closed = True

    def _look(self, now: float) -> None:
        over = self._sure - self._wait_seconds
        self._sure = self._round
        self._looks.append((now, self._begun()))
        while len(self._looks) > 1 and self._looks[1][0] <= over:
            self._looks.popleft()
        then, begun = self._looks[0]
        if then <= over:
            self._tell(begun - self._seen)
        self._in_doubt = self._looks[-1][1] > self._seen + self._told
        self._call_soon(partial(self._came_round, now))

    def _look_for_a_pause(self) -> None:
        begun, seen = self._begun(), self._seen
        if begun <= seen + self._told:
            return
        for _ in range(_PAUSES):
            rounds: list[None] = []
            self._go_round(_ROUNDS, rounds)
            self._sleep(_PAUSE_SECONDS)
            if not rounds or seen != self._seen:
                return
        self._tell(begun - seen)

    def _tell(self, unseen: int) -> None:
        more = unseen - self._told
        if more > 0:
            self._told += more
            self._counted.count(UNSEEN, "CANCELLED", UNSEEN, more)

    def _go_round(self, more: int, rounds: list[None]) -> None:
        if more:
            self._call_soon(partial(self._go_round, more - 1, rounds))
        else:
            rounds.append(None)

    def _call_soon(self, callback: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop was closed
            self._soon(callback)

    def _came_round(self, after: float) -> None:
        self._round = after


def counting(make: Callable[[], Any]) -> tuple[Any, Callable[[], int]]:
    """Make a server, and give it and what tells how many calls it has had.

    To be called by one thread at a time: which of gRPC's servers it is follows from which are new.
    """
    try:
        before = _ids()
        made = make()
        (number,) = _ids() - before
    except (
        AttributeError,
        KeyError,
        TypeError,
        ValueError,
    ) as error:  # a release of grpcio that tells it otherwise
        _log.info("calls that gRPC ends unseen are not counted: %r", error)
        return make(), lambda: 0
    return made, lambda: _begun(number)


def _ids() -> set[int]:
    found: set[int] = set()
    while True:
        page = json.loads(cygrpc.channelz_get_servers(max(found, default=0) + 1))
        servers = {int(each["ref"]["serverId"]) for each in page.get("server", ())}
        found |= servers
        if not servers or page.get("end"):
            return found


def _begun(number: int) -> int:
    # What gRPC ends by itself is begun there, and neither succeeds nor fails.
    try:
        found = json.loads(cygrpc.channelz_get_server(number))
    except ValueError:  # it is closed
        return 0
    return int(found["server"]["data"].get("callsStarted", 0))
