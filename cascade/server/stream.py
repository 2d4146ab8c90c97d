"""One stream of questions: decided side by side, answered in the order in which they are ready."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from functools import partial

from cascade.server.gone import Gone

_log = logging.getLogger(__name__)

MAX_IN_FLIGHT = 64
"""Questions of one stream that are read and not yet answered. Beyond that the stream is not read."""

Begin = Callable[[bytes, Gone, Callable[[bytes], object], Callable[[], object]], None]


def _nothing(raw: bytes, gone: Gone, done: Callable[[bytes], object], lend: Callable[[], object]) -> None:
    """Begin nothing: the stream is over."""
    done(b"")


class _Slot:
    """A slot that one question has taken."""

    __slots__ = ("_held",)

    def __init__(self, held: asyncio.Semaphore) -> None:
        self._held: asyncio.Semaphore | None = held

    def release(self) -> None:
        """Give it back; the second time nothing happens."""
        if self._held is not None:
            self._held.release()
            self._held = None


class AnswerStream:
    """Reads one stream's questions and gives their answers. For gRPC's event loop.

    Parameters
    ----------
    begin : callable
        Has one message decided: given it, whom to ask whether the caller is gone, and what to call on the
        event loop with the answer, and before that once the question only waits for others.
    slots : asyncio.Semaphore
        Bounds the questions of all streams together for which there is something to do.
    """

    def __init__(self, begin: Begin, slots: asyncio.Semaphore) -> None:
        self._begin = begin
        self._slots = slots
        self._mine = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._answers: deque[bytes] = deque()
        self._wanted: asyncio.Future[None] | None = None  # what `run` waits for where no answer is ready
        self._open = 1  # questions in flight, and one for the reader
        self._gone = Gone()
        self._reader: asyncio.Task[None] | None = None

    async def run(self, raws: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Give the answers, until the last of them or until cancelled."""
        self._reader = asyncio.create_task(self._read(raws))
        while True:
            while self._answers:
                yield self._answers.popleft()
                self._mine.release()
            if not self._open:
                return
            self._wanted = asyncio.get_running_loop().create_future()
            await self._wanted

    def cancel(self) -> None:
        """Stop: nobody wants the answers any more."""
        if self._reader is not None:
            self._reader.cancel()
        self._gone.fire()
        # Both lead to the call, which must not live on with a question that is still being decided.
        self._begin, self._reader = _nothing, None

    async def _read(self, raws: AsyncIterator[bytes]) -> None:
        try:
            async for raw in raws:
                await self._mine.acquire()
                # Only a question that is there takes a slot: idle streams must not hold any.
                await self._slots.acquire()
                self._open += 1
                slot = _Slot(self._slots)
                self._begin(raw, self._gone, partial(self._done, slot), slot.release)
        except Exception as error:  # the caller left in the middle of a message
            _log.debug("a stream broke: %s", error)
        finally:
            self._leave()

    def _done(self, slot: _Slot, answer: bytes) -> None:
        slot.release()
        self._answers.append(answer)
        self._leave()

    def _leave(self) -> None:
        self._open -= 1
        wanted, self._wanted = self._wanted, None
        if wanted is not None and not wanted.done():
            wanted.set_result(None)
