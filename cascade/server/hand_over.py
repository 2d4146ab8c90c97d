"""Results go from the pool's threads to gRPC's event loop, those that are ready together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from cascade.ask import Decided
from cascade.errors import CascadeError

Reply = bytes | CascadeError
"""What a call is answered with: the bytes of a message, or why there is none."""


class HandOver:
    """Wakes the event loop once for all results that are ready.

    Parameters
    ----------
    loop : asyncio.AbstractEventLoop
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ready: deque[tuple[Callable[[Reply], object], Reply]] = deque()
        self._woken = False

    def tell(
        self,
        take: Callable[[Reply], object],
        reply_of: Callable[[Decided | CascadeError], Reply],
        result: Decided | CascadeError,
    ) -> None:
        """Have a result taken on the event loop. For any thread.

        Parameters
        ----------
        take : callable
            Called on the event loop.
        reply_of : callable
            Makes of the result, here and now, what is given to `take`.
        result : Decided or CascadeError
        """
        self._ready.append((take, reply_of(result)))
        if not self._woken:
            self._woken = True
            self.soon(self._deliver)

    def soon(self, call: Callable[[], object]) -> None:
        """Have something called on the event loop. For any thread."""
        with suppress(RuntimeError):  # the loop was closed: nobody waits
            self._loop.call_soon_threadsafe(call)

    def _deliver(self) -> None:
        self._woken = False  # first: what comes from here on may have to ask for another round
        while self._ready:
            take, reply = self._ready.popleft()
            take(reply)
