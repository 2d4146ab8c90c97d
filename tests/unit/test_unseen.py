"""Calls that gRPC ended before a handler saw them are counted: never too many, and in the end all."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.observe.failures import Failures
from cascade.server.unseen import Unseen, counting

DETAILS: Any = None
KEY = ("unseen", "CANCELLED", "unseen")
WAIT = 3.0


class World:
    """A server whose event loop takes calls when it is told to, as gRPC's core lets it.

    One call is handed over and not looked at yet. The others wait, and those that did so for `WAIT` seconds
    are ended when the event loop asks for the next one, not before.
    """

    def __init__(self) -> None:
        self.now, self.begun, self.lost = 100.0, 0, 0
        self.looks: list[float] = []
        self.handed = False
        self.waiting: deque[float] = deque()
        self.failures = Failures()
        self.soon: list[Callable[[], None]] = []
        self.in_a_pause: list[Callable[[World], None]] = []
        self.unseen = Unseen(
            self.calls, WAIT, self.soon.append, self.failures, 2.0, lambda: self.now, self.pause
        )

    def calls(self) -> int:
        self.looks.append(self.now)
        return self.begun

    def arrive(self) -> None:
        self.begun += 1
        self.waiting.append(self.now)
        self.hand_over()

    def hand_over(self) -> None:
        if not self.handed and self.waiting:
            self.waiting.popleft()
            self.handed = True

    def pause(self, seconds: float) -> None:
        self.wait(seconds)
        for step in self.in_a_pause:
            step(self)

    def go_round(self) -> None:
        for _ in range(len(self.soon)):
            self.soon.pop(0)()
        if self.handed:
            assert self.unseen.service(DETAILS) is None, "the other handlers are asked next"
            self.handed = False
            while self.waiting and self.waiting[0] <= self.now - WAIT:
                self.waiting.popleft()
                self.lost += 1
            self.hand_over()

    def go_away(self) -> None:
        if self.waiting:
            self.waiting.pop()
            self.lost += 1

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def counted(self) -> int:
        self.unseen.look()
        return self.failures.counts().get(KEY, 0)


def test_what_is_seen_is_not_counted_and_what_waited_too_long_is() -> None:
    world = World()
    for _ in range(8):
        world.arrive()
    for _ in range(3):
        world.go_round()
    for _ in range(5):
        assert world.counted() == 0, "one is handed over, four wait, and the event loop stands still"
        world.wait(2.5)
    for _ in range(4):
        world.go_round()
        world.wait(2.5)
        told = world.counted()
    assert told == world.lost == 4


def test_what_was_lost_is_told_soon_although_calls_keep_coming() -> None:
    world = World()
    for _ in range(12):
        world.arrive()
    world.wait(WAIT + 1.0)
    while world.handed:
        world.go_round()
    assert world.lost == 11
    told = []
    for _ in range(200):  # as many calls as looks, and each look has a pause
        world.arrive()
        world.go_round()
        world.in_a_pause = [World.go_round] * 12
        told.append(world.counted())
        world.wait(0.1)
    assert told.index(11) < 30
    assert told[-1] == 11


def test_a_pause_in_which_a_call_comes_or_is_seen_or_the_loop_stands_still_tells_nothing() -> None:
    rounds = [World.go_round] * 12
    for in_a_pause in ([World.arrive, *rounds], rounds, [], [World.go_round] * 5):
        world = World()
        world.counted()
        for _ in range(3):
            world.arrive()
        world.wait(2.5)
        assert world.counted() == 0
        world.in_a_pause = list(in_a_pause)
        world.wait(0.1)
        assert world.counted() == 0
        assert world.lost == 0


def test_it_looks_no_more_often_than_every_two_seconds() -> None:
    world = World()
    for now in (100.0, 100.1, 101.9, 102.0, 103.9, 104.5):
        world.now = now
        world.unseen.look()
    assert world.looks == [100.0, 102.0, 104.5]


def test_it_looks_no_more_once_it_is_closed() -> None:
    world = World()
    world.unseen.look()
    world.unseen.close()
    world.wait(2.5)
    world.unseen.look()
    assert world.looks == [100.0]


def test_an_idle_server_keeps_no_memory_of_its_looks() -> None:
    world = World()
    for _ in range(100):
        world.wait(2.5)
        world.unseen.look()
        world.go_round()
    assert len(world.unseen._looks) <= 5


STEPS = st.sampled_from([World.arrive, World.arrive, World.go_round, World.go_away])
PAUSES = st.lists(STEPS, max_size=2) | st.integers(0, 20).map(lambda rounds: [World.go_round] * rounds)


@given(st.lists(STEPS | PAUSES | st.floats(0.1, 9.0), max_size=80))
def test_it_never_counts_too_many_and_in_the_end_all(steps: list[Any]) -> None:
    world = World()
    world.counted()
    for step in steps:
        if isinstance(step, float):
            world.wait(step)
            assert world.counted() <= world.lost
        elif isinstance(step, list):
            world.in_a_pause = step
            assert world.counted() <= world.lost
        else:
            step(world)
    for _ in range(8):
        while world.handed or world.soon:
            world.go_round()
        world.wait(2.5)
        assert world.counted() <= world.lost
    assert world.counted() == world.lost


def _server() -> Any:
    return grpc.server(ThreadPoolExecutor(1))


def test_a_server_s_calls_are_told_from_those_of_others() -> None:
    other, (server, begun) = _server(), counting(_server)
    ports = [each.add_insecure_port("127.0.0.1:0") for each in (other, server)]
    for each in (other, server):
        each.start()
    for port, times in zip(ports, (3, 2), strict=True):
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            for _ in range(times):
                with pytest.raises(grpc.RpcError):
                    channel.unary_unary("/x/y")(b"", timeout=30)
    assert begun() == 2
    for each in (other, server):
        each.stop(None)


def test_where_it_cannot_be_told_which_server_it_is_nothing_is_counted() -> None:
    made: list[Any] = []

    def make() -> Any:
        made.append((_server(), _server()))
        return made[-1]

    server, begun = counting(make)
    assert server is made[-1]
    assert begun() == 0
