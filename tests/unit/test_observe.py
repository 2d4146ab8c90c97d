"""Metrics and logs say what happened, and a caller cannot make them say anything else."""

import io
import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from cascade.observe import metrics as metrics_module
from cascade.observe.failures import Failures
from cascade.observe.logs import set_up_logs
from cascade.observe.metrics import Metrics
from cascade.observe.watcher import watched
from cascade.traffic.records import Decision, StoreStats

FORGED = "a\n2026-01-01 INFO cascade: all is well\x1b[31m"


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


def test_decisions_that_are_logged_together_count_as_they_would_one_by_one() -> None:
    durations = (0.5, 0.6, 2.0, 5.0, 9e9)
    many = [decision(latency_ms=ms, rung=rung) for ms in durations for rung in ("a", "b", "b")]
    many += [decision(error="X: y"), decision(usd=0.25, input_tokens=0)]
    together, one_by_one = Metrics(), Metrics()
    together.saw(*many)
    for each in many:
        one_by_one.saw(each)

    def values(metrics: Metrics) -> dict[str, float]:
        lines = [line for line in metrics.page().decode().splitlines() if not line.startswith("#")]
        return {
            line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
            for line in lines
            if "_created" not in line
        }

    assert values(together) == pytest.approx(values(one_by_one), rel=1e-12)
    assert values(together)['cascade_decision_duration_seconds_count{node="n",rung="b"}'] == 10


def test_losses_and_bundles_are_looked_at() -> None:
    metrics = Metrics()
    for written, version in ((5, "1"), (7, "2")):
        metrics.look(
            lambda w=written: StoreStats(w, 1, 2, 3),
            lambda: 4,
            lambda v=version: {("n", v): True, ("m", "1"): False},
        )
    text = metrics.page().decode()
    for line in (
        'cascade_store_records_total{state="written"} 7.0',
        'cascade_store_records_total{state="dropped"} 1.0',
        "cascade_store_waiting 3.0",
        "cascade_queue_waiting 4.0",
        'cascade_bundle_info{node="n",version="1"} 0.0',
        'cascade_bundle_info{node="n",version="2"} 1.0',
        'cascade_bundle_info{node="m",version="1"} 0.0',
    ):
        assert line in text, line


def test_errors_that_callers_were_told_of_are_taken_over_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Failures()
    monkeypatch.setattr(metrics_module, "failures", counted)
    metrics = Metrics()
    for many in (2, 0, 1):
        for _ in range(many):
            counted.count("Decide", "RESOURCE_EXHAUSTED", "OVERLOADED")
        metrics.look(lambda: StoreStats(0, 0, 0, 0), lambda: 0, dict)
    labels = 'code="RESOURCE_EXHAUSTED",method="Decide",reason="overloaded"'
    assert f"cascade_call_errors_total{{{labels}}} 3.0" in metrics.page().decode()


def test_a_worker_is_told_apart_by_what_it_answered_its_queue_and_when_its_loop_came_round() -> None:
    metrics = Metrics()
    metrics.saw(decision(), decision(error="TEACHER_UNAVAILABLE: it is down"), decision())
    kept: list[Any] = []

    def look() -> str:
        metrics.look(lambda: StoreStats(0, 0, 0, 0), lambda: 4, dict, on_loop=kept.append)
        return metrics.page().decode()

    assert 'cascade_worker_seen_timestamp_seconds{worker="0"} 0.0' in look()
    for line in (
        'cascade_worker_decisions_total{answered="yes",worker="0"} 2.0',
        'cascade_worker_decisions_total{answered="no",worker="0"} 1.0',
        'cascade_worker_queue_waiting{worker="0"} 4.0',
    ):
        assert line in look(), line
    (came_round,) = kept  # a loop that hangs is not given more and more to do
    before = time.time()
    came_round()
    seen, spent = (
        float(re.findall(rf'cascade_worker_{name}{{worker="0"}} (.+)', look())[0])
        for name in ("seen_timestamp_seconds", "cpu_seconds_total")
    )
    assert before <= seen <= time.time()
    assert 0.5 * time.process_time() < spent <= time.process_time()
    assert len(kept) == 2


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


def test_a_watcher_that_fails_costs_neither_the_decision_nor_the_log(caplog: Any) -> None:
    kept = []

    class Store:
        path = "here"

        def record(self, *given: Decision) -> None:
            kept.extend(given)

    class Broken:
        def saw(self, *given: Decision) -> None:
            raise KeyError("a bug")

    metrics = Metrics()
    store: Any = watched(Store(), [Broken(), metrics])
    store.record(decision(), decision())
    assert (len(kept), store.path) == (2, "here")
    assert "observing 2 decisions failed" in caplog.text
    assert 'cascade_decisions_total{mode="live",node="n",rung="frontier"} 2.0' in metrics.page().decode()


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
    assert f"WARNING cascade.x[{os.getpid()}]: node a\\n2026" in lines[0]


def test_a_line_says_which_worker_wrote_it(logs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASCADE_WORKER", "1")
    stream = logs("text")
    logging.getLogger("cascade.x").warning("here")
    assert stream.getvalue().endswith(f"WARNING cascade.x[worker 1, {os.getpid()}]: here\n")
    stream = logs("json")
    logging.getLogger("cascade.x").warning("there")
    said = json.loads(stream.getvalue().splitlines()[-1])
    assert (said["worker"], said["process"]) == (1, os.getpid())


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


def test_what_fails_once_does_not_end_the_looking(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Or a worker would pass for one that hangs, and be killed."""
    monkeypatch.setattr(metrics_module, "_EVERY_SECONDS", 0.001)
    metrics = Metrics()
    looked, again = 0, threading.Event()

    def stats() -> StoreStats:
        nonlocal looked
        looked += 1
        if looked < 4:
            raise OSError("no room")
        again.set()
        return StoreStats(0, 0, 0, 0)

    metrics.follow(stats, lambda: 0, dict)
    assert again.wait(60)
    metrics.close()
    assert caplog.text.count("could not be brought up to date") == 1
