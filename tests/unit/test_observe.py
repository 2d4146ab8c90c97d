"""Metrics, traces and logs say what happened, and a caller cannot make them say anything else."""

import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from cascade.observe.logs import set_up_logs
from cascade.observe.metrics import Metrics
from cascade.observe.traces import Traces
from cascade.observe.watcher import watched
from cascade.traffic.records import Decision, StoreStats

FORGED = "a\n2026-01-01 INFO cascade: all is well\x1b[31m"
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def decision(**changes: Any) -> Decision:
    values: dict[str, Any] = dict(  # noqa: C408
        decision_id="d", node="n", time=1000.0, request_id=None, text="t", messages=None, choices=(),
        context={}, output="x", rung="frontier", by_teacher=True, confidence=None, bundle_version="1",
        mode="live", usd=0.5, input_tokens=10, output_tokens=2, latency_ms=30.0, error=None,
        attempts=[
            {"rung": "linear", "latency_ms": 1.0, "reason": "confidence: 0.5 is below 0.9",
             "p_right_before": 0.25, "confidence_after": 0.5},
            {"rung": "frontier", "latency_ms": 29.0, "reason": "",
             "p_right_before": None, "confidence_after": None},
        ],
    )  # fmt: skip
    return Decision(**values | changes)


def test_decisions_attempts_and_costs_are_counted() -> None:
    metrics = Metrics()
    for _ in range(3):
        metrics.saw(decision())
    metrics.saw(decision(error="TEACHER_UNAVAILABLE: it is down", rung="", usd=0.0))
    metrics.saw(decision(attempts=[{"rung": "linear", "latency_ms": 0, "reason": FORGED}]))
    metrics.served("n", "ladder")
    text = metrics.page().decode()
    for line in (
        'cascade_decisions_total{mode="live",node="n",rung="frontier"} 4.0',
        'cascade_decision_errors_total{node="n",reason="teacher_unavailable"} 1.0',
        'cascade_attempts_total{node="n",reason="confidence",rung="linear"} 4.0',
        'cascade_attempts_total{node="n",reason="settled",rung="frontier"} 4.0',
        'cascade_attempts_total{node="n",reason="other",rung="linear"} 1.0',
        'cascade_teacher_usd_total{node="n"} 2.0',
        'cascade_teacher_tokens_total{direction="input",node="n"} 50.0',
        'cascade_decision_duration_seconds_bucket{le="0.05",node="n",rung="frontier"} 4.0',
        'cascade_attempt_duration_seconds_count{node="n",rung="linear"} 4.0',
        'cascade_http_calls_total{node="n",served_by="ladder"} 1.0',
    ):
        assert line in text, line


def test_losses_and_bundles_are_looked_at() -> None:
    metrics = Metrics()
    for written, version in ((5, "1"), (7, "2")):
        metrics.look(lambda w=written: StoreStats(w, 1, 2, 3), lambda: 4, lambda v=version: {"n": v})
    text = metrics.page().decode()
    for line in (
        'cascade_store_records_total{state="written"} 7.0',
        'cascade_store_records_total{state="dropped"} 1.0',
        "cascade_store_waiting 3.0",
        "cascade_queue_waiting 4.0",
        'cascade_bundle_info{node="n",version="1"} 0.0',
        'cascade_bundle_info{node="n",version="2"} 1.0',
    ):
        assert line in text, line


COUNT = """
import sys; sys.path.insert(0, "tests/unit")
from test_observe import Metrics, decision
metrics = Metrics()
for _ in range(5):
    metrics.saw(decision())
print(metrics.page().decode())
"""


def test_workers_are_added_up_even_after_they_have_ended(tmp_path: Any) -> None:
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    for expected in (5, 10):
        shown = subprocess.run(
            [sys.executable, "-c", COUNT], env=environment, capture_output=True, text=True, check=True
        ).stdout
        assert f'cascade_decisions_total{{mode="live",node="n",rung="frontier"}} {expected}.0' in shown


@pytest.fixture
def spans() -> Iterator[tuple[Traces, InMemorySpanExporter]]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    traces = Traces(provider, {"frontier": ("big-1", "api.example.com")})
    yield traces, exporter
    traces.close()


def test_a_decision_is_a_span_in_the_callers_trace_with_a_span_for_each_attempt(
    spans: tuple[Traces, InMemorySpanExporter],
) -> None:
    traces, exporter = spans
    context: dict[str, str] = {}
    traces.begin("n", context, PARENT)
    traces.saw(decision(context=context))
    linear, frontier, whole = exporter.get_finished_spans()
    assert whole.name == "decide n"
    assert format(whole.context.trace_id, "032x") == PARENT[3:35]
    assert format(whole.parent.span_id, "016x") == PARENT[36:52]
    assert context["traceparent"] == f"00-{PARENT[3:35]}-{whole.context.span_id:016x}-01"
    assert [linear.name, frontier.name] == ["classify linear", "chat big-1"]
    assert all(span.parent.span_id == whole.context.span_id for span in (linear, frontier))
    assert frontier.attributes["gen_ai.operation.name"] == "chat"
    assert frontier.attributes["gen_ai.usage.input_tokens"] == 10
    assert frontier.attributes["server.address"] == "api.example.com"
    assert linear.attributes["cascade.reason"].startswith("confidence")
    assert (frontier.end_time - frontier.start_time) / 1e6 == pytest.approx(29, abs=0.01)
    assert frontier.start_time == linear.end_time


def test_an_error_marks_its_spans_and_an_unsampled_trace_makes_none(
    spans: tuple[Traces, InMemorySpanExporter],
) -> None:
    traces, exporter = spans
    context: dict[str, str] = {}
    traces.begin("n", context, PARENT[:-1] + "0")
    assert context["traceparent"].endswith("-00")
    traces.saw(decision(context=context))
    traces.saw(decision(context={"traceparent": "never begun"}))
    assert not exporter.get_finished_spans()
    traces.begin("n", context, "")
    failed = [{"rung": "frontier", "latency_ms": 3.0, "reason": "error: HTTP 500"}]
    traces.saw(decision(context=context, error="TEACHER_UNAVAILABLE: down", attempts=failed))
    assert [span.status.status_code.name for span in exporter.get_finished_spans()] == ["ERROR", "ERROR"]


def test_the_share_that_is_sampled_is_traced_and_whatever_its_caller_traces() -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    traces = Traces(provider, {}, sample=0.25)
    traces._random.seed(7)
    drawn = 0
    for _ in range(400):
        context: dict[str, str] = {}
        traces.begin("n", context, "")
        traces.saw(decision(context=context, attempts=[]))
        drawn += "traceparent" in context
    assert len(exporter.get_finished_spans()) == drawn
    assert 70 < drawn < 130
    exporter.clear()
    for _ in range(10):
        context = {}
        traces.begin("n", context, PARENT)
        traces.saw(decision(context=context, attempts=[]))
    assert len(exporter.get_finished_spans()) == 10
    traces.close()


def test_a_watcher_that_fails_costs_neither_the_decision_nor_the_log(caplog: Any) -> None:
    kept = []

    class Store:
        path = "here"

        def record(self, given: Decision) -> None:
            kept.append(given)

    class Broken:
        def saw(self, given: Decision) -> None:
            raise KeyError("a bug")

    store: Any = watched(Store(), [Broken()])  # type: ignore[arg-type]
    store.record(decision())
    assert (len(kept), store.path) == (1, "here")
    assert "observing a decision failed" in caplog.text


@pytest.fixture
def logs() -> Iterator[Any]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    stream = io.StringIO()

    def read(form: Any) -> Any:
        set_up_logs(form, stream=stream)
        return stream

    yield read
    root.handlers[:], root.level = before, level


def test_text_logs_cannot_be_forged(logs: Any) -> None:
    stream = logs("text")
    logging.getLogger("cascade.x").warning("node %s", FORGED)
    try:
        raise ValueError(FORGED)
    except ValueError:
        logging.getLogger("cascade.x").exception("it failed")
    lines = stream.getvalue().splitlines()
    assert len([line for line in lines if not line.startswith("  ")]) == 2
    assert "\x1b" not in stream.getvalue()
    assert "WARNING cascade.x: node a\\n2026" in lines[0]


def test_json_logs_are_one_object_a_line(logs: Any) -> None:
    stream = logs("json")
    logging.getLogger("cascade.x").warning("node %s", FORGED)
    try:
        raise ValueError(FORGED)
    except ValueError:
        logging.getLogger("cascade.x").exception("it failed")
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (first["event"], first["level"], first["logger"]) == (f"node {FORGED}", "warning", "cascade.x")
    assert first["process"] == os.getpid()
    assert "ValueError" in second["exception"]
