"""A service with everything going wrong around it: `python -m benchmarks.soak --minutes 30`.

Two workers serve the sample node over gRPC (alone, in batches, in streams) and HTTP, to tenants with keys,
with flags, metrics, JSON logs and every decision traced. The teacher fails, hangs and talks nonsense; a
worker is killed every minute, the configuration is reloaded, the bundle is replaced, callers give up. Every
answer is compared with what the rung that gave it says by itself. Wanted: no wrong answer, no error that the
faults do not explain (one of the teacher names it; what is cut off otherwise is so within seconds of a kill
or a reload), and memory that does not grow once it has warmed up: the slope of the last two thirds, with its
interval, also of the parent alone, and of a worker beside workers of its age, as those that were killed are
young again. To find out what makes it grow, leave some of it out: `--without kills --without load`.
"""

from __future__ import annotations

import json
import os
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

import typer
import yaml

from benchmarks.memory_growth import MB, Sample, growth, growth_beyond_age, growth_of_parent, sample
from benchmarks.serving import FLAGS, swallow
from benchmarks.serving_load import free_port
from benchmarks.soak_load import NODE, Soak, expected
from benchmarks.table import save, show
from cascade.demo.frontier import SimulatedFrontier
from cascade.pointer import POINTER, serving_version
from cascade.security.keys import create_key

ROOT = Path(__file__).resolve().parents[1]
CYCLE_SECONDS = 120.0
"""After that everything that is done to the service was done once."""
TENANTS = ("acme", "globex")


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
    with (
        tempfile.TemporaryDirectory() as scratch,
        SimulatedFrontier(recorded, seed=seed) as frontier,
        swallow() as collector,
    ):
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
        keys = [create_key(folder / "keys.json", tenant)[1] for tenant in TENANTS]
        (folder / "flags.json").write_text(json.dumps(FLAGS))
        http = f"127.0.0.1:{free_port()}"
        config |= {
            "auth": {"keys": "keys.json"},
            "flags": str(folder / "flags.json"),
            "http": {"listen": http},
            "observe": {"metrics": True, "logs": "json", "traces": {"endpoint": collector, "sample": 1.0}},
        }
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
            soak = Soak(f"127.0.0.1:{port}", http, keys, truth, pause)
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
                        soak.disturb()
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
                    soak.disturb()
                    process.send_signal(signal.SIGHUP)
                    events["configurations reloaded"] += 1
            soak.stop.set()
            for thread in threads:
                thread.join()
            soak.judge()
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
        "by rung or fault": ", ".join(f"{k} {v}" for k, v in soak.seen.most_common()),
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
