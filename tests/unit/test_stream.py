"""One stream of questions: what it takes of what all streams share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from cascade.server.gone import Gone
from cascade.server.stream import MAX_IN_FLIGHT, AnswerStream


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


class Deciding:
    """Takes a stream's questions down, for a test to answer them when it likes."""

    def __init__(self) -> None:
        self.waiting: list[tuple[bytes, Callable[[bytes], object]]] = []
        self.gone: Gone | None = None

    def __call__(
        self, raw: bytes, gone: Gone, done: Callable[[bytes], object], lend: Callable[[], object]
    ) -> None:
        self.gone = gone
        self.waiting.append((raw, done))

    def answer_all(self) -> None:
        waiting, self.waiting = self.waiting, []
        for raw, done in waiting:
            done(raw)


async def _many(n: int = 10 * MAX_IN_FLIGHT) -> AsyncIterator[bytes]:
    for i in range(n):
        yield i.to_bytes(2, "big")


async def _settled() -> None:
    for _ in range(5 * MAX_IN_FLIGHT):
        await asyncio.sleep(0)


def test_slots_go_from_question_to_question_and_an_agent_that_reads_slowly_holds_none() -> None:
    async def main() -> None:
        slots, deciding = asyncio.Semaphore(3), Deciding()
        answers = AnswerStream(deciding, slots).run(_many())
        first = asyncio.create_task(anext(answers))
        begun = 0
        while True:  # until no more is read, as nobody takes more than the first answer
            await _settled()
            if not deciding.waiting:
                break
            assert len(deciding.waiting) <= 3
            begun += len(deciding.waiting)
            deciding.answer_all()
        assert begun == MAX_IN_FLIGHT
        assert slots._value == 3, "answers that wait to be read hold slots of others"
        got = [await first]
        while len(got) < 10 * MAX_IN_FLIGHT:
            more = asyncio.create_task(anext(answers))
            while not more.done():
                await asyncio.sleep(0)
                deciding.answer_all()
            got.append(more.result())
        assert got == [raw async for raw in _many()]
        assert [more async for more in answers] == []

    asyncio.run(asyncio.wait_for(main(), 20))


def test_a_stream_that_is_cancelled_gives_its_slots_back_as_its_questions_end() -> None:
    async def main() -> None:
        slots, deciding = asyncio.Semaphore(3), Deciding()
        stream = AnswerStream(deciding, slots)
        answers = stream.run(_many())
        waiting = asyncio.create_task(anext(answers))
        await _settled()
        assert len(deciding.waiting) == 3
        waiting.cancel()
        await _settled()
        stream.cancel()
        assert deciding.gone is not None
        assert deciding.gone.fired
        assert slots.locked(), "the questions are still being decided"
        deciding.answer_all()  # to nobody
        await _settled()
        assert (deciding.waiting, slots._value) == ([], 3)

    asyncio.run(asyncio.wait_for(main(), 20))


def test_a_stream_that_breaks_off_answers_what_it_has_asked_and_ends() -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"a"
        raise RuntimeError("the connection broke")

    async def main() -> None:
        slots, deciding = asyncio.Semaphore(3), Deciding()
        answers = AnswerStream(deciding, slots).run(broken())
        first = asyncio.create_task(anext(answers))
        await _settled()
        deciding.answer_all()
        assert await first == b"a"
        assert [more async for more in answers] == []
        assert slots._value == 3

    asyncio.run(asyncio.wait_for(main(), 20))
