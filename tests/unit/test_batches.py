"""Who is decided together with whom, and who does not have to wait for whom."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

import cascade.server.batches as batches_module
from cascade.ask import Ask, Decided
from cascade.errors import CascadeError, Overloaded, TeacherUnavailable
from cascade.event_loop import BackgroundLoop
from cascade.server.batches import MOST, MOST_OF_MANY, Batches
from cascade.server.gone import CallerGone, Gone
from cascade.server.pool import ElasticPool
from cascade.server.status import Internal

LONG = 30.0


class Engine:
    """Decides by what a question's text says, and keeps whom it decided together."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.entered, self.go = threading.Semaphore(0), threading.Event()
        self.taught = threading.Event()

    def alone(self, node: str) -> bool:
        return node == "alone"

    def decide_each(
        self,
        asks: Sequence[Ask],
        tell: Callable[[int, Decided | CascadeError], object],
        later: Callable[[Callable[[], None]], object],
        slow: Callable[[], object] = lambda: None,
    ) -> None:
        self.batches.append([ask.text for ask in asks])
        for i, ask in enumerate(asks):
            if ask.text == "raise":
                raise KeyError("unforeseen")
            if ask.text in ("hang", "slow"):
                if ask.text == "slow":
                    slow()
                self.entered.release()
                assert self.go.wait(LONG)
            if ask.text == "slow as the teacher":
                slow()
                assert self.taught.wait(LONG)
            if ask.text == "teacher":

                def waits(i: int = i) -> None:
                    assert self.taught.wait(LONG)
                    tell(i, _decided("by teacher"))

                later(waits)
            else:
                tell(i, _decided(ask.text))


def _decided(text: str) -> Decided:
    return Decided("d-1", text, "linear", 0.9, "b", "live", ())


class World:
    def __init__(self, stall_seconds: float = LONG, **bounds: Any) -> None:
        self.engine = Engine()
        self.loop = BackgroundLoop("test-batches")
        self.pool = ElasticPool(threads=4, stall_seconds=0.01)
        self.told: dict[int, str | CascadeError] = {}
        self.changed = threading.Condition()
        self.batches = Batches(
            self.engine, self.pool, self.loop.running, stall_seconds=stall_seconds, **bounds  # type: ignore[arg-type]
        )  # fmt: skip

    def put(self, *texts: str, node: str = "intent", gone: Gone | None = None, tenant: str = "") -> list[int]:
        """Ask, all in one turn of the loop; gives numbers by which `told` has the answers."""

        async def put_all() -> list[int]:
            numbers = []
            for text in texts:
                numbers.append(len(self.numbers))
                self.numbers.append(text)
                ask = Ask(node, text, context={"tenant": tenant} if tenant else {}, gone=gone)
                self.batches.put(ask, self._tell(numbers[-1]))
            return numbers

        return self.loop.start(put_all()).result(LONG)

    numbers: list[str]

    def _tell(self, number: int) -> Callable[[Decided | CascadeError], None]:
        def tell(result: Decided | CascadeError) -> None:
            with self.changed:
                assert number not in self.told, "told twice"
                self.told[number] = str(result.output) if isinstance(result, Decided) else result
                self.changed.notify_all()

        return tell

    def answers(self, numbers: Sequence[int]) -> list[str | CascadeError]:
        with self.changed:
            assert self.changed.wait_for(lambda: all(n in self.told for n in numbers), LONG)
        return [self.told[n] for n in numbers]

    def close(self) -> None:
        self.engine.go.set()
        self.engine.taught.set()
        self.pool.shutdown(wait=False)


@pytest.fixture
def make() -> Iterator[Callable[..., World]]:
    made: list[World] = []

    def build(**settings: Any) -> World:
        made.append(World(**settings))
        made[-1].numbers = []
        return made[-1]

    yield build
    for world in made:
        world.close()


def test_who_comes_while_others_are_decided_is_decided_together_with_whoever_else_comes(
    make: Callable[..., World],
) -> None:
    world = make()
    first = world.put("hang")
    assert world.engine.entered.acquire(timeout=LONG)
    rest = world.put("a", "b") + world.put("c")
    assert world.batches.waiting == 3
    world.engine.go.set()
    assert world.answers(first + rest) == ["hang", "a", "b", "c"]
    assert world.engine.batches == [["hang"], ["a", "b", "c"]]


def test_a_batch_is_bounded(make: Callable[..., World]) -> None:
    world = make()
    world.put("hang")
    assert world.engine.entered.acquire(timeout=LONG)
    many = world.put(*map(str, range(2 * MOST + 1)))
    world.engine.go.set()
    assert world.answers(many) == [str(i) for i in range(2 * MOST + 1)]
    assert [len(batch) for batch in world.engine.batches] == [1, MOST, MOST, 1]


def test_of_many_that_wait_half_are_decided_together_up_to_a_bound(make: Callable[..., World]) -> None:
    world = make()
    world.put("hang")
    assert world.engine.entered.acquire(timeout=LONG)
    many = world.put(*map(str, range(1300)))
    world.engine.go.set()
    assert world.answers(many) == [str(i) for i in range(1300)]
    assert MOST_OF_MANY == 256
    assert [len(batch) for batch in world.engine.batches] == [1, 256, 256, 256, 256, 138, MOST, 10]


def test_a_tenant_that_asks_much_does_not_hold_up_another(make: Callable[..., World]) -> None:
    world = make()
    world.put("hang")
    assert world.engine.entered.acquire(timeout=LONG)
    many = world.put(*map(str, range(1000)), tenant="greedy")
    few = world.put("few 1", "few 2", tenant="modest")
    world.engine.go.set()
    assert world.answers(many + few)[-2:] == ["few 1", "few 2"]
    assert world.engine.batches[1][:5] == ["0", "few 1", "1", "few 2", "2"]
    assert [text for batch in world.engine.batches[1:] for text in batch if text.isdecimal()] == [
        str(i) for i in range(1000)
    ]


def test_the_next_batch_does_not_wait_for_the_slow_part_of_this_one(make: Callable[..., World]) -> None:
    world = make()
    slow = world.put("slow")
    assert world.engine.entered.acquire(timeout=LONG)
    assert world.answers(world.put("fast")) == ["fast"]
    assert slow[0] not in world.told
    world.engine.go.set()
    assert world.answers(slow) == ["slow"]


def test_nobody_waits_for_anothers_teacher(make: Callable[..., World]) -> None:
    world = make()
    world.put("hang")
    assert world.engine.entered.acquire(timeout=LONG)
    taught, fast = world.put("teacher", "fast")
    world.engine.go.set()
    assert world.answers([fast]) == ["fast"]
    assert world.answers(world.put("next")) == ["next"]
    assert taught not in world.told
    world.engine.taught.set()
    assert world.answers([taught]) == ["by teacher"]


def test_a_batch_that_hangs_loses_its_turn(make: Callable[..., World]) -> None:
    world = make(stall_seconds=0.02)
    hung = world.put("hang")
    assert world.engine.entered.acquire(timeout=LONG)
    assert world.answers(world.put("fast")) == ["fast"]
    world.engine.go.set()
    assert world.answers(hung) == ["hang"]
    assert world.answers(world.put("after")) == ["after"]


def test_one_that_lost_its_turn_does_not_let_two_others_be_decided_at_once(
    make: Callable[..., World],
) -> None:
    world = make(stall_seconds=0.02)
    batches, turns = world.batches, []

    async def late() -> None:
        batches._busy, batches._turn = True, 7
        batches._queue.put(0, "", (Ask("intent", "x"), lambda result: None))
        batches._passed(6)
        batches._gather(6)
        turns.append((batches._turn, len(batches._queue)))
        batches._passed(7)
        turns.append((batches._turn, len(batches._queue)))

    world.loop.start(late()).result(LONG)
    assert turns == [(7, 1), (8, 0)]


def test_questions_to_nodes_that_may_hang_are_decided_each_on_its_own(make: Callable[..., World]) -> None:
    world = make()
    hung = world.put("hang", "hang", node="alone")
    for _ in hung:
        assert world.engine.entered.acquire(timeout=LONG)
    assert world.answers(world.put("a", "b", node="alone")) == ["a", "b"]
    assert sorted(world.engine.batches) == [["a"], ["b"], ["hang"], ["hang"]]


@pytest.mark.parametrize("node", ["intent", "alone"])
def test_who_left_is_not_decided(make: Callable[..., World], node: str) -> None:
    world = make()
    world.put("hang")
    assert world.engine.entered.acquire(timeout=LONG)
    gone = Gone()
    gone.fire()
    left = world.put("left", node=node, gone=gone)
    world.engine.go.set()
    [told] = world.answers(left)
    assert isinstance(told, CallerGone)
    assert world.answers(world.put("on")) == ["on"]
    assert ["left"] not in world.engine.batches


def test_an_engine_that_raises_leaves_nobody_waiting(make: Callable[..., World]) -> None:
    world = make()
    world.put("hang")
    assert world.engine.entered.acquire(timeout=LONG)
    some = world.put("a", "raise", "b")
    world.engine.go.set()
    first, second, third = world.answers(some)
    assert first == "a"
    assert isinstance(second, Internal)
    assert isinstance(third, Internal)
    assert world.answers(world.put("on")) == ["on"]


def test_too_long_a_queue_takes_nobody_more(make: Callable[..., World]) -> None:
    world = make(max_waiting=2)
    world.put("hang")
    assert world.engine.entered.acquire(timeout=LONG)
    waiting = world.put("a", "b", "c")
    with pytest.raises(Overloaded) as refused:
        world.put("d")
    assert refused.value.retry_after is not None
    world.engine.go.set()
    assert world.answers(waiting) == ["a", "b", "c"]


def test_the_queue_is_as_long_as_what_can_be_decided_in_time(make: Callable[..., World]) -> None:
    world = make(max_waiting=1000, max_waiting_seconds=0.5)
    batches = world.batches

    async def measure() -> None:
        for _ in range(100):
            batches._keep_pace(200.0)

    world.loop.start(measure()).result(LONG)
    assert batches.bound == 100


def test_the_pace_counts_what_the_loop_does_between_batches(
    make: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make(max_waiting_seconds=2.0)
    batches, passed = world.batches, world.batches._passed
    now = [1000.0]
    monkeypatch.setattr(batches_module.time, "monotonic", lambda: now[0])

    def slowly(turn: int) -> None:
        now[0] += 0.5  # as if calls were read and answered meanwhile
        passed(turn)

    monkeypatch.setattr(batches, "_passed", slowly)
    world.put("hang")
    assert world.engine.entered.acquire(timeout=LONG)
    many = world.put(*map(str, range(1300)))
    assert batches.bound == 4096
    world.engine.go.set()
    world.answers(many)
    assert [len(batch) for batch in world.engine.batches[:5]] == [1, 256, 256, 256, 256]
    # Five of 512 a second, one of 276: the last batch that left some waiting had 128, of 256 a second.
    assert 2 * 400 < batches.bound < 2 * 512
    assert batches.expected_seconds == 0.0


def test_after_the_pool_has_ended_a_question_is_refused_and_none_is_lost(make: Callable[..., World]) -> None:
    world = make()
    world.put("hang")
    assert world.engine.entered.acquire(timeout=LONG)
    waiting = world.put("a")
    world.pool.shutdown(wait=False)
    world.engine.go.set()
    [told] = world.answers(waiting)
    assert isinstance(told, TeacherUnavailable)
    with pytest.raises(TeacherUnavailable):
        world.put("late", node="alone")


def test_a_closed_loop_is_survived() -> None:
    loop = asyncio.new_event_loop()
    pool = ElasticPool(threads=1, stall_seconds=LONG)
    batches = Batches(Engine(), pool, loop)  # type: ignore[arg-type]
    loop.close()
    batches._soon(batches._look)
    pool.shutdown()


def test_nobody_waits_for_the_slow_part_of_another_node_in_the_same_batch(
    make: Callable[..., World],
) -> None:
    world = make()
    world.put("hang")
    assert world.engine.entered.acquire(timeout=LONG)
    slow = world.put("slow as the teacher", "same")
    others = world.put("b", node="second") + world.put("c", node="third")
    world.engine.go.set()
    assert world.answers(others) == ["b", "c"]
    assert not world.told.keys() & set(slow)
    world.engine.taught.set()
    assert world.answers(slow) == ["slow as the teacher", "same"]
    world.pool.shutdown(wait=True)
    decided = [text for batch in world.engine.batches for text in batch]
    assert sorted(decided) == ["b", "c", "hang", "same", "slow as the teacher"], "each of them once"


def test_nobody_is_told_twice_where_an_engine_raises(make: Callable[..., World]) -> None:
    world = make()
    world.put("hang")
    assert world.engine.entered.acquire(timeout=LONG)
    told: list[Decided | CascadeError] = []

    async def put() -> None:
        world.batches.put(Ask("intent", "teacher"), told.append)

    world.loop.start(put()).result(LONG)
    failed = world.put("raise")
    world.engine.go.set()
    world.answers(failed)
    world.engine.taught.set()
    world.pool.shutdown(wait=True)
    assert [type(result) for result in told] == [Internal]
