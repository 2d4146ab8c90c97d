"""What tells the workers of a service apart in its metrics, by number: as many series as there are workers.

Everything else is added up over them (`cascade.observe.metrics`): it says that something is slow, not where.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge

from cascade.observe.worker_number import REASONS, started_after, worker_number

OnLoop = Callable[[Callable[[], None]], object]
"""Has something called soon on the event loop that reads calls; does not wait."""


class WorkerMetrics:
    """The part of the metrics that is this process' own of the metrics.

    Gauges also have a label `pid` where there are several workers. What a process that ended had in them is
    forgotten by its parent; its counters go on under its number.

    Parameters
    ----------
    registry : CollectorRegistry
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        made: dict[str, Any] = {"registry": registry}
        worker = str(worker_number() or 0)
        decisions = Counter(
            "cascade_worker_decisions", "Decisions, by worker.", ("worker", "answered"), **made
        )
        self._answered, self._failed = decisions.labels(worker, "yes"), decisions.labels(worker, "no")
        self._cpu = Counter(
            "cascade_worker_cpu_seconds", "Processor time of a worker.", ("worker",), **made
        ).labels(worker)
        self._waiting = Gauge(
            "cascade_worker_queue_waiting", "Calls that wait for a thread of this worker, or to be decided.",
            ("worker",), multiprocess_mode="liveall", **made,
        ).labels(worker)  # fmt: skip
        self._beat = Gauge(
            "cascade_worker_seen_timestamp_seconds", "When the event loop that reads calls last came round.",
            ("worker",), multiprocess_mode="liveall", **made,
        ).labels(worker)  # fmt: skip
        starts = Counter(
            "cascade_worker_starts", "Starts of a worker, by what it was started after.", ("worker", "after"),
            **made,
        )  # fmt: skip
        for reason in REASONS:  # at 0, so that the first one is an increase
            starts.labels(worker, reason).inc(reason == started_after())
        self._spent = 0.0
        self._asked = False

    def count(self, answered: int, failed: int) -> None:
        """Count decisions."""
        if answered:
            self._answered.inc(answered)
        if failed:
            self._failed.inc(failed)

    def look(self, waiting: int, on_loop: OnLoop) -> None:
        """Take over what is not counted as it happens; from one thread."""
        spent = time.process_time()
        self._cpu.inc(spent - self._spent)
        self._spent = spent
        self._waiting.set(waiting)
        if not self._asked:  # a loop that hangs has one call waiting, not one more each time
            self._asked = True
            on_loop(self._came_round)

    def _came_round(self) -> None:
        self._asked = False
        self._beat.set(time.time())
