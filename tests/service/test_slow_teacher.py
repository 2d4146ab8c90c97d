"""Many wait for a slow teacher at once: whom the ladder settles is answered all the same, and at once."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from cascade.client import Client, DecisionError
from cascade.config import Config
from cascade.demo.frontier import SimulatedFrontier
from cascade.server.engine import Engine
from cascade.server.serve import CascadeServer
from cascade.traffic import open_store
from cascade.v1 import decision_pb2 as pb
from cascade.v1 import decision_pb2_grpc
from tests.conftest import NODE
from tests.service.fake_engine import LONG
from tests.soon import comes

pytestmark = pytest.mark.alone

MANY = 900
"""More than a worker has threads."""


class Running:
    def __init__(self, config: Config, folder: Path, frontier: SimulatedFrontier) -> None:
        self.frontier = frontier
        self.store = open_store(f"sqlite:///{folder}/traffic.db")
        self.engine = Engine(config, self.store, refresh_seconds=0)
        self.server = CascadeServer(self.engine, "127.0.0.1:0", config.server, config.limits)
        self.target = f"127.0.0.1:{self.server.start()}"
        self.client = Client(self.target, timeout=LONG)
        # Those who wait have a connection of their own.
        self.channel = grpc.insecure_channel(self.target, [("grpc.use_local_subchannel_pool", 1)])
        self.stub = decision_pb2_grpc.DecisionServiceStub(self.channel)
        self.waiting: list[Any] = []

    def escalate(self, n: int, timeout: float | None = None) -> None:
        """Ask so many questions that only the teacher answers, and wait for none."""
        first = len(self.waiting)
        for i in range(first, first + n):
            self.waiting.append(
                self.stub.Decide.future(pb.DecideRequest(node=NODE, text=f"zzqx wvut {i}"), timeout=timeout)
            )

    def escalate_in_batches(self, n: int) -> None:
        """Likewise, each in a batch of its own."""
        first = len(self.waiting)
        for i in range(first, first + n):
            request = pb.DecideRequest(node=NODE, text=f"zzqx wvut {i}")
            self.waiting.append(self.stub.BatchDecide.future(pb.BatchDecideRequest(requests=[request])))

    def refused(self) -> list[Any]:
        """Give those of them that were refused."""
        return [
            call for call in self.waiting
            if call.done() and call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        ]  # fmt: skip

    def seconds_of(self, text: str) -> list[float]:
        """Ask a question that the ladder settles, some times; give how long each took."""
        took = []
        for _ in range(30):
            began = time.monotonic()
            assert self.client.decide(node=NODE, text=text).rung == "linear"
            took.append(time.monotonic() - began)
        return took

    def close(self) -> None:
        for call in self.waiting:
            call.cancel()
        comes(lambda: self.engine.nodes[NODE].teacher_queue.waiting == 0)
        self.channel.close()
        self.client.close()
        self.server.stop(0)
        self.engine.close()
        self.store.close()


@pytest.fixture
def start(
    models: Path, configure: Callable[..., Config], tmp_path: Path, unseen: list[dict[str, Any]]
) -> Iterator[Callable[..., Running]]:
    made: list[Running] = []

    def make(**chat: Any) -> Running:
        frontier = SimulatedFrontier({r["text"]: r["label"] for r in unseen}, latency_ms=LONG * 1000)
        settings = {"base_url": frontier.url, "timeout_seconds": 2 * LONG} | chat
        config = configure(chat=settings, server={"max_streams_per_connection": 4000})
        made.append(Running(config, tmp_path, frontier))
        return made[-1]

    yield make
    for running in made:
        running.close()
        running.frontier.close()


@pytest.fixture
def linear(unseen: list[dict[str, Any]]) -> Callable[[Running], str]:
    """Find a text that the linear rung settles."""

    def find(running: Running) -> str:
        for record in unseen:
            try:
                if running.client.decide(node=NODE, text=record["text"], timeout=0.5).rung == "linear":
                    return str(record["text"])
            except DecisionError:  # the teacher's
                continue
        raise AssertionError("the sample has such texts")

    return find


def test_waiting_for_the_teacher_takes_no_thread_from_those_that_the_ladder_settles(
    start: Callable[..., Running], linear: Callable[[Running], str]
) -> None:
    running = start()
    text = linear(running)
    alone = statistics.median(running.seconds_of(text))
    running.escalate(MANY)
    queue = running.engine.nodes[NODE].teacher_queue
    assert comes(lambda: queue.waiting == MANY - 256)
    assert statistics.median(running.seconds_of(text)) < max(0.25, 10 * alone)
    assert running.server.pool.lent < 32
    assert running.refused() == [], "nobody knows yet how slow the teacher is"
    for call in running.waiting[::2]:
        call.cancel()
    assert comes(lambda: queue.waiting == MANY // 2 - 256), "the places of those who left are others'"


def test_who_would_wait_too_long_for_the_teacher_is_refused_at_once_and_told_when_to_come_back(
    start: Callable[..., Running], linear: Callable[[Running], str]
) -> None:
    running = start(max_concurrency=8, timeout_seconds=10.0)
    text = linear(running)
    before = running.frontier.requests
    running.escalate(120)
    assert comes(lambda: running.engine.nodes[NODE].teacher_queue.waiting > 20)
    # By and by it shows how long the teacher keeps those it has.

    def refused() -> bool:
        running.escalate(1)
        return comes(running.waiting[-1].done, 0.2) and bool(running.refused())

    assert comes(refused)
    status = rpc_status.from_call(running.refused()[0])
    retry = error_details_pb2.RetryInfo()
    assert any(detail.Unpack(retry) for detail in status.details)
    assert retry.retry_delay.seconds >= 10
    running.seconds_of(text)
    assert running.frontier.requests <= before + 8


def test_who_would_be_asked_for_only_after_its_deadline_is_refused_at_once(
    start: Callable[..., Running],
) -> None:
    running = start(max_concurrency=8)
    running.escalate(48)
    queue = running.engine.nodes[NODE].teacher_queue
    assert comes(lambda: queue.waiting == 40)
    time.sleep(2.0)  # the teacher keeps those it has for that long, so that 41 cannot be through in 4 s
    began = time.monotonic()
    with pytest.raises(DecisionError) as hurried:
        running.client.decide(node=NODE, text="zzqx", timeout=4.0)
    assert hurried.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert hurried.value.retry_after_seconds is not None
    assert time.monotonic() - began < 2.0
    running.escalate(1)
    assert comes(lambda: queue.waiting == 41), "who has time may wait"


def test_batches_that_wait_for_the_teacher_leave_threads_for_those_that_the_ladder_settles(
    start: Callable[..., Running], linear: Callable[[Running], str]
) -> None:
    running = start()
    text = linear(running)
    running.escalate_in_batches(MANY)
    assert comes(lambda: len(running.refused()) > MANY - 300)
    assert running.server.pool.lent > 200
    running.seconds_of(text)
    assert len(running.refused()) < MANY - 200


def test_streams_whose_questions_wait_for_the_teacher_do_not_hold_up_others(
    start: Callable[..., Running], linear: Callable[[Running], str]
) -> None:
    running = start()
    text = linear(running)

    def question(said: str) -> Any:
        return pb.StreamDecideRequest(request=pb.DecideRequest(node=NODE, text=said))

    for i in range(8):  # of 64 each: twice as many as streams have slots
        many = [question(f"zzqx {i} {k}") for k in range(64)]
        running.waiting.append(running.stub.StreamDecide(iter(many)))
    assert comes(lambda: running.engine.nodes[NODE].teacher_queue.waiting >= 240)
    answers = running.stub.StreamDecide(iter([question(text)] * 20), timeout=LONG / 3)
    assert [answer.result.response.rung for answer in answers] == ["linear"] * 20


def test_those_who_follow_one_who_leaves_wait_in_no_thread(
    start: Callable[..., Running], linear: Callable[[Running], str]
) -> None:
    running = start()
    text = linear(running)
    request = pb.DecideRequest(node=NODE, text="zzqx wvut", request_id="once")
    first = running.stub.Decide.future(request)
    assert comes(lambda: running.frontier.requests >= 1)
    before = running.frontier.requests
    running.waiting += [running.stub.Decide.future(request) for _ in range(MANY)]
    # The connection is shared, so that when this one is answered the server has read those before it.
    settled = pb.DecideRequest(node=NODE, text=text)
    assert running.stub.Decide(settled, timeout=LONG).rung == "linear"
    first.cancel()
    assert comes(lambda: running.frontier.requests == before + 1), "one of the others asks, for all"
    time.sleep(0.5)
    assert running.server.pool.lent < 32
    running.seconds_of(text)
    assert running.frontier.requests == before + 1
