"""Calls that wait in gRPC because the event loop takes none in: bounded, ended, counted, and made again."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import grpc
import pytest

from cascade.client import DecisionError
from cascade.client.probe import probe
from cascade.event_loop import GRPC
from cascade.observe.failures import UNSEEN, failures
from cascade.rollout.calls import RolloutCalls
from cascade.server.grpc_options import bounds_what_waits
from cascade.server.prefetch import AHEAD, known
from cascade.v1 import decision_pb2 as pb
from tests.service.fake_engine import LONG, Running
from tests.soon import comes

pytestmark = pytest.mark.alone

ENDED = (UNSEEN, "CANCELLED", UNSEEN)

ASKED = AHEAD if known() else 1
"""Calls that gRPC was asked for before the loop stood still, give or take one: they do not wait in it."""


@contextmanager
def standing_still(**config: int) -> Iterator[tuple[Running, threading.Event]]:
    """Serve, with an event loop that takes no call in until the event is set."""
    running = Running(**config)
    began, go = threading.Event(), threading.Event()
    try:
        running.client.decide(node="intent", text="refund")
        GRPC.running.call_soon_threadsafe(lambda: (began.set(), go.wait(LONG)))
        assert began.wait(LONG)
        yield running, go
    finally:
        go.set()
        running.close()


def begin(running: Running, calls: int) -> list[Any]:
    """Begin so many calls at once, with a client that makes none again."""
    decide = running.channel.unary_unary("/cascade.v1.DecisionService/Decide")
    asked = pb.DecideRequest(node="intent", text="refund").SerializeToString()
    return [decide.future(asked, timeout=LONG) for _ in range(calls)]


def test_what_waits_in_grpc_too_long_is_ended_and_counted_and_what_came_later_is_answered() -> None:
    with standing_still(max_unseen_seconds=1) as (running, go):
        before = failures.counts().get(ENDED, 0)
        early = begin(running, ASKED + 7)
        time.sleep(1.6)  # gRPC's clock: it is what is tested
        late = begin(running, 4)
        time.sleep(0.2)
        go.set()
        codes = [call.code() for call in early]
        assert codes.count(grpc.StatusCode.CANCELLED) >= 6
        assert [call.code() for call in late] == [grpc.StatusCode.OK] * 4
        ended = codes.count(grpc.StatusCode.CANCELLED)
        assert comes(lambda: failures.counts().get(ENDED, 0) - before >= ended)
        assert failures.counts()[ENDED] - before == ended


def begun_in(running: Running) -> int:
    """Give how many calls a server's core has had."""
    return int(running.server._unseen._begun())


def rollouts_of(target: str) -> str:
    """Ask a server that has no service of rollouts for one, and give the error's name."""
    with RolloutCalls(target, timeout=LONG) as calls:
        try:
            calls.status("intent")
        except grpc.RpcError as error:
            return str(error.code().name)
    return ""


@pytest.mark.skipif(
    not bounds_what_waits(), reason=f"grpcio {grpc.__version__} does not bound what waits in it; 1.82 does"
)
def test_more_than_may_wait_in_grpc_is_refused_there_at_once_and_counted() -> None:
    with ThreadPoolExecutor(3) as patient, standing_still(max_unseen=100) as (running, go):
        before = failures.counts().get(ENDED, 0)
        calls = begin(running, ASKED + 149)
        assert comes(lambda: sum(call.done() for call in calls) >= 48)
        assert not comes(lambda: sum(call.done() for call in calls) > 50, 0.5)
        refused = [call for call in calls if call.done()]
        assert {call.code() for call in refused} == {grpc.StatusCode.CANCELLED}
        before_them = begun_in(running)
        waiting = [
            patient.submit(running.client.decide, node="intent", text="refund"),
            patient.submit(probe, running.target, LONG),
            patient.submit(rollouts_of, running.target),
        ]
        assert comes(lambda: begun_in(running) >= before_them + 12), "they are asked again and again"
        assert not any(each.done() for each in waiting)
        go.set()
        decided, health, said = [each.result(LONG) for each in waiting]
        assert (decided.label, health, said) == ("REFUND", "SERVING", "UNIMPLEMENTED")
        assert {call.code() for call in calls if call not in refused} == {grpc.StatusCode.OK}
        assert comes(lambda: failures.counts().get(ENDED, 0) - before > len(refused))


def test_a_server_that_was_stopped_is_not_asked_what_it_left_unseen() -> None:
    running = Running()
    running.close()
    unseen, asked = running.server._unseen, list[str]()
    unseen._looks.clear()
    unseen._begun = lambda: len(asked.append("asked") or asked)
    unseen.look()
    assert asked == []


def test_no_call_that_is_seen_counts_as_unseen() -> None:
    running = Running(max_unseen_seconds=1)
    before = failures.counts().get(ENDED, 0)
    try:
        for text in ("refund", "boom"):
            with suppress(DecisionError):
                running.client.decide(node="intent", text=text)
        with suppress(DecisionError):
            running.client.decide(node="nobody", text="x")
        for method in ("/cascade.v1.DecisionService/Nothing", "/x/y", "/grpc.health.v1.Health/Check"):
            with suppress(grpc.RpcError):
                running.channel.unary_unary(method)(b"", timeout=LONG)
        unseen = running.server._unseen
        assert comes(
            lambda: unseen._looks and unseen._looks[0][1] >= 6 and unseen._looks[0][0] <= unseen._sure - 2.0
        )
        time.sleep(2.5)  # one look more
        assert failures.counts().get(ENDED, 0) == before
    finally:
        running.close()
