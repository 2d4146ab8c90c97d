"""A service with everything going wrong around it: `python -m benchmarks.soak --minutes 30`.

Two workers serve the sample node; the teacher fails, hangs and talks nonsense; a worker is killed every
minute, the configuration is reloaded, the bundle is replaced, callers give up. Every answer is compared with
what the rung that gave it says by itself. Wanted: no wrong answer, no error that the faults do not explain,
and memory that does not grow once it has warmed up: the slope of the last two thirds, with its interval, also
of the parent alone, and of a worker beside workers of its age, as those that were killed are young again.
To find out what makes it grow, leave some of it out: `--without kills --without load`.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import grpc
import typer
import yaml

from benchmarks.memory_growth import MB, Sample, growth, growth_beyond_age, growth_of_parent, sample
from benchmarks.serving_load import free_port
from benchmarks.table import save, show
from cascade.client import Client, DecisionError
from cascade.config import load_config
from cascade.demo.frontier import SimulatedFrontier
from cascade.pointer import POINTER, serving_version
from cascade.rungs.protocol import Query
from cascade.server.engine import Engine
from cascade.traffic import open_store

ROOT = Path(__file__).resolve().parents[1]
NODE = "support-intent"
CYCLE_SECONDS = 120.0
"""After that everything that is done to the service was done once."""
EXPLAINED = {"UNAVAILABLE", "FAILED_PRECONDITION", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "CANCELLED"}


def expected(config: Path, texts: list[str]) -> dict[str, dict[str, str]]:
    """Give what each local rung answers to each text, computed in this process."""
    store = open_store(f"sqlite:///{config.parent}/reference.db")
    engine = Engine(load_config(config), store, refresh_seconds=0)
    bundle = engine.nodes[NODE].bundle
    assert bundle is not None, engine.nodes[NODE].problem
    ladder = bundle.ladder
    found: dict[str, dict[str, str]] = {text: {} for text in texts}
    prepared = ladder.prepare([Query(text) for text in texts])
    for r, rung in enumerate(bundle.policy.rungs):
        answers, _ = ladder.run(r, prepared)
        for text, answer in zip(texts, answers.each, strict=True):
            found[text][rung.name] = answer.value
    engine.close()
    store.close()
    return found


class Soak:
    """What is asked and what came of it."""

    def __init__(self, target: str, truth: dict[str, dict[str, str]], pause: float = 0.0) -> None:
        self.target, self.truth, self.texts = target, truth, list(truth)
        self.pause = pause
        self.stop = threading.Event()
        self.lock = threading.Lock()
        self.seen: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.odd: list[str] = []

    def check(self, text: str, got: Any) -> None:
        """Count one decision or error."""
        with self.lock:
            if isinstance(got, DecisionError):
                code = getattr(got.code, "name", str(got.code))
                self.seen[code] += 1
                if code not in EXPLAINED:
                    self.odd.append(str(got)[:200])
                return
            self.seen[got.rung] += 1
            if got.label != self.truth[text][got.rung]:
                self.wrong.append(f"{got.rung}: {text[:60]!r} -> {got.label!r}")

    def ask(self, seed: int) -> None:
        """Decide, decide in batches, report and cancel, until told to stop."""
        rng = random.Random(seed)
        while not self.stop.is_set():
            with Client(self.target, timeout=10.0) as client:
                for _ in range(rng.randrange(20, 200)):
                    if self.stop.wait(self.pause * rng.uniform(0.5, 1.5)):
                        return
                    some = rng.choices(self.texts, k=8)
                    try:
                        if rng.random() < 0.2:
                            for text, got in zip(
                                some, client.batch_decide(node=NODE, texts=some), strict=True
                            ):
                                self.check(text, got)
                            continue
                        timeout = 0.02 if rng.random() < 0.05 else None
                        got = client.decide(node=NODE, text=some[0], timeout=timeout)
                        self.check(some[0], got)
                        if rng.random() < 0.2:
                            client.report_outcome(decision_id=got.decision_id, right=True)
                    except DecisionError as error:
                        if (
                            error.code is grpc.StatusCode.NOT_FOUND
                        ):  # decided by a worker that was killed then
                            with self.lock:
                                self.seen["report of a decision that a kill lost"] += 1
                            continue
                        self.check(some[0], error)


def main(
    minutes: float = 30.0,
    clients: int = 4,
    seed: int = 0,
    pause: Annotated[float, typer.Option(help="Seconds a client waits between calls, on average.")] = 0.0,
    without: Annotated[
        list[str] | None, typer.Option(help="Of load, kills, bundles, reloads; may be given several times.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here as well.")] = None,
) -> None:
    """Soak a service in faults, and check every answer."""
    left_out = set(without or ())
    if unknown := left_out - {"load", "kills", "bundles", "reloads"}:
        raise typer.BadParameter(f"--without {sorted(unknown)[0]}: of load, kills, bundles, reloads")
    records = [
        json.loads(line)
        for line in (ROOT / "examples/sample" / f"{NODE}.unseen.jsonl").open(encoding="utf-8")
    ]
    recorded = {record["text"]: record["label"] for record in records}
    with tempfile.TemporaryDirectory() as scratch, SimulatedFrontier(recorded, seed=seed) as frontier:
        folder = Path(scratch)
        version = serving_version(ROOT / "models", NODE)
        assert version is not None
        shutil.copytree(ROOT / "models" / NODE / version, folder / "models" / NODE / version)
        newer = f"9999-{version.rpartition('-')[2]}"  # the same content under another number
        shutil.copytree(ROOT / "models" / NODE / version, folder / "models" / NODE / newer)
        manifest = folder / "models" / NODE / newer / "manifest.json"
        manifest.write_text(manifest.read_text().replace(version, newer))
        (folder / "models" / "encoders").symlink_to(ROOT / "models" / "encoders")
        pointer = folder / "models" / NODE / POINTER
        pointer.write_text(version + "\n")
        config = yaml.safe_load((ROOT / "cascade.yaml").read_text())
        config |= {"store": f"sqlite:///{folder}/traffic.db", "models": str(folder / "models")}
        config["nodes"] = {NODE: config["nodes"][NODE]}
        config["rungs"]["frontier"] |= {"base_url": frontier.url, "attempts": 2, "timeout_seconds": 2.0}
        (folder / "cascade.yaml").write_text(yaml.safe_dump(config))
        truth = expected(folder / "cascade.yaml", list(recorded))
        for text, label in recorded.items():
            truth[text]["frontier"] = label
        frontier.faults.error_rate, frontier.faults.timeout_rate = 0.1, 0.01
        frontier.faults.garbage_rate, frontier.faults.refusal_rate = 0.05, 0.02
        port = free_port()
        command = [
            "-m",
            "cascade.cli",
            "serve",
            "-c",
            str(folder / "cascade.yaml"),
            "--workers",
            "2",
            "--json",
        ]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, *command, "--listen", f"127.0.0.1:{port}"],
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert process.stdout is not None
        try:
            if not process.stdout.readline():
                raise RuntimeError((folder / "log").read_text()[-2000:])
            soak = Soak(f"127.0.0.1:{port}", truth, pause)
            threads = [threading.Thread(target=soak.ask, args=(seed + n,)) for n in range(clients)]
            threads = [] if "load" in left_out else threads
            for thread in threads:
                thread.start()
            sizes: list[Sample] = []
            events: Counter[str] = Counter()
            began = time.monotonic()
            turn = 0
            while time.monotonic() - began < minutes * 60:
                turn += 1
                time.sleep(max(0.0, began + 10 * turn - time.monotonic()))
                sizes.append(sample(process.pid, time.monotonic() - began))
                if turn % 6 == 3 and "kills" not in left_out:
                    pids = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
                    with suppress(ProcessLookupError, IndexError):
                        # The eldest: at random, their ages would differ from cycle to cycle, and with them
                        # their memory.
                        os.kill(int(pids[0]), signal.SIGKILL)
                        events["workers killed"] += 1
                elif turn % 6 == 5 and "bundles" not in left_out:
                    pointer.write_text((newer if turn % 12 == 5 else version) + "\n")
                    events["bundles replaced"] += 1
                elif turn % 12 == 4 and "reloads" not in left_out:
                    # Long before the next kill: one that dies within 30 s of its start is started again later
                    # each time.
                    process.send_signal(signal.SIGHUP)
                    events["configurations reloaded"] += 1
            soak.stop.set()
            for thread in threads:
                thread.join()
            process.send_signal(signal.SIGTERM)
            code = process.wait(60)
        finally:
            process.kill()
            process.wait()
    third = max(1, len(sizes) // 3)

    def mean(some: list[Sample]) -> float:
        return round(sum(s.total for s in some) / len(some) / MB, 1)

    figures: dict[str, Any] = {
        "minutes": minutes,
        "answers and errors": soak.seen.total(),
        "by rung or status": ", ".join(f"{k} {v}" for k, v in soak.seen.most_common()),
        "wrong answers": len(soak.wrong),
        "errors that no fault explains": len(soak.odd),
        **events,
        "memory, thirds, MB": " ".join(
            str(mean(some)) for some in (sizes[:third], sizes[third : 2 * third], sizes[2 * third :]) if some
        ),
        "growth in the last two thirds, MB a minute": str(growth(sizes, CYCLE_SECONDS)),
        "of the parent": str(growth_of_parent(sizes, CYCLE_SECONDS)),
        "of a worker, beyond its age": "all are of one age"
        if "kills" in left_out and "reloads" in left_out
        else str(growth_beyond_age(sizes, CYCLE_SECONDS)),
        "samples in which a reload had two generations": sum(len(s.own) > 3 for s in sizes),
        "exit code": code,
    }
    show(f"soak of {minutes:g} minutes", [{"what": k, "measured": v} for k, v in figures.items()])
    for text in (soak.wrong + soak.odd)[:10]:
        print(text, file=sys.stderr)
    save(json_file, figures | {"parent": process.pid, "memory kB, every 10 s": [asdict(s) for s in sizes]})
    if soak.wrong or soak.odd:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
