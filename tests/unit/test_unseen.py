"""Calls that gRPC ended before a handler saw them are counted: never too many, and in the end all."""

from collections import deque
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
    """A server whose calls wait for `WAIT` seconds at most."""

    def __init__(self) -> None:
        self.now, self.begun, self.lost = 100.0, 0, 0
        self.looks: list[float] = []
        self.waiting: deque[float] = deque()
        self.failures = Failures()
        self.unseen = Unseen(self.calls, WAIT, self.failures, 2.0, lambda: self.now)

    def calls(self) -> int:
        self.looks.append(self.now)
        return self.begun

    def arrive(self) -> None:
        self.begun += 1
        self.waiting.append(self.now)

    def see(self) -> None:
        if self.waiting:
            self.waiting.popleft()
            assert self.unseen.service(DETAILS) is None, "the other handlers are asked next"

    def end_unseen(self) -> None:
        if self.waiting:
            self.waiting.pop()
            self.lost += 1

    def wait(self, seconds: float) -> None:
        self.now += seconds
        while self.waiting and self.waiting[0] <= self.now - WAIT:
            self.waiting.popleft()
            self.lost += 1

    def counted(self) -> int:
        self.unseen.look()
        return self.failures.counts().get(KEY, 0)


def test_what_is_seen_is_not_counted_and_what_waited_too_long_is() -> None:
    world = World()
    for _ in range(8):
        world.arrive()
    for _ in range(3):
        world.see()
    assert world.counted() == 0, "five wait"
    world.wait(2.5)
    assert world.counted() == 0
    world.wait(2.5)
    assert world.counted() == world.lost == 5
    world.wait(2.5)
    assert world.counted() == 5


def test_it_looks_no_more_often_than_every_two_seconds() -> None:
    world = World()
    for now in (100.0, 100.1, 101.9, 102.0, 103.9, 104.5):
        world.now = now
        world.unseen.look()
    assert world.looks == [100.0, 102.0, 104.5]


STEPS = st.sampled_from([World.arrive, World.arrive, World.see, World.end_unseen])


@given(st.lists(STEPS | st.floats(0.1, 5.0), max_size=80))
def test_it_never_counts_too_many_and_in_the_end_all(steps: list[Any]) -> None:
    world = World()
    world.counted()
    for step in steps:
        if isinstance(step, float):
            world.wait(step)
            assert world.counted() <= world.lost
        else:
            step(world)
    for _ in range(4):
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
