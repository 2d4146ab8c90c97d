"""What keys and tenants' limits cost a call: `python -m benchmarks.limits`.

A server of one worker for each row; they take turns, round after round, with 32 calls of one client at a
time. What is compared is the processor time that a server spends for a call, as the kernel counts it, medians
over the rounds.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import grpc
import typer

from benchmarks.serving import DECIDE, NODE, sample_texts, write_config
from benchmarks.serving_load import cascade, free_port, server
from benchmarks.table import save, show
from cascade.security.keys import create_key
from cascade.v1 import decision_pb2 as pb

AT_ONCE = 32
TICKS = os.sysconf("SC_CLK_TCK")
ROWS: dict[str, dict[str, Any]] = {
    "no keys, no limits": {},
    "limits": {"tenants": {"default": {"requests_per_second": 20_000, "usd_per_day": 1_000}}},
    "keys": {"auth": {"keys": "keys.json"}},
    "keys and limits": {
        "auth": {"keys": "keys.json"},
        "tenants": {"default": {"requests_per_second": 20_000, "usd_per_day": 1_000}},
    },
}


def cpu_seconds(pid: int) -> float:
    """Give the processor time that a process has spent."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


async def ask(port: int, raw: bytes, key: str, calls: int) -> None:
    """Make so many calls, `AT_ONCE` of them under way."""
    left = calls
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        decide = channel.unary_unary(DECIDE)

        async def work() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                await decide(raw, metadata=[("authorization", f"Bearer {key}")])

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))


def main(
    rounds: int = 7,
    calls: int = 3000,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here as well.")] = None,
) -> None:
    """Measure the processor time of a call without and with keys and limits."""
    spent: dict[str, list[float]] = {name: [] for name in ROWS}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        running = {}
        key = text = ""
        for i, (name, top) in enumerate(ROWS.items()):
            port = free_port()
            config = write_config(Path(folder), f"row{i}", port, **top)
            _, token = create_key(config.parent / "keys.json", "acme")
            process = stack.enter_context(server(cascade(config, port), port, core=None))
            text = text or sample_texts(f"127.0.0.1:{port}")["linear"][0]
            running[name] = process.pid, port, token
        raw = pb.DecideRequest(node=NODE, text=text, context={"tenant": "acme"}).SerializeToString()
        for turn in range(rounds + 1):
            for name, (pid, port, key) in running.items():
                before = cpu_seconds(pid)
                asyncio.run(ask(port, raw, key, calls))
                if turn:  # the first warms up
                    spent[name].append((cpu_seconds(pid) - before) / calls * 1e6)
    plain = statistics.median(spent["no keys, no limits"])
    rows = [
        {
            "server": name,
            "CPU us a call": statistics.median(values),
            "more than without": statistics.median(values) - plain,
            "least": min(values),
        }
        for name, values in spent.items()
    ]
    show(f"Decide on the linear rung, {calls} calls a round, {rounds} rounds", rows)
    save(json_file, {"cpu_us": spent})


if __name__ == "__main__":
    typer.run(main)
