"""`cascade demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cascade.cli.console import JsonOption, clear_errors, emit


def demo(
    folder: Annotated[Path, typer.Option(help="Where the demo keeps its store, bundles and plot.")] = Path(
        "var/demo"
    ),
    data: Annotated[
        Path | None, typer.Option(help="A folder of real data: banking77/ and clinc150/ as JSONL.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the simulated frontier and of training.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Run the whole way: traffic to a simulated frontier, retraining, serving, unseen traffic.

    Example: `cascade demo` or `cascade demo --data FOLDER`
    """
    with clear_errors():
        from cascade.demo.run import run_demo

        result = run_demo(folder, data, seed, quiet=as_json)
        if as_json:
            emit(result)
