"""Metrics and traces of both ways in, over HTTP and over gRPC."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import grpc
import httpx2
import openai
import pytest

from cascade.ask import Ask
from cascade.config.observe import TracesConfig
from cascade.config.security import TenantConfig
from cascade.demo.frontier import SimulatedFrontier
from cascade.observe.ended import Ended
from cascade.observe.metrics import Metrics
from cascade.observe.open import Observing
from cascade.observe.traces import Traces, open_traces
from cascade.server.gate import Gate
from cascade.server.pool import ElasticPool
from cascade.server.quotas import QuotaExceeded, Quotas
from cascade.server.serve import CascadeServer
from cascade.traffic import TrafficStore
from cascade.v1 import decision_pb2 as pb
from cascade.v1 import decision_pb2_grpc
from tests.conftest import NODE
from tests.gateway_side import Configure, Side, settled_and_escalated
from tests.otlp_receiver import Receiver, named
from tests.service.fake_engine import FakeEngine


def test_metrics_and_traces_of_both_ways_in(
    models: Path, configure: Configure, store: TrafficStore, unseen: list[dict[str, Any]],
    chatty: SimulatedFrontier, collector: Receiver,
) -> None:  # fmt: skip
    config = configure(chat={"base_url": chatty.url}, http={"listen": "127.0.0.1:0"})
    traces = open_traces(TracesConfig(endpoint=collector.endpoint), {"frontier": ("big-1", "api")})
    assert traces is not None
    observing = Observing(Metrics(), traces)
    side = Side(config, observing.watch(store), observing)
    grpc_side = CascadeServer(side.engine, "127.0.0.1:0", traces=observing.traces)
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    try:
        settled, escalated = settled_and_escalated(side, unseen)
        side.ask(escalated["text"], extra_headers={"traceparent": parent})
        with grpc.insecure_channel(f"127.0.0.1:{grpc_side.start()}") as channel:
            asked = pb.DecideRequest(node=NODE, text=escalated["text"])
            stub = decision_pb2_grpc.DecisionServiceStub(channel)
            of_caller = [("traceparent", parent)]
            stub.Decide(asked, metadata=of_caller, timeout=30)
            stub.BatchDecide(pb.BatchDecideRequest(requests=[asked]), metadata=of_caller, timeout=30)
            asked_twice = iter([pb.StreamDecideRequest(request=asked)] * 2)
            assert len(list(stub.StreamDecide(asked_twice, metadata=of_caller, timeout=30))) == 2
            stub.Decide(asked, timeout=30)  # and this one has a trace of its own
        untraced = side.engine.decide(Ask(NODE, settled["text"]))
        traces.close()
        spans = [span for span in collector.spans if span.trace_id.hex() == parent[3:35]]
        assert len([span for span in spans if span.name == f"decide {NODE}"]) == 5
        assert len([span for span in spans if span.name == "chat big-1"]) == 5
        decided = [named(span).get("cascade.decision_id") for span in collector.spans]
        assert len(set(decided)) > 2
        assert untraced.decision_id not in decided
        ours = {f"00-{parent[3:35]}-{span.span_id.hex()}-01" for span in spans}
        assert set(chatty.traceparents[-6:-1]) <= ours - {parent}
        assert chatty.traceparents[-1] not in ours
        text = httpx2.get(f"{side.url}/metrics").text
        assert f'cascade_decisions_total{{mode="live",node="{NODE}",rung="frontier"}}' in text
        assert f'cascade_http_calls_total{{node="{NODE}",served_by="ladder"}}' in text
    finally:
        grpc_side.stop(0)
        side.close()


class Begun:
    """Counts the spans that begin."""

    n = 0

    def begin(self, node: str, context: dict[str, str], parent: str) -> None:
        self.n += 1

    def end(self, context: dict[str, str]) -> None:
        pass


class Kept:
    """In place of the queue of spans."""

    def __init__(self) -> None:
        self.ended: list[Ended] = []

    def put(self, *ended: Ended) -> None:
        self.ended += ended


@pytest.fixture
def traced(
    models: Path, configure: Configure, store: TrafficStore, chatty: SimulatedFrontier
) -> Iterator[tuple[Side, Traces, Any]]:
    """An HTTP side whose decisions are traced, its traces, and what keeps the spans that ended."""
    kept: Any = Kept()
    traces = Traces(kept)
    observing = Observing(traces=traces)
    config = configure(chat={"base_url": chatty.url}, http={"listen": "127.0.0.1:0"})
    side = Side(config, observing.watch(store), observing)
    yield side, traces, kept
    side.close()


@pytest.mark.parametrize("full", ["the queue", "threads that wait"])
def test_a_call_that_goes_to_the_frontier_because_the_pool_is_too_full_ends_its_span(
    traced: tuple[Side, Traces, Any], unseen: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, full: str
) -> None:
    side, traces, kept = traced
    if full == "the queue":
        monkeypatch.setattr(ElasticPool, "overfull", True)
    else:
        monkeypatch.setattr(ElasticPool, "mostly_lent", True)
        monkeypatch.setattr(side.engine, "alone", lambda _: True)
    assert side.ask(unseen[0]["text"]).headers["x-cascade-served-by"] == "frontier"
    assert [(each.node, each.decision_id) for each in kept.ended] == [(NODE, "")]
    assert not traces._open


def test_what_is_answered_from_the_log_ends_its_span_then(
    traced: tuple[Side, Traces, Any], store: TrafficStore, unseen: list[dict[str, Any]]
) -> None:
    side, traces, kept = traced
    grpc_side = CascadeServer(side.engine, "127.0.0.1:0", traces=traces)
    asked = pb.DecideRequest(node=NODE, text=unseen[0]["text"], request_id="r-1")
    try:
        with grpc.insecure_channel(f"127.0.0.1:{grpc_side.start()}") as channel:
            stub = decision_pb2_grpc.DecisionServiceStub(channel)
            first = stub.Decide(asked, timeout=30)
            assert store.flush(10)
            stub.Decide(asked, timeout=30)
            stub.BatchDecide(pb.BatchDecideRequest(requests=[asked]), timeout=30)
            list(stub.StreamDecide(iter([pb.StreamDecideRequest(request=asked)]), timeout=30))
        side.ask(unseen[0]["text"], extra_headers={"x-cascade-request-id": "r-1"})
        assert [each.decision_id for each in kept.ended] == [first.decision_id, "", "", "", ""]
        assert not traces._open
    finally:
        grpc_side.stop(0)


def test_what_a_quota_refuses_begins_no_span_over_http_either(
    models: Path, configure: Configure, store: TrafficStore, unseen: list[dict[str, Any]]
) -> None:
    begun: Any = Begun()
    config = configure(
        http={"listen": "127.0.0.1:0"}, tenants={"default": {"requests_per_second": 0.001, "burst": 2}}
    )
    side = Side(config, store, Observing(traces=begun))
    try:
        for _ in range(2):
            side.ask(unseen[0]["text"])
        for _ in range(3):
            with pytest.raises(openai.RateLimitError):
                side.ask(unseen[0]["text"])
        assert begun.n == 2
    finally:
        side.close()


@pytest.mark.parametrize("later", [False, True], ids=["at once", "once the shared count was asked"])
def test_what_a_quota_refuses_begins_no_span(tmp_path: Path, later: bool) -> None:
    quotas = Quotas({"default": TenantConfig(requests_per_second=1e-6, burst=3)}, tmp_path / "state")
    at_once = quotas.begin_take

    def asked_first(tenant: str, n: int = 1) -> Future[None] | None:
        counted: Future[None] = Future()
        try:
            return at_once(tenant, n)
        except QuotaExceeded as error:
            counted.set_exception(error)
        return counted

    if later:
        quotas.begin_take = asked_first  # type: ignore[method-assign]
    begun: Any = Begun()
    server = CascadeServer(
        FakeEngine(), "127.0.0.1:0", gate=Gate(quotas=quotas), traces=begun  # type: ignore[no-untyped-call]
    )  # fmt: skip
    asked = pb.DecideRequest(node="intent", text="hello")
    try:
        with grpc.insecure_channel(f"127.0.0.1:{server.start()}") as channel:
            stub = decision_pb2_grpc.DecisionServiceStub(channel)

            def ask_each_way() -> int:
                refused = 0
                try:
                    stub.Decide(asked, timeout=30)
                except grpc.RpcError:
                    refused += 1
                try:
                    stub.BatchDecide(pb.BatchDecideRequest(requests=[asked]), timeout=30)
                except grpc.RpcError:
                    refused += 1
                stream = stub.StreamDecide(iter([pb.StreamDecideRequest(request=asked)]), timeout=30)
                return refused + sum(each.result.HasField("error") for each in stream)

            assert (ask_each_way(), begun.n) == (0, 3)
            for _ in range(3):
                assert ask_each_way() == 3
            assert begun.n == 3
    finally:
        server.stop(0)
        quotas.close()
