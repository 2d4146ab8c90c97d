"""A failed call gives its place on the connection back at once, not when the garbage collector comes."""

import gc
from collections.abc import Iterator
from typing import Any, cast

import grpc
import pytest

from cascade.observe.ended import Ended
from cascade.observe.traces import Traces
from cascade.v1 import decision_pb2 as pb
from tests.service.fake_engine import LONG


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Kept:
    """In place of the queue of spans."""

    def __init__(self) -> None:
        self.ended: list[Ended] = []

    def put(self, *ended: Ended) -> None:
        self.ended += ended


@pytest.mark.parametrize("text", ["", "teacher is down"], ids=["malformed question", "no answer"])
def test_so_does_one_that_comes_from_its_callers_trace(own, no_collector: None, text: str) -> None:
    kept = Kept()
    running = own(traces=Traces(cast(Any, kept)), max_streams_per_connection=20)
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    for _ in range(100):
        with pytest.raises(grpc.RpcError) as caught:
            running.stub.Decide(
                pb.DecideRequest(node="intent", text=text), metadata=[("traceparent", parent)], timeout=LONG
            )
        assert "RST_STREAM" not in caught.value.details()
    assert [ended.parent for ended in kept.ended] == [parent[36:52]] * (100 if text else 0)


@pytest.mark.parametrize(
    ("name", "request_"),
    [
        ("ReportOutcome", pb.ReportOutcomeRequest()),
        ("ReportOutcome", pb.ReportOutcomeRequest(decision_id="unknown")),
        ("Decide", pb.DecideRequest()),
        ("Decide", pb.DecideRequest(node="intent", text="teacher is down")),
    ],
    ids=["malformed outcome", "unknown decision", "malformed question", "no answer"],
)
def test_a_connection_takes_calls_after_more_failed_ones_than_it_may_have_under_way(
    own, no_collector: None, name: str, request_: object
) -> None:
    running = own(max_streams_per_connection=20)
    codes = set()
    for _ in range(100):
        with pytest.raises(grpc.RpcError) as caught:
            getattr(running.stub, name)(request_, timeout=LONG)
        codes.add(caught.value.details()[:30])
    assert len(codes) == 1
    assert "RST_STREAM" not in codes.pop()


def test_refused_calls_give_their_place_back_at_once(own, no_collector: None) -> None:
    running = own(max_streams_per_connection=20)
    running.server.batches.bound = -1
    for _ in range(100):
        with pytest.raises(grpc.RpcError) as caught:
            running.stub.Decide(pb.DecideRequest(node="intent", text="x"), timeout=LONG)
        assert caught.value.details() == "too many calls wait already; try again later"
    running.server.batches.bound = 100
    assert running.client.decide(node="intent", text="on").label == "ON"


@pytest.mark.parametrize("how", ["ended", "cancelled", "refused"])
def test_a_stream_that_is_over_gives_its_place_back_at_once(own, no_collector: None, how: str) -> None:
    running = own(max_streams_per_connection=20)
    if how == "refused":
        running.server.batches.bound = -1
    question = pb.StreamDecideRequest(request=pb.DecideRequest(node="intent", text="x"))
    for _ in range(100):
        call = running.stub.StreamDecide(iter([question]), timeout=LONG)
        if how == "refused":
            assert call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            continue
        assert next(call).result.response.label == "X"
        if how == "cancelled":
            call.cancel()
        else:
            assert list(call) == []


@pytest.mark.parametrize("how", ["cancelled", "too late"])
def test_a_call_that_was_not_waited_for_gives_its_place_back_at_once(
    own, no_collector: None, how: str
) -> None:
    running = own(max_streams_per_connection=20)
    for _ in range(30):
        question = pb.DecideRequest(node="intent", text="wait")
        call = running.stub.Decide.future(question, timeout=LONG if how == "cancelled" else 0.2)
        assert running.engine.entered.acquire(timeout=LONG)
        if how == "cancelled":
            call.cancel()
        else:
            assert call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert running.client.decide(node="intent", text="on").label == "ON"
