"""What is answered of five times what a worker can carry: `python -m benchmarks.overload`.

Goodput is what is answered under a load divided by the peak, the most that is answered where no more is
asked: with 64 calls under way or with 128. Beside it is that of an empty echo on the event loop: what gRPC
itself loses where thousands of calls are under way. Callers without a deadline wait for ever, so they hide
how long; the second half of the loads has one, and 1,000 calls a connection: more than can be answered within
it. Goodput is told by the clock and by processor time: that of the server per answer at its peak, divided by
that under overload, which stays true while other jobs take the cores. At the end, what memory the rush took,
and what of it is given back.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.memory_growth import MB, proportional
from benchmarks.serving import DECIDE, ECHO, NODE, sample_texts, write_config
from benchmarks.serving_load import (
    ECHO_SERVER,
    Load,
    cascade,
    frames,
    free_port,
    h2load,
    only,
    server,
    settled,
)
from benchmarks.table import save, show
from cascade.v1 import decision_pb2 as pb

TICKS = os.sysconf("SC_CLK_TCK")
CALM = 12.0
"""Seconds after which a rush's memory was given back."""

PEAK = "peak"
OURS, ECHOED = "Cascade", "echo"


@dataclass
class Seen:
    """What the rounds of one load gave a second, and microseconds of processor time an answer."""

    answers: list[float] = field(default_factory=list)
    others: list[float] = field(default_factory=list)
    reset: list[float] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)

    def add(self, found: Load, good: float, cores: float) -> None:
        """Keep a round, of which so many were answers and which took so many cores."""
        self.answers.append(good)
        self.others.append(max(found.rate - good, 0.0))
        self.reset.append(found.errors)
        self.costs.append(1e6 * cores / max(good, 1.0))

    def goodput(self, peak: Seen) -> float:
        """Give the answers a second, divided by a peak's, round by round."""
        return round(float(np.median(np.divide(self.answers, peak.answers))), 2)

    def thrift(self, peak: Seen) -> float:
        """Give what an answer takes at a peak, divided by what it takes here, round by round."""
        return round(float(np.median(np.divide(peak.costs, self.costs))), 2)


@dataclass
class Side:
    """One of the servers, and what it is asked."""

    port: int
    pid: int
    path: str
    body: Path

    def ask(
        self,
        seconds: int,
        found: Seen | None = None,
        size: float | None = None,
        clients: int = 4,
        streams: int = 16,
        rate: float | None = None,
        deadline: int | None = None,
    ) -> Load:
        """Load the server.

        Parameters
        ----------
        seconds : int
        found : Seen, optional
            Where what was seen is kept.
        size : float, optional
            Bytes of an answer, by which answers are told from refusals; none is refused if None.
        clients, streams, rate, deadline
            See `h2load`.
        """
        before, began = processor_seconds(self.pid), time.monotonic()
        load = h2load(
            self.port, self.path, self.body, seconds, clients, streams, rate, deadline=deadline, warm_up=0
        )
        cores = (processor_seconds(self.pid) - before) / (time.monotonic() - began)
        if found is not None:
            found.add(load, load.rate if size is None else load.data / size, cores)
        return load

    def settle(self) -> None:
        """Wait until what still queues after a rush is over. Raises RuntimeError if no bundle serves then."""
        answer = settled(self.port, self.path, self.body)
        if self.path == DECIDE and pb.DecideResponse.FromString(answer).rung != "linear":
            raise RuntimeError("the bundle was pulled back, so that this measures nothing")


def processor_seconds(pid: int) -> float:
    """Give the processor time that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def main(
    rounds: int = 3,
    seconds: Annotated[int, typer.Option(help="How long a load without a deadline lasts.")] = 3,
    factors: Annotated[list[int], typer.Option(help="Times the peak that are asked for.")] = [2, 5],  # noqa: B006
    connections: Annotated[list[int], typer.Option(help="How many connections ask.")] = [16, 64],  # noqa: B006
    deadline: Annotated[
        int,
        typer.Option(
            help="Seconds that calls of the second half have; each load of it lasts four times that."
        ),
    ] = 3,
    max_unseen_seconds: Annotated[int, typer.Option(help="`server.max_unseen_seconds` of Cascade.")] = 5,
    max_unseen: Annotated[int, typer.Option(help="`server.max_unseen` of Cascade.")] = 4096,
    max_streams: Annotated[int, typer.Option(help="`server.max_streams_per_connection` of Cascade.")] = 1000,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here as well.")] = None,
) -> None:
    """Measure one worker's goodput at several times its peak; the loads take turns."""
    seen: dict[str, dict[str, Seen]] = defaultdict(lambda: defaultdict(Seen))
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        folder = Path(scratch)
        port = free_port()
        bounds = {
            "max_unseen_seconds": max_unseen_seconds,
            "max_unseen": max_unseen,
            "max_streams_per_connection": max_streams,
        }
        config = write_config(folder, "one", port, server=bounds)
        ours = stack.enter_context(server(cascade(config, port), port)).pid
        text = sample_texts(f"127.0.0.1:{port}")["linear"][0]
        request = pb.DecideRequest(node=NODE, text=text).SerializeToString()
        sides = {OURS: Side(port, ours, DECIDE, frames(folder / "decide", request))}
        echo = frames(folder / "echo", request + b" " * 120)  # as large as an answer
        port = free_port()
        command = [sys.executable, "-c", ECHO_SERVER, "aio", str(port), "0"]
        sides[ECHOED] = Side(port, stack.enter_context(server(command, port)).pid, ECHO, echo)
        for side in sides.values():
            side.ask(seconds)
        memory = [proportional(ours)["Pss_Anon"] / MB]
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr)
            for name, side in sides.items():
                tried = {clients: side.ask(seconds, clients=clients) for clients in (4, 8)}
                best = max(tried, key=lambda clients: tried[clients].rate)
                peak = side.ask(seconds, seen[name][PEAK], clients=best)
                size = peak.data / peak.rate
                for clients, factor in product(connections, factors):
                    found = seen[name][f"{clients} connections, {factor}x"]
                    side.ask(seconds, found, size, clients, 256, factor * peak.rate)
                    side.settle()
                for clients, factor in product(connections, factors):
                    found = seen[name][f"{clients} connections, {factor}x, deadline {deadline} s"]
                    side.ask(4 * deadline, found, size, clients, 1000, factor * peak.rate, deadline)
                    side.settle()
        memory.append(proportional(ours)["Pss_Anon"] / MB)
        only(sides[OURS].port)
        time.sleep(CALM)
        memory.append(proportional(ours)["Pss_Anon"] / MB)
    rows = [
        {
            "load": what,
            "answered/s": round(float(np.median(load.answers))),
            "refused or ended/s": round(float(np.median(load.others))),
            "reset/s": round(float(np.median(load.reset))),
            "us of processor time an answer": round(float(np.median(load.costs))),
            "goodput by the clock": load.goodput(seen[OURS][PEAK]),
            "by processor time": load.thrift(seen[OURS][PEAK]),
            "that of an empty echo": seen[ECHOED][what].goodput(seen[ECHOED][PEAK]),
        }
        for what, load in seen[OURS].items()
    ]
    show(f"overload, medians of {rounds} rounds of {seconds} s", rows)
    told = dict(zip(("before", "after the last rush", "later"), (round(m, 1) for m in memory), strict=True))
    show("memory of the process, MB", [told])
    echoes = round(float(np.median(seen[ECHOED][PEAK].answers)))
    print(f"peak of the empty echo: {echoes} answers/s")
    save(json_file, {"rows": rows, "memory": told, "echo": echoes})


if __name__ == "__main__":
    typer.run(main)
