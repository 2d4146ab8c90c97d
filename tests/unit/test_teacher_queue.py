"""How long one would wait for the teacher, and who is refused for it."""

from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from cascade.ask import Ask
from cascade.errors import Overloaded
from cascade.rungs.protocol import Answer
from cascade.server import teacher_queue as module
from cascade.server.local import Walk
from cascade.server.teacher import Asked, ask_teacher
from cascade.server.teacher_queue import TeacherQueue


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


def fill(queue: TeacherQueue, most: int = 100_000, tenant: str = "") -> int:
    """Ask until one is refused; give how many were not."""
    for n in range(most):
        try:
            queue.enter(tenant=tenant)
        except Overloaded:
            return n
    return most


def test_as_many_wait_as_get_a_place_in_time_at_the_pace_of_the_last_answers(clock: Clock) -> None:
    queue = TeacherQueue("n", places=4, patience=10.0)
    numbers = [queue.enter() for _ in range(4)]
    clock.now += 2.0
    for number in numbers:  # an answer takes 2 s
        queue.leave(number)
    assert fill(queue) == 4 + 20  # 2 of them a second
    with pytest.raises(Overloaded) as refused:
        queue.enter()
    assert refused.value.retry_after == pytest.approx(10.5)


def test_a_teacher_that_answers_nobody_shows_how_slow_it_is_by_that(clock: Clock) -> None:
    queue = TeacherQueue("n", places=4, patience=10.0)
    numbers = [queue.enter() for _ in range(4)]
    clock.now += 0.01
    for number in numbers:
        queue.leave(number)
    for _ in range(104):
        queue.enter()
    clock.now += 1.0  # all four have waited a hundred times as long as is usual
    with pytest.raises(Overloaded):
        queue.enter()


def test_one_slow_answer_among_many_fast_ones_refuses_nobody(clock: Clock) -> None:
    queue = TeacherQueue("n", places=20, patience=10.0)
    queue.enter()  # hangs
    for _ in range(100):
        numbers = [queue.enter() for _ in range(19)]
        clock.now += 0.1
        for number in numbers:
            queue.leave(number)
    assert fill(queue) > 200


def test_whose_deadline_comes_before_its_place_is_refused(clock: Clock) -> None:
    queue = TeacherQueue("n", places=1, patience=60.0)
    first = queue.enter()
    clock.now += 3.0
    queue.leave(first)
    queue.enter(deadline=clock.now + 0.1)  # there is a place
    with pytest.raises(Overloaded):
        queue.enter(deadline=clock.now + 2.9)
    queue.enter(deadline=clock.now + 3.1)


def test_while_nobody_knows_how_long_an_answer_takes_many_may_wait(clock: Clock) -> None:
    assert fill(TeacherQueue("n", places=4, patience=1.0)) == 4 + module.MOST


def test_places_go_to_those_who_wait_in_their_order_and_none_is_lost(clock: Clock) -> None:
    queue = TeacherQueue("n", places=2, patience=60.0)
    a, b, c, d, e = (queue.enter() for _ in range(5))
    assert queue.waiting == 3
    queue.leave(d)  # went away while it waited
    queue.leave(a)
    assert queue.waiting == 1
    for number in (b, c, e):
        queue.leave(number)
    assert queue.waiting == 0
    assert queue._asked == {}
    assert queue._asked_sum == pytest.approx(0.0)


@pytest.mark.parametrize(("seconds", "by_deadline"), [(3.0, True), (1000.0, False), (None, False)])
def test_more_time_helps_who_would_have_waited_no_longer_than_anybody_may(
    clock: Clock, seconds: float | None, by_deadline: bool
) -> None:
    queue = TeacherQueue("n", places=1, patience=10.0)
    number = queue.enter()
    clock.now += 2.0
    queue.leave(number)
    queue.enter()
    while seconds is None or seconds >= 10 or queue.waiting < 2:
        try:
            queue.enter()
        except Overloaded:
            break
    with pytest.raises(Overloaded) as refused:
        queue.enter(None if seconds is None else clock.now + seconds)
    assert refused.value.by_deadline == by_deadline


def test_tenants_get_places_in_turn_and_each_its_own_in_their_order(clock: Clock) -> None:
    queue = TeacherQueue("n", places=1, patience=60.0)
    begun: list[str] = []

    def ask(name: str) -> int:
        return queue.enter(tenant=name[0], begin=lambda: begun.append(name))

    numbers = {name: ask(name) for name in ("g1", "g2", "g3", "g4", "m1", "m2", "g5", "k1")}
    assert begun == ["g1"]
    queue.leave(numbers.pop("k1"))  # went away while it waited
    while numbers:
        queue.leave(numbers.pop(begun[-1]))
    assert begun == ["g1", "g2", "m1", "g3", "m2", "g4", "g5"]
    assert queue.waiting == 0
    assert not queue._waiting


def test_who_asks_much_is_refused_for_its_own_and_not_another(clock: Clock) -> None:
    queue = TeacherQueue("n", places=4, patience=10.0)
    for number in [queue.enter(tenant="greedy") for _ in range(4)]:
        clock.now += 0.5
        queue.leave(number)
    for _ in range(4):
        queue.enter(tenant="greedy")
    clock.now += 1.0
    assert fill(queue, tenant="greedy") == 40  # a place is kept for 1 s
    queue.enter(tenant="modest", deadline=clock.now + 0.9)  # the second in turn
    with pytest.raises(Overloaded):
        queue.enter(tenant="modest", deadline=clock.now + 0.9)  # the fourth
    queue.enter(tenant="modest")


def test_of_many_that_may_wait_each_tenant_has_a_share(clock: Clock) -> None:
    queue = TeacherQueue("n", places=1, patience=10.0)
    queue.enter(tenant="greedy")
    for _ in range(module.MOST):
        queue.enter(tenant="greedy")
    with pytest.raises(Overloaded):
        queue.enter(tenant="greedy")
    for _ in range(module.MOST // 2):
        queue.enter(tenant="modest")
    with pytest.raises(Overloaded):
        queue.enter(tenant="modest")


def test_who_makes_up_a_tenant_for_each_question_does_not_wait_without_end(clock: Clock) -> None:
    queue = TeacherQueue("n", places=1, patience=10.0)
    queue.enter()
    for i in range(2 * module.MOST):
        queue.enter(tenant=f"t{i}")
    with pytest.raises(Overloaded):
        queue.enter(tenant="one more")
    assert queue.waiting == 2 * module.MOST


def test_answers_that_are_there_at_once_do_not_nest(clock: Clock) -> None:
    queue = TeacherQueue("n", places=1, patience=1e9)
    left: list[int] = []
    numbers: list[int] = []

    def begin() -> None:
        left.append(numbers[len(left) + 1])
        queue.leave(left[-1])

    numbers.append(queue.enter())
    numbers += [queue.enter(begin=begin) for _ in range(3000)]
    queue.leave(numbers[0])
    assert left == numbers[1:]
    assert queue._asked == {}


def test_a_call_that_ends_with_an_exception_gives_its_place_back_and_is_told() -> None:
    call: Future[Answer] = Future()
    teacher = SimpleNamespace(name="frontier", submit=lambda query: call)
    queue = TeacherQueue("n", places=1, patience=10.0)
    node: Any = SimpleNamespace(
        teacher=teacher, teacher_queue=queue, quotas=None, latency={"frontier": None}, name="n"
    )
    started = ask_teacher(node, Ask("n", "a"), Walk())
    assert isinstance(started, Asked)
    assert started.answer is not None
    begun: list[str] = []
    queue.enter(begin=lambda: begun.append("next"))
    call.set_exception(RuntimeError("a bug"))
    assert begun == ["next"]
    assert isinstance(started.answer.exception(timeout=0), RuntimeError)
