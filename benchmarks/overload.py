"""What is answered of five times what a worker can carry: `python -m benchmarks.overload`.

Goodput is told by the clock and by processor time: that of the server per answer at its peak, divided by that
under overload. The second stays true while other jobs take the cores. At the end, what memory the rush took,
and what of it is given back.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.memory_growth import MB, proportional
from benchmarks.serving import DECIDE, NODE, sample_texts, write_config
from benchmarks.serving_load import Load, cascade, frames, free_port, h2load, server
from benchmarks.table import save, show
from cascade.v1 import decision_pb2 as pb

TICKS = os.sysconf("SC_CLK_TCK")
CALM = 12.0
"""Seconds after which a rush's memory was given back."""


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
    answers: dict[str, list[float]] = defaultdict(list)
    costs: dict[str, list[float]] = defaultdict(list)
    refused: dict[str, list[float]] = defaultdict(list)
    reset: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with server(cascade(write_config(folder, "one", port), port), port) as process:
            text = sample_texts(f"127.0.0.1:{port}")["linear"][0]
            body = frames(folder / "decide", pb.DecideRequest(node=NODE, text=text).SerializeToString())

            def ask(what: str, size: float | None, clients: int, streams: int, rate: float | None) -> Load:
                before, began = processor_seconds(process.pid), time.monotonic()
                found = h2load(port, DECIDE, body, seconds, clients, streams, rate)
                cores = (processor_seconds(process.pid) - before) / (time.monotonic() - began)
                good = found.rate if size is None else found.data / size
                answers[what].append(good)
                refused[what].append(max(found.rate - good, 0.0))
                reset[what].append(found.errors)
                costs[what].append(1e6 * cores / max(good, 1.0))
                return found

            h2load(port, DECIDE, body, seconds)
            memory = [proportional(process.pid)["Pss_Anon"] / MB]
            for _ in range(rounds):
                peak = ask("peak", None, 4, 16, None)
                for clients in connections:
                    for factor in factors:
                        what = f"{clients} connections, {factor}x"
                        ask(what, peak.data / peak.rate, clients, 256, factor * peak.rate)
                        time.sleep(2.0)  # until what still queues is answered
            memory.append(proportional(process.pid)["Pss_Anon"] / MB)
            time.sleep(CALM)
            memory.append(proportional(process.pid)["Pss_Anon"] / MB)
    rows = [
        {
            "load": what,
            "answered/s": round(float(np.median(answers[what]))),
            "refused/s": round(float(np.median(refused[what]))),
            "reset/s": round(float(np.median(reset[what]))),
            "us of processor time an answer": round(float(np.median(costs[what]))),
            "goodput by the clock": round(float(np.median(np.divide(answers[what], answers["peak"]))), 2),
            "goodput by processor time": round(float(np.median(costs["peak"]) / np.median(costs[what])), 2),
        }
        for what in answers
    ]
    show(f"overload, medians of {rounds} rounds of {seconds} s", rows)
    told = dict(zip(("before", "after the last rush", "later"), (round(m, 1) for m in memory), strict=True))
    show("memory of the process, MB", [told])
    save(json_file, {"rows": rows, "memory": told})


if __name__ == "__main__":
    typer.run(main)
