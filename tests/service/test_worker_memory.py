"""What a worker holds does not follow the traffic log: all that looks back at it holds a bounded part."""

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.memory_growth import proportional
from cascade.config import Config
from cascade.pointer import serving_version
from cascade.rollout.database_store import DatabaseRolloutStore
from cascade.rollout.records import Report
from cascade.server.decision_ids import new_decision_ids
from cascade.traffic import SqliteStore
from tests.conftest import NODE
from tests.service.worker_processes import LONG, Service
from tests.traffic_records import decision

pytestmark = pytest.mark.alone

ROWS = 30_000


def fill(path: Path, version: str) -> None:
    """Put two busy hours into the log, with reports of which one says that an answer was wrong."""
    attempts = [
        {"rung": rung, "answer": "cancel_order", "reason": reason, "latency_ms": 1.25, "confidence": 0.93,
         "p_right_before": 0.9, "confidence_after": 0.91, "usd": 0.0}
        for rung, reason in (("linear", "confidence 0.41 is below 0.77"), ("encoder", ""))
    ]  # fmt: skip
    now = time.time()
    ids = new_decision_ids(ROWS)
    with SqliteStore(path) as traffic:
        for at in range(0, ROWS, 5_000):
            traffic.record(
                *(
                    decision(
                        ids[i], node=NODE, time=now - 7200 * (1 - i / ROWS), bundle_version=version,
                        text=f"where is my order number {i}, it was to be here on Monday?", attempts=attempts,
                    )
                    for i in range(at, at + 5_000)
                )
            )  # fmt: skip
            assert traffic.flush(LONG)
        reports = [Report(id_, NODE, version, now, i != 7) for i, id_ in enumerate(ids[:10_000])]
        DatabaseRolloutStore(traffic).add_reports(reports)


def test_a_worker_beside_a_long_log_holds_what_it_holds_beside_an_empty_one(
    configure: Callable[..., Config], models: Path, tmp_path: Path
) -> None:
    config = configure(store=f"sqlite:///{tmp_path}/traffic.db", models=str(models))
    document: dict[str, Any] = config.model_dump(mode="json", by_alias=True, exclude_none=True)
    document["nodes"][NODE]["contract"] = {"labels": "from-traffic"}
    document["nodes"][NODE]["exchangeability"] = {"every_seconds": 0.2, "level": 0.0}
    version = serving_version(models, NODE)
    assert version is not None
    held = []
    for long in (False, True):
        if long:
            fill(tmp_path / "traffic.db", version)
        service = Service(tmp_path, document, 2)
        try:
            before = -1
            end = time.monotonic() + LONG
            while True:  # until all that looks back has done so
                now = max(proportional(pid)["Pss_Anon"] for pid in service.workers())
                if abs(now - before) < 100:
                    break
                assert time.monotonic() < end
                before = now
                time.sleep(3.0)
            held.append(now / 1024)
            service.process.send_signal(signal.SIGTERM)
            assert service.process.wait(LONG) == 0
        finally:
            service.process.kill()
    # 6 MB: names and scores of 5,000 decisions, a window of them whole, and pages of the log. It was 24 MB.
    assert held[1] - held[0] < 12, held
