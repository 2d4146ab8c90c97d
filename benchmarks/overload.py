"""What is answered of five times what a worker can carry: `python -m benchmarks.overload`.

Goodput is told by the clock and by processor time: that of the server per answer at its peak, divided by that
under overload. The second stays true while other jobs take the cores. Each is told of two peaks: the highest
there is, over few connections, and that of the same connections with as few calls as are decided together.
What lies between the two is the price of many connections, which a server pays without overload, too. At the
end, what memory the rush took, and what of it is given back.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.memory_growth import MB, proportional
from benchmarks.serving import DECIDE, NODE, sample_texts, write_config
from benchmarks.serving_load import Load, cascade, frames, free_port, h2load, server
from benchmarks.table import save, show
from cascade.v1 import decision_pb2 as pb

IN_FLIGHT = 64
"""Calls under way at a peak: as many as are decided together."""

TICKS = os.sysconf("SC_CLK_TCK")
CALM = 12.0
"""Seconds after which a rush's memory was given back."""


PEAK = "peak"


@dataclass
class Seen:
    """What the rounds of one load gave: answers, refusals and resets a second, and microseconds an answer."""

    answers: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    reset: list[float] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)

    def add(self, found: Load, good: float, cores: float) -> None:
        """Keep a round, of which so many were answers and which took so many cores."""
        self.answers.append(good)
        self.refused.append(max(found.rate - good, 0.0))
        self.reset.append(found.errors)
        self.costs.append(1e6 * cores / max(good, 1.0))

    def goodput(self, peak: Seen) -> float:
        """Give the answers a second, divided by a peak's, round by round."""
        return round(float(np.median(np.divide(self.answers, peak.answers))), 2)

    def thrift(self, peak: Seen) -> float:
        """Give what an answer takes at a peak, divided by what it takes here, round by round."""
        return round(float(np.median(np.divide(peak.costs, self.costs))), 2)


def processor_seconds(pid: int) -> float:
    """Give the processor time that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def main(
    rounds: int = 5,
    seconds: int = 3,
    factors: Annotated[list[int], typer.Option(help="Times the peak that are asked for.")] = [2, 5],  # noqa: B006
    connections: Annotated[list[int], typer.Option(help="How many connections ask.")] = [16, 64],  # noqa: B006
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here as well.")] = None,
) -> None:
    """Measure one worker's goodput at several times its peak; the loads take turns."""
    port = free_port()
    seen: dict[str, Seen] = defaultdict(Seen)
    peak_of: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with server(cascade(write_config(folder, "one", port), port), port) as process:
            text = sample_texts(f"127.0.0.1:{port}")["linear"][0]
            body = frames(folder / "decide", pb.DecideRequest(node=NODE, text=text).SerializeToString())

            def ask(what: str, size: float | None, clients: int, streams: int, rate: float | None) -> Load:
                before, began = processor_seconds(process.pid), time.monotonic()
                found = h2load(port, DECIDE, body, seconds, clients, streams, rate)
                cores = (processor_seconds(process.pid) - before) / (time.monotonic() - began)
                seen[what].add(found, found.rate if size is None else found.data / size, cores)
                return found

            h2load(port, DECIDE, body, seconds)
            memory = [proportional(process.pid)["Pss_Anon"] / MB]
            for _ in range(rounds):
                peak = ask(PEAK, None, 4, IN_FLIGHT // 4, None)
                for clients in connections:
                    own = f"{clients} connections, their peak"
                    ask(own, None, clients, max(1, IN_FLIGHT // clients), None)
                    for factor in factors:
                        what = f"{clients} connections, {factor}x"
                        peak_of[what] = own
                        ask(what, peak.data / peak.rate, clients, 256, factor * peak.rate)
                        time.sleep(2.0)  # until what still queues is answered
            memory.append(proportional(process.pid)["Pss_Anon"] / MB)
            time.sleep(CALM)
            memory.append(proportional(process.pid)["Pss_Anon"] / MB)
    rows = [
        {
            "load": what,
            "answered/s": round(float(np.median(load.answers))),
            "refused/s": round(float(np.median(load.refused))),
            "reset/s": round(float(np.median(load.reset))),
            "us of processor time an answer": round(float(np.median(load.costs))),
            "goodput by the clock": load.goodput(seen[PEAK]),
            "by processor time": load.thrift(seen[PEAK]),
            "of their own peak": load.goodput(seen[peak_of[what]]) if what in peak_of else None,
            "by processor time ": load.thrift(seen[peak_of[what]]) if what in peak_of else None,
        }
        for what, load in seen.items()
    ]
    show(f"overload, medians of {rounds} rounds of {seconds} s", rows)
    told = dict(zip(("before", "after the last rush", "later"), (round(m, 1) for m in memory), strict=True))
    show("memory of the process, MB", [told])
    save(json_file, {"rows": rows, "memory": told})


if __name__ == "__main__":
    typer.run(main)
