"""What a request pays for its flags: `python -m benchmarks.flags`.

Each row is the median over many requests, the rows taking turns. "asked each time" is the same question to
the same OpenFeature provider without Cascade's cache, both flags of a node, as every request would pay it.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from openfeature import api
from openfeature.evaluation_context import EvaluationContext

from benchmarks.table import save, show
from cascade.flags import flag_keys, open_flags

LIVE, OFF = "live", "passthrough"
RULES: dict[str, Any] = {
    "none": None,
    "constant": {},
    "tenant": {"if": [{"in": [{"var": "tenant"}, ["acme", "globex"]]}, LIVE]},
    "percent": {"fractional": [[LIVE, 25], [OFF, 75]]},
}
CALLS = 200
"""Calls that are timed together, because one is shorter than the clock is exact."""


def document() -> dict[str, Any]:
    """Make flags of all kinds: one node a kind."""
    flags: dict[str, Any] = {}
    for node, rule in RULES.items():
        if rule is None:
            continue
        mode, bundle = flag_keys(node)
        made = {"state": "ENABLED", "variants": {LIVE: LIVE, OFF: OFF}, "defaultVariant": OFF}
        flags[mode] = made | ({"targeting": rule} if rule else {})
        version = "0001-8e997a21"
        flags[bundle] = {"state": "ENABLED", "variants": {"one": version}, "defaultVariant": "one"}
    return {"flags": flags}


def main(
    rounds: int = 60,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here as well.")] = None,
) -> None:
    """Measure one evaluation of both flags of a node."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "flags.json"
        path.write_text(json.dumps(document()))
        flags = open_flags(path, list(RULES), seconds=0)
        client = api.get_client(flags._domain)
        contexts = [
            {"tenant": ("acme", "globex", "initech")[i % 3], "session": f"s{i % 50}"} for i in range(CALLS)
        ]

        def cached(node: str) -> Callable[[], None]:
            def run() -> None:
                for c in contexts:
                    flags.of(node, c, c["session"])

            return run

        def fresh() -> None:
            for i, c in enumerate(contexts):
                flags.of("percent", c, f"{time.perf_counter_ns()}-{i}")

        def asked(node: str) -> Callable[[], None]:
            keys = flag_keys(node)

            def run() -> None:
                for c in contexts:
                    for key in keys:
                        client.get_string_details(key, "", EvaluationContext(c["session"], dict(c)))

            return run

        work = {
            "no flag": cached("none"),
            "a constant": cached("constant"),
            "by tenant": cached("tenant"),
            "25 % by session": cached("percent"),
            "25 %, a session never seen": fresh,
            "constant, asked each time": asked("constant"),
            "by tenant, asked each time": asked("tenant"),
            "25 %, asked each time": asked("percent"),
        }
        times: dict[str, list[float]] = {name: [] for name in work}
        for turn in range(rounds + 2):
            for name, run in work.items():
                began = time.perf_counter()
                run()
                if turn >= 2:
                    times[name].append((time.perf_counter() - began) * 1e6 / CALLS)
        flags.close()
    found = {name: statistics.median(values) for name, values in times.items()}
    against = found["25 %, asked each time"]
    show(
        "the mode and the bundle of one request",
        [{"flags": name, "median us": us, "x asked each time": us / against} for name, us in found.items()],
    )
    save(json_file, {"median_us": found})


if __name__ == "__main__":
    typer.run(main)
