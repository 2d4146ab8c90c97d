"""What servers cost that differ, taking turns: `python -m benchmarks.turns new old,tree=/path/to/checkout`.

A side is a name, then after commas what sets it apart: `tree=PATH` (the code of another checkout),
`observe=none`, `observe=some` (one decision in twenty traced) or `observe=all` (every one), or `NAME=VALUE`
of the environment. Those that are not asked stand still. Each is told by the clock and by processor time an
answer, which other jobs disturb less: of the whole process, and of the threads that took most. The ratio is
to the first side, round by round.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.overload import processor_seconds
from benchmarks.serving import BATCH, DECIDE, FLAGS, NODE, STREAM, TRACED, sample_texts, swallow, write_config
from benchmarks.serving_load import LOAD_CORE, cascade, frames, free_port, h2load, server
from benchmarks.table import save, show
from cascade.v1 import decision_pb2 as pb

THREADS = 4
"""How many threads are told apart."""


class LoadKind(StrEnum):
    """What a server is asked."""

    DECIDE = "decide"
    BATCH = "batch"
    STREAM = "stream"
    RUSH = "rush"


@dataclass
class Side:
    """One of the servers that are compared, and what was seen of it.

    Attributes
    ----------
    rates : list of float
        Answers a second, a round each.
    costs : list of float
        Microseconds of the process's time an answer.
    threads : dict of int to list of float
        The same of each thread, by its number.
    """

    name: str
    tree: str = ""
    observe: str = "default"
    env: dict[str, str] = field(default_factory=dict)
    port: int = 0
    pid: int = 0
    rates: list[float] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)
    threads: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def read(cls, spec: str) -> Side:
        """Read a side as it is given on the command line."""
        name, *rest = spec.split(",")
        side = cls(name, port=free_port())
        for part in rest:
            key, equals, value = part.partition("=")
            if not equals:
                raise typer.BadParameter(f"{part!r} in {spec!r} is not NAME=VALUE")
            if key == "tree":
                if not (Path(value) / "cascade" / "__init__.py").exists():
                    raise typer.BadParameter(f"{value!r} is no checkout: it has no cascade/__init__.py")
                side.tree = str(Path(value).resolve())
            elif key == "observe":
                if value not in ("none", "some", "all"):
                    raise typer.BadParameter(f"observe={value}: none, some or all")
                side.observe = value
            else:
                side.env[key] = value
        if side.tree:
            # Else the folder that this is run in would come before it.
            side.env |= {"PYTHONSAFEPATH": "1", "PYTHONPATH": side.tree}
        return side

    def config(self, folder: Path, collector: str) -> Path:
        """Write what this server is configured by."""
        if self.observe == "default":
            return write_config(folder, self.name, self.port)
        if self.observe == "none":
            return write_config(folder, self.name, self.port, observe={"metrics": False})
        share = 1.0 if self.observe == "all" else TRACED
        flags = folder / f"{self.name}-flags.json"
        flags.write_text(json.dumps(FLAGS))
        return write_config(
            folder, self.name, self.port, flags=str(flags), http={"listen": "127.0.0.1:0"},
            observe={"metrics": True, "logs": "json", "traces": {"endpoint": collector, "sample": share}},
        )  # fmt: skip

    def measure(self, ask: Callable[[int], float]) -> None:
        """Ask the server once, and keep what was seen."""
        threads, whole, began = thread_seconds(self.pid), processor_seconds(self.pid), time.monotonic()
        answers = ask(self.port)
        # Answers a second are told without the warming up, which takes as much a second.
        each = 1e6 / (time.monotonic() - began) / max(answers, 1.0)
        self.rates.append(answers)
        self.costs.append((processor_seconds(self.pid) - whole) * each)
        for thread, taken in thread_seconds(self.pid).items():
            self.threads[thread].append((taken - threads.get(thread, 0.0)) * each)


def thread_seconds(pid: int) -> dict[int, float]:
    """Give the processor time that each thread of a process has taken, by its number."""
    taken = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that ended meanwhile
            fields = (task / "schedstat").read_text().split()
            taken[int(task.name)] = int(fields[0]) / 1e9
    return taken


def main(
    sides: Annotated[
        list[str], typer.Argument(help="Servers: name[,tree=PATH][,observe=all][,NAME=VALUE]...")
    ],
    load: Annotated[
        LoadKind, typer.Option(help="What they are asked; a rush is 5,000 calls in flight.")
    ] = LoadKind.BATCH,
    rounds: int = 5,
    seconds: int = 2,
    connections: Annotated[int, typer.Option(help="Of a rush, 100 calls each.")] = 64,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here as well.")] = None,
) -> None:
    """Measure servers that differ, one after the other, round after round."""
    compared = [Side.read(spec) for spec in sides]
    if shutil.which("taskset"):  # the collector of spans runs here, and would else share the server's core
        os.sched_setaffinity(0, {LOAD_CORE})
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        folder = Path(scratch)
        collector = stack.enter_context(swallow())
        for side in compared:
            command = cascade(side.config(folder, collector), side.port)
            side.pid = stack.enter_context(server(command, side.port, env=side.env)).pid
        ask = asker(load, folder, compared[0].port, seconds, connections)
        for side in compared:
            ask(side.port)
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr)
            for side in compared[number % len(compared) :] + compared[: number % len(compared)]:
                side.measure(ask)
                time.sleep(1.0)  # until what still queues is answered
    first = compared[0]
    rows = [
        {
            "server": side.name,
            "answers/s": round(float(np.median(side.rates))),
            "to the first": round(float(np.median(np.divide(side.rates, first.rates))), 3),
            "us of processor time": round(float(np.median(side.costs)), 1),
            "more than the first": round(float(np.median(np.subtract(side.costs, first.costs))), 1),
            "by thread": " ".join(f"{cost:.1f}" for cost in busiest(side)),
        }
        for side in compared
    ]
    show(f"{load}, medians of {rounds} rounds of {seconds} s", rows)
    save(json_file, {"rows": rows, "costs": {s.name: s.costs for s in compared}})


def busiest(side: Side) -> list[float]:
    """Give what the busiest threads took, in microseconds an answer."""
    return sorted((float(np.median(costs)) for costs in side.threads.values()), reverse=True)[:THREADS]


def asker(load: LoadKind, folder: Path, port: int, seconds: int, connections: int) -> Callable[[int], float]:
    """Give what asks a server at a port, and tells the answers a second."""
    text = sample_texts(f"127.0.0.1:{port}")["linear"]
    request = pb.DecideRequest(node=NODE, text=text[0])
    many = [pb.DecideRequest(node=NODE, text=t) for t in (text * 256)[:256]]
    if load is LoadKind.BATCH:
        body = frames(folder / "body", pb.BatchDecideRequest(requests=many).SerializeToString())
        return lambda port: h2load(port, BATCH, body, seconds, streams=2).rate * 256
    if load is LoadKind.STREAM:
        body = frames(folder / "body", *(pb.StreamDecideRequest(request=r).SerializeToString() for r in many))
        return lambda port: h2load(port, STREAM, body, seconds, streams=1).rate * 256
    body = frames(folder / "body", request.SerializeToString())
    if load is LoadKind.DECIDE:
        return lambda port: h2load(port, DECIDE, body, seconds).rate
    alone = h2load(port, DECIDE, body, seconds)
    size = alone.data / alone.rate
    # As many as are answered, and what is refused is asked again at once.
    return lambda port: h2load(port, DECIDE, body, seconds, connections, 256, 5 * alone.rate).data / size


if __name__ == "__main__":
    typer.run(main)
