"""Prometheus metrics, one view over all workers of a machine.

With several workers, prometheus_client keeps their values in files of one folder (`PROMETHEUS_MULTIPROC_DIR`,
which `cascade serve` sets before this module is imported), and whoever is asked adds them up.
"""

from __future__ import annotations

import logging
import os
import threading
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)
from prometheus_client.metrics_core import Metric

from cascade.observe.ended_workers import held_still
from cascade.observe.failures import Failure, failures
from cascade.observe.span_queue import SpanStats
from cascade.observe.worker_metrics import OnLoop, WorkerMetrics
from cascade.traffic.records import Decision, StoreStats

_log = logging.getLogger(__name__)

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_WORDS = frozenset({
    "skipped", "contract", "confidence", "validator", "error", "deadline", "uncertified", "fenced", "cost",
})  # fmt: skip
_MOST_LABELS = 2000
_EVERY_SECONDS = 2.0

CONTENT_TYPE = CONTENT_TYPE_LATEST


class Durations(Histogram):
    """A histogram that takes many observations by one step for each bucket that they fall into."""

    def observe_all(self, milliseconds: Mapping[float, int]) -> None:
        """Observe each so many times, as `observe` does its seconds."""
        self._raise_if_not_observable()  # type: ignore[no-untyped-call]
        total = 0.0
        buckets: dict[int, int] = {}
        for ms, many in milliseconds.items():
            seconds = ms / 1e3
            total += seconds * many
            at = bisect_left(self._upper_bounds, seconds)
            buckets[at] = buckets.get(at, 0) + many
        self._sum.inc(total)
        for at, many in buckets.items():
            self._buckets[at].inc(many)


class Metrics:
    """Counts decisions. A `cascade.observe.watcher.Watcher`.

    Parameters
    ----------
    registry : CollectorRegistry, optional
        A new one by default; of no meaning where values are kept in files.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        made: dict[str, Any] = {"registry": self.registry}
        self._decisions = Counter(
            "cascade_decisions", "Decisions, by the rung that answered.", ("node", "rung", "mode"), **made
        )
        self._errors = Counter(
            "cascade_decision_errors", "Requests without an answer.", ("node", "reason"), **made
        )
        self._latency = Durations(
            "cascade_decision_duration_seconds", "From request to answer.", ("node", "rung"),
            buckets=_SECONDS, **made,
        )  # fmt: skip
        self._attempts = Counter(
            "cascade_attempts", "Rungs tried; `settled`, or the reason's first word.",
            ("node", "rung", "reason"), **made,
        )  # fmt: skip
        self._attempt_latency = Durations(
            "cascade_attempt_duration_seconds", "How long a rung took.", ("node", "rung"),
            buckets=_SECONDS, **made,
        )  # fmt: skip
        self._usd = Counter("cascade_teacher_usd", "Paid to chat models, in US dollars.", ("node",), **made)
        self._tokens = Counter(
            "cascade_teacher_tokens", "Tokens of chat models.", ("node", "direction"), **made
        )
        self._calls = Counter(
            "cascade_http_calls", "Chat completions over HTTP, by who answered.", ("node", "served_by"),
            **made,
        )  # fmt: skip
        self._failed = Counter(
            "cascade_call_errors", "Calls, and questions of streams and batches, that got an error.",
            ("method", "code", "reason"), **made,
        )  # fmt: skip
        self._store = Counter(
            "cascade_store_records", "Records for the store, by what became of them.", ("state",), **made,
        )  # fmt: skip
        self._spans = Counter(
            "cascade_trace_spans", "Spans, by what became of them.", ("state",), **made,
        )  # fmt: skip
        self._waiting = Gauge(
            "cascade_store_waiting", "Records that wait to be written.", multiprocess_mode="livesum", **made
        )
        self._queue = Gauge(
            "cascade_queue_waiting", "Calls that wait for a thread.", multiprocess_mode="livesum", **made
        )
        self._bundle = Gauge(
            "cascade_bundle_info", "1 for the bundle a node serves, 0 for one that it served or should.",
            ("node", "version"), multiprocess_mode="livemax", **made,
        )  # fmt: skip
        self._expiry = Gauge(  # of the worker whose certificate ends first: each takes renewals over itself
            "cascade_certificate_expiry_timestamp_seconds", "When a certificate of `server.tls` ends.",
            ("file",), multiprocess_mode="livemin", **made,
        )  # fmt: skip
        self._worker = WorkerMetrics(self.registry)
        self._children: dict[tuple[Any, ...], Any] = {}
        self._last = StoreStats(0, 0, 0, 0)
        self._last_spans = SpanStats(0, 0, 0, 0)
        self._last_failures: dict[Failure, int] = {}
        self._served: dict[tuple[str, str], bool] = {}
        self._stop = threading.Event()

    def _of(self, key: tuple[Any, ...]) -> Any:
        """Give the child of a metric and labels; `labels()` itself takes a lock and twice the time."""
        child = self._children.get(key)
        if child is None:
            metric, *labels = key
            child = metric.labels(*labels)
            if len(self._children) < _MOST_LABELS:
                self._children[key] = child
        return child

    def saw(self, *decisions: Decision) -> None:
        """Count decisions: those that are logged together by one step for each value that they change."""
        counts: defaultdict[tuple[Any, ...], float] = defaultdict(float)
        durations: defaultdict[tuple[Any, ...], dict[float, int]] = defaultdict(dict)
        failed = 0
        # What is logged together is mostly alike, settled at one time by one rung: it is counted first, so
        # that what follows is done once for all of it.
        alike: dict[tuple[str, str, str, str | None, float], int] = {}
        tried: dict[tuple[str, str, str, float], int] = {}
        for d in decisions:
            key = (d.node, d.rung, d.mode, d.error, d.latency_ms)
            alike[key] = alike.get(key, 0) + 1
            for attempt in d.attempts:
                one = (d.node, attempt["rung"], attempt["reason"], attempt["latency_ms"])
                tried[one] = tried.get(one, 0) + 1
            if d.usd:
                counts[self._usd, d.node] += d.usd
            if d.input_tokens or d.output_tokens:
                counts[self._tokens, d.node, "input"] += d.input_tokens
                counts[self._tokens, d.node, "output"] += d.output_tokens
        for (node, rung, mode, error, ms), many in alike.items():
            if error is None:
                counts[self._decisions, node, rung, mode] += many
                spent = durations[self._latency, node, rung]
                spent[ms] = spent.get(ms, 0) + many
            else:
                failed += many
                counts[self._errors, node, error.partition(":")[0].lower()] += many
        for (node, name, reason, ms), many in tried.items():
            word = reason.partition(":")[0].partition(" ")[0] if reason else "settled"
            word = word if not reason or word in _WORDS else "other"
            counts[self._attempts, node, name, word] += many
            if ms:
                spent = durations[self._attempt_latency, node, name]
                spent[ms] = spent.get(ms, 0) + many
        for labels, amount in counts.items():
            self._of(labels).inc(amount)
        for labels, spent in durations.items():
            self._of(labels).observe_all(spent)
        self._worker.count(len(decisions) - failed, failed)

    def served(self, node: str | None, by: str) -> None:
        """Count one chat completion over HTTP."""
        self._of((self._calls, node or "", by)).inc()

    def look(
        self,
        stats: Callable[[], StoreStats],
        queue: Callable[[], int],
        bundles: Callable[[], dict[tuple[str, str], bool]],
        spans: Callable[[], SpanStats] | None = None,
        on_loop: OnLoop = lambda call: call(),
        expiries: Callable[[], Mapping[str, float]] | None = None,
    ) -> None:
        """Take over what is not counted as it happens: errors, store, queue, bundles, certificates, ..."""
        now = stats()
        for state in ("written", "dropped", "failed"):
            self._store.labels(state).inc(max(0, getattr(now, state) - getattr(self._last, state)))
        self._last = now
        if spans is not None:
            ended = spans()
            for state in ("sent", "dropped", "failed"):
                self._spans.labels(state).inc(getattr(ended, state) - getattr(self._last_spans, state))
            self._last_spans = ended
        counted = failures.counts()
        for (method, code, reason), many in counted.items():
            before = self._last_failures.get((method, code, reason), 0)
            self._of((self._failed, method, code, reason.lower())).inc(many - before)
        self._last_failures = counted
        self._waiting.set(now.waiting)
        waiting = queue()
        self._queue.set(waiting)
        self._worker.look(waiting, on_loop)
        served = bundles()
        for (node, version), serves in (dict.fromkeys(self._served, False) | served).items():
            self._bundle.labels(node, version).set(serves)
        self._served = served
        if expiries is not None:
            for file, end in expiries().items():
                self._expiry.labels(file).set(end)

    def follow(
        self,
        stats: Callable[[], StoreStats],
        queue: Callable[[], int],
        bundles: Callable[[], dict[tuple[str, str], bool]],
        spans: Callable[[], SpanStats] | None = None,
        on_loop: OnLoop = lambda call: call(),
        expiries: Callable[[], Mapping[str, float]] | None = None,
    ) -> None:
        """Call `look` every two seconds, in a thread."""

        def run() -> None:
            complained = False
            while True:
                try:
                    self.look(stats, queue, bundles, spans, on_loop, expiries)
                    complained = False
                except Exception:  # ended for good, it would make the worker pass for one that hangs
                    if not complained:
                        _log.exception("the metrics could not be brought up to date; it is tried again")
                    complained = True
                if self._stop.wait(_EVERY_SECONDS):
                    return

        threading.Thread(target=run, name="cascade-metrics", daemon=True).start()

    def close(self) -> None:
        """Stop following."""
        self._stop.set()

    def page(self, more: Iterable[Metric] = ()) -> bytes:
        """Give all metrics in Prometheus' text format.

        Parameters
        ----------
        more : iterable of Metric
            What is the same for all workers and read when it is asked for.
        """
        text: bytes
        if folder := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
            shown = CollectorRegistry()
            _Written(shown)  # type: ignore[no-untyped-call]
            with held_still(Path(folder)):
                text = generate_latest(shown)
        else:
            text = generate_latest(self.registry)
        extra = list(more)
        if extra:
            asked = CollectorRegistry()
            asked.register(_Ready(extra))
            text += generate_latest(asked)
        return text


class _Written(multiprocess.MultiProcessCollector):
    """What all workers' files hold; a file that is only just made, which holds nothing yet, fails no page."""

    def collect(self) -> Iterable[Metric]:
        files = []
        for path in Path(self._path).glob("*.db"):
            with suppress(FileNotFoundError):  # gauges of one that ended
                if path.stat().st_size:
                    files.append(str(path))
        found: Iterable[Metric] = self.merge(files)  # type: ignore[no-untyped-call]
        return found


class _Ready:
    """Metrics that are there already, as a collector."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics
