"""The guard against the real service: poisoned bundles are pulled back by themselves, and no request fails.

`python -m benchmarks.guard --live`. A service of two worker processes serves the sample's bundle, with the
simulated frontier as the teacher, under steady load. Then a copy of that bundle is rolled out in which a
share of the labels have traded places: files intact, certificate intact, answers wrong with high confidence.
The benchmark watches until the guard has pulled it back. An honest copy is the control.
"""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks.serving_load import free_port
from cascade.client import Client
from cascade.client.results import DecisionError
from cascade.config import load_config
from cascade.demo.bundle_copies import copy_bundle
from cascade.demo.frontier import SimulatedFrontier
from cascade.rollout.database_store import DatabaseRolloutStore
from cascade.rollout.verbs import Verbs
from cascade.traffic import open_traffic

ROOT = Path(__file__).resolve().parents[1]
NODE = "support-intent"
LATENCY_MS = 50.0
CALLERS = 4
WARM_SECONDS = 3.0
AFTER_SECONDS = 3.0
GIVE_UP_SECONDS = 120.0
CONTROL_SECONDS = 15.0


@dataclass(frozen=True)
class Case:
    """A candidate: which share of its labels traded places, and the percentage its rollout begins at."""

    name: str
    wrong: float
    percent: int


CASES = (
    Case("honest copy, from 5 %", 0.0, 5),
    Case("a third of the labels swapped, from 1 %", 0.34, 1),
    Case("a third of the labels swapped, from 25 %", 0.34, 25),
    Case("all labels swapped, live for everybody at once", 1.0, 100),
)


@dataclass(frozen=True, slots=True)
class Seen:
    """One response, or failure, as a caller saw it."""

    at: float
    bundle: str
    local: bool
    right: bool
    failed: str = ""


class Callers:
    """Threads that ask one question after the other, each of a session of its own."""

    def __init__(self, target: str, records: list[dict[str, Any]]) -> None:
        self.seen: list[Seen] = []
        self._target = target
        self._records = records
        self._numbers = itertools.count()
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._call, daemon=True) for _ in range(CALLERS)]

    @contextmanager
    def calling(self) -> Iterator[None]:
        """Keep calling until the block ends."""
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._ended.set()
            for thread in self._threads:
                thread.join(30)

    def _call(self) -> None:
        with Client(self._target) as client:
            while not self._ended.is_set():
                number = next(self._numbers)
                record = self._records[number % len(self._records)]
                try:
                    found = client.decide(
                        node=NODE, text=record["text"], context={"session": f"s{number}"}, timeout=30
                    )
                except DecisionError as error:
                    self.seen.append(Seen(time.time(), "", False, False, str(error)))
                    continue
                local = found.rung != "frontier"
                self.seen.append(
                    Seen(time.time(), found.bundle_version, local, found.label == record["label"])
                )


def wait_until_serving(target: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the service's health is good."""
    end = time.monotonic() + 90
    request = health_pb2.HealthCheckRequest()
    with grpc.insecure_channel(target) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        while True:
            try:
                if health.Check(request, timeout=2).status == health_pb2.HealthCheckResponse.SERVING:
                    return
            except grpc.RpcError:
                pass
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"the service did not start:\n{log.read_text('utf-8')[-2000:]}")
            time.sleep(0.1)


@contextmanager
def service(folder: Path, frontier: str) -> Iterator[tuple[str, Path]]:
    """Run `cascade serve` with two workers on a copy of the sample's bundle; give its target and config."""
    version = (ROOT / "models" / NODE / "serving").read_text().strip()
    shutil.copytree(ROOT / "models" / NODE / version, folder / "models" / NODE / version)
    (folder / "models" / NODE / "serving").write_text(version + "\n")
    document = yaml.safe_load((ROOT / "cascade.yaml").read_text())
    document |= {"store": f"sqlite:///{folder}/traffic.db", "models": str(folder / "models")}
    document["rungs"]["encoder"]["model"] = str(ROOT / "models/encoders/all-MiniLM-L6-v2")
    document["rungs"]["frontier"]["base_url"] = frontier
    document["nodes"] = {NODE: document["nodes"][NODE]}
    path, port = folder / "cascade.yaml", free_port()
    path.write_text(yaml.safe_dump(document))
    command = [sys.executable, "-m", "cascade.cli", "serve", "-c", str(path)]
    log = (folder / "serve.log").open("wb")
    process = subprocess.Popen(
        [*command, "--listen", f"127.0.0.1:{port}", "--workers", "2"], stdout=log, stderr=log
    )
    try:
        target = f"127.0.0.1:{port}"
        wait_until_serving(target, process, folder / "serve.log")
        yield target, path
    finally:
        process.terminate()
        process.wait(60)
        log.close()


def run(case: Case) -> dict[str, Any]:
    """Roll a case's bundle out under load, and watch what becomes of it."""
    lines = (ROOT / "examples" / "sample" / f"{NODE}.unseen.jsonl").read_text("utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    recorded = {record["text"]: record["label"] for record in records}
    with (
        tempfile.TemporaryDirectory() as scratch,
        SimulatedFrontier(recorded, LATENCY_MS) as frontier,
        service(Path(scratch), frontier.url) as (target, path),
    ):
        config = load_config(path)
        store = open_traffic(config)
        try:
            verbs = Verbs(config, DatabaseRolloutStore(store))
            callers = Callers(target, records)
            with callers.calling():
                time.sleep(WARM_SECONDS)
                source = next((Path(scratch) / "models" / NODE).glob("0001-*"))
                version = copy_bundle(source, 2, case.wrong)
                began = time.time()
                verbs.start(NODE, "benchmark", bundle=version, percent=case.percent)
                limit = GIVE_UP_SECONDS if case.wrong else CONTROL_SECONDS
                while version not in verbs.state(NODE).barred and time.time() < began + limit:
                    time.sleep(0.05)
                time.sleep(AFTER_SECONDS)
            state = verbs.state(NODE)
            events = verbs.history(NODE)
            audits = len(verbs.store.evidence(NODE, version, 0, 100_000))
        finally:
            store.close()
    back = next((e for e in events if e.what == "rollback" and e.bundle == version), None)
    by_candidate = [s for s in callers.seen if s.bundle == version and s.local]
    last = max((s.at for s in by_candidate), default=began)
    return {
        "requests": len(callers.seen),
        "failed": sum(bool(s.failed) for s in callers.seen),
        "failures": sorted({s.failed for s in callers.seen if s.failed})[:3],
        "rolled back": back is not None,
        "seconds to rollback": None if back is None else back.time - began,
        "audits": audits,
        "settled by it": len(by_candidate),
        "of them wrong": sum(not s.right for s in by_candidate),
        "seconds from decision to its last answer": None if back is None else max(last - back.time, 0.0),
        "percent at the end": state.rollout.share if state.rollout is not None else 0,
        "served at the end": state.stable(version) or "the teacher",
        "reason": "" if back is None else back.why,
    }


def row(case: Case, figures: dict[str, Any]) -> dict[str, Any]:
    """Give a case's line of the table."""
    gap = figures["seconds from decision to its last answer"]
    return {
        "candidate": case.name,
        **{name: figures[name] for name in ("requests", "failed", "rolled back")},
        "after s": figures["seconds to rollback"],
        "audits": figures["audits"],
        "settled, wrong": f"{figures['settled by it']}, {figures['of them wrong']}",
        "last answer after s": gap,
    }
