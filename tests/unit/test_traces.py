"""Decisions arrive at a collector as the spans that the OpenTelemetry SDK would have made of them."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from cascade.observe import traces as traces_module
from cascade.observe.otlp import OtlpSender, destination
from cascade.observe.span_encoding import SpanEncoder, resource
from cascade.observe.span_queue import QueueLimits, SpanQueue, SpanStats
from cascade.observe.traces import Traces
from cascade.server.decision_ids import new_decision_ids
from tests.otlp_receiver import Receiver, named
from tests.unit.test_observe import decision

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
MODELS = {"frontier": ("big-1", "api.example.com")}


def opened(
    endpoint: str, limits: QueueLimits | None = None, sample: float = 1.0, **environment: str
) -> Traces:
    """Traces to a collector, whatever this process's own environment says."""
    sender = OtlpSender(destination(endpoint, environment))
    return Traces(SpanQueue(SpanEncoder(resource(), MODELS), sender, limits), sample)


def traced(traces: Traces, parent: str = "", **changes: Any) -> str:
    """One decision, from its beginning to its end; its `traceparent`."""
    context: dict[str, str] = {}
    traces.begin("n", context, parent)
    traces.saw(decision(context=context, **changes))
    return context.get("traceparent", "")


def test_a_decision_is_a_span_in_the_callers_trace_with_a_span_for_each_attempt(collector: Receiver) -> None:
    traces = opened(collector.endpoint)
    before = time.time_ns()
    own = traced(traces, PARENT)
    traces.close()
    whole, linear, frontier = collector.spans
    assert whole.name == "decide n"
    assert (whole.trace_id.hex(), whole.parent_span_id.hex()) == (PARENT[3:35], PARENT[36:52])
    assert own == f"00-{PARENT[3:35]}-{whole.span_id.hex()}-01"
    assert before <= whole.start_time_unix_nano <= whole.end_time_unix_nano <= time.time_ns()
    assert [linear.name, frontier.name] == ["classify linear", "chat big-1"]
    assert all(span.parent_span_id == whole.span_id for span in (linear, frontier))
    assert len({whole.span_id, linear.span_id, frontier.span_id}) == 3
    assert named(frontier)["gen_ai.operation.name"] == "chat"
    assert named(frontier)["gen_ai.usage.input_tokens"] == 10
    assert named(frontier)["server.address"] == "api.example.com"
    assert named(linear)["cascade.reason"].startswith("confidence")
    assert (linear.start_time_unix_nano, frontier.start_time_unix_nano) == (10**12, linear.end_time_unix_nano)
    taken = frontier.end_time_unix_nano - frontier.start_time_unix_nano
    assert taken / 1e6 == pytest.approx(29, abs=0.01)


FAILED = [{"rung": "frontier", "latency_ms": 3.0, "reason": "error: HTTP 500"}]
SETTLED = [
    {"rung": "linear", "latency_ms": 1.0, "reason": "", "p_right_before": 0.5, "confidence_after": 1.0}
]


@pytest.mark.parametrize("parent", ["", PARENT, PARENT[:-1] + "3"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"error": "TEACHER_UNAVAILABLE: " + "down " * 99, "attempts": FAILED, "by_teacher": False},
        {"attempts": SETTLED, "by_teacher": False, "rung": "linear", "usd": 0.0},
        {"attempts": []},
    ],
)  # fmt: skip
def test_spans_are_those_that_the_sdk_would_have_made_and_encoded(
    collector: Receiver, parent: str, changes: dict[str, Any]
) -> None:
    traces = opened(collector.endpoint)
    own = traced(traces, parent, **changes)
    traces.close()
    ours, theirs = collector.requests[0], _by_the_sdk(parent, decision(**changes))
    assert own[-2:] == (parent[-2:] or "03")  # the SDK draws trace ids at random, and says so
    got, expected = ours.resource_spans[0], theirs.resource_spans[0]
    assert got.scope_spans[0].scope == expected.scope_spans[0].scope
    assert _keys(got.resource.attributes) == _keys(expected.resource.attributes)
    spans = [_comparable(span) for span in got.scope_spans[0].spans]
    assert spans == [_comparable(span) for span in expected.scope_spans[0].spans]


def _keys(attributes: Any) -> set[str]:
    return {each.key for each in attributes}


def _comparable(span: Span) -> dict[str, Any]:
    """A span without what is drawn or read off a clock."""
    below = span.name.startswith(("chat", "classify"))
    return {
        "name": span.name, "kind": span.kind, "flags": span.flags, "attributes": named(span),
        "status": (span.status.code, span.status.message), "state": span.trace_state,
        "ids": (len(span.trace_id), len(span.span_id), len(span.parent_span_id)),
        "times": (span.start_time_unix_nano, span.end_time_unix_nano) if below else (),
        "lost": (span.dropped_attributes_count, span.dropped_events_count, span.dropped_links_count),
    }  # fmt: skip


def _by_the_sdk(parent: str, seen: Any) -> Any:
    """The same spans by the SDK's own objects and encoder: parents first, as they are made."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource.create({"service.name": "cascade"}))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("cascade")
    above = TraceContextTextMapPropagator().extract({"traceparent": parent}) if parent else None
    whole = tracer.start_span("decide n", context=above, kind=trace.SpanKind.SERVER)
    whole.set_attributes({
        "cascade.node": seen.node, "cascade.rung": seen.rung, "cascade.mode": seen.mode,
        "cascade.bundle": seen.bundle_version, "cascade.decision_id": seen.decision_id,
        "cascade.usd": seen.usd,
    })  # fmt: skip
    at, below = seen.time, trace.set_span_in_context(whole)
    for attempt in seen.attempts:
        until, chat = at + attempt["latency_ms"] / 1e3, attempt["rung"] == "frontier"
        attributes: dict[str, Any] = {
            "gen_ai.operation.name": "chat" if chat else "classify",
            "gen_ai.provider.name": "openai" if chat else "cascade",
            "gen_ai.request.model": "big-1" if chat else "linear", "cascade.rung": attempt["rung"],
        }  # fmt: skip
        if chat:
            attributes["server.address"] = "api.example.com"
        if chat and seen.by_teacher:
            attributes |= {"gen_ai.usage.input_tokens": 10, "gen_ai.usage.output_tokens": 2}
        for name in ("p_right_before", "confidence_after"):
            if attempt.get(name) is not None:
                attributes[f"cascade.{name}"] = attempt[name]
        if attempt["reason"]:
            attributes["cascade.reason"] = attempt["reason"]
        span = tracer.start_span(
            "chat big-1" if chat else "classify linear", context=below, attributes=attributes,
            kind=trace.SpanKind.CLIENT if chat else trace.SpanKind.INTERNAL, start_time=int(at * 1e9),
        )  # fmt: skip
        if attempt["reason"].startswith("error"):
            span.set_status(trace.StatusCode.ERROR, attempt["reason"])
            span.set_attribute("error.type", "error")
        span.end(int(until * 1e9))
        at = until
    if seen.error:
        whole.set_status(trace.StatusCode.ERROR, seen.error[:200])
        whole.set_attribute("error.type", seen.error.partition(":")[0])
    whole.end()
    *attempts, last = exporter.get_finished_spans()
    return encode_spans([last, *attempts])


def test_an_unsampled_trace_goes_on_and_makes_no_spans(collector: Receiver) -> None:
    traces = opened(collector.endpoint)
    own = traced(traces, PARENT[:-1] + "0")
    assert own.startswith(PARENT[:36])
    assert own.endswith("-00")
    traces.saw(decision(context={"traceparent": "never begun"}))
    traces.saw(decision(context={"traceparent": PARENT}))
    traces.close()
    assert traces.stats() == SpanStats(0, 0, 0, 0)
    assert not collector.headers


@pytest.mark.parametrize(
    "parent",
    ["garbage", PARENT + "-more", "ff" + PARENT[2:], PARENT.upper(), PARENT.replace("4bf9", "4bg9"),
     f"00-{'0' * 32}-00f067aa0ba902b7-01", f"00-{PARENT[3:35]}-{'0' * 16}-01", PARENT + "\n", "x" * 100_000],
)  # fmt: skip
def test_what_is_no_traceparent_begins_a_trace_of_its_own_and_is_drawn_like_none(parent: str) -> None:
    queue = Kept()
    own = traced(Traces(queue), parent)  # type: ignore[arg-type]
    assert own[3:35] != PARENT[3:35]
    assert len(queue.put_in) == 1
    assert queue.put_in[0].parent == ""
    assert traced(Traces(queue, sample=0.0), parent) == ""  # type: ignore[arg-type]


def test_a_later_version_of_traceparent_is_read_as_far_as_it_is_known() -> None:
    assert traced(Traces(Kept()), " 01" + PARENT[2:] + "-more")[:36] == PARENT[:36]  # type: ignore[arg-type]


def test_decisions_that_are_logged_together_end_each_with_its_own_spans(collector: Receiver) -> None:
    traces = opened(collector.endpoint)
    contexts: list[dict[str, str]] = [{}, {}, {}]
    for context in contexts[:2]:
        traces.begin("n", context, PARENT)
    traces.saw(*(decision(context=context, rung=rung) for context, rung in zip(contexts, "abc", strict=True)))
    traces.close()
    wholes = [span for span in collector.spans if span.name == "decide n"]
    assert [span.span_id.hex() for span in wholes] == [c["traceparent"][36:52] for c in contexts[:2]]
    assert len(collector.spans) == 6
    assert traces.stats() == SpanStats(6, 0, 0, 0)


class Kept:
    """In place of the queue."""

    def __init__(self) -> None:
        self.put_in: list[Any] = []

    def put(self, *ended: Any) -> None:
        self.put_in += ended


def test_the_share_that_is_sampled_is_traced_and_whatever_its_caller_traces() -> None:
    queue = Kept()
    traces = Traces(queue, sample=0.25)  # type: ignore[arg-type]
    traces._random.seed(7)
    drawn = sum(bool(traced(traces)) for _ in range(400))
    assert len(queue.put_in) == drawn
    assert 70 < drawn < 130
    for _ in range(10):
        assert traced(traces, PARENT)
    assert len(queue.put_in) == drawn + 10


def test_what_is_never_logged_is_bounded_and_is_sent_with_what_is_known(
    collector: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traces_module, "_MOST_OPEN", 3)
    traces = opened(collector.endpoint)
    contexts: list[dict[str, str]] = [{} for _ in range(5)]
    for context in contexts:
        traces.begin("n", context, PARENT)
    assert len(traces._open) == 3
    traces.close()
    assert [span.span_id.hex() for span in collector.spans] == [c["traceparent"][36:52] for c in contexts[:2]]
    assert {(span.name, len(span.attributes)) for span in collector.spans} == {("decide n", 0)}


def test_texts_of_a_request_do_not_wait_with_its_spans() -> None:
    queue = Kept()
    traced(Traces(queue), text="a secret", output="another", choices=("third",))  # type: ignore[arg-type]
    assert "secret" not in repr(queue.put_in)
    assert "another" not in repr(queue.put_in)


def test_what_cannot_be_encoded_costs_neither_the_others_nor_the_thread(
    collector: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    traces = opened(collector.endpoint)
    broken = [{"rung": "linear", "latency_ms": 1.0, "reason": "error: half a surrogate \ud800 and \x00"}]
    traced(traces, attempts=broken, error="X: \udfff")
    traced(traces, attempts=[{"rung": "linear", "latency_ms": "long", "reason": ""}])
    traced(traces)
    traces.close()
    assert len(collector.spans) == 2 + 3
    assert collector.spans[0].status.message == "X: ?"
    assert "surrogate ? and" in named(collector.spans[1])["cascade.reason"]
    assert "cannot be sent" in caplog.text
    assert traces.stats() == SpanStats(sent=5, dropped=0, failed=2, waiting=0)


@pytest.fixture(autouse=True)
def _errors(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)


def test_ids_of_traces_and_spans_are_not_drawn_twice() -> None:
    queue = Kept()
    traces = Traces(queue)  # type: ignore[arg-type]
    own = [traced(traces, decision_id=id_) for id_ in new_decision_ids(2000)]
    assert len({each[3:35] for each in own}) == len({each[36:52] for each in own}) == 2000
