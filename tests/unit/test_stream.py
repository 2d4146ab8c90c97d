"""One stream of questions: what it takes of what all streams share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from cascade.server.gone import Gone
from cascade.server.stream import AnswerStream


def test_a_question_that_lends_its_slot_and_is_answered_gives_it_back_once() -> None:
    async def main() -> None:
        slots = asyncio.Semaphore(2)

        def begin(
            raw: bytes, gone: Gone, done: Callable[[bytes], object], lend: Callable[[], object]
        ) -> None:
            lend()
            done(raw)
            lend()  # what says so came late

        async def asked() -> AsyncIterator[bytes]:
            for n in range(5):
                yield bytes([n])

        answers = [answer async for answer in AnswerStream(begin, slots).run(asked())]
        assert answers == [bytes([n]) for n in range(5)]
        for _ in range(2):
            assert not slots.locked()
            await slots.acquire()
        assert slots.locked(), "more are there than were taken"

    asyncio.run(main())
