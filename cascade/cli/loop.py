"""`cascade loop`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from cascade.cli.console import (
    ConfigOption,
    JsonOption,
    clear_errors,
    console,
    emit,
    node_of,
    not_installed,
    read_config,
    steps,
)
from cascade.errors import CascadeError


def loop(
    nodes: Annotated[list[str] | None, typer.Argument(help="Nodes; by default all.")] = None,
    config: ConfigOption = Path("cascade.yaml"),
    once: Annotated[bool, typer.Option("--once", help="Look once and end, as for cron.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Retrain even if nothing is due.")] = False,
    seed: Annotated[int, typer.Option(help="The same traffic and seed give the same bundle.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Retrain what is due, compare it with what serves, and start its rollout or say why not.

    A node is due by new traffic, time, a shift of its answers, a fenced slice or a rollback; the section
    `loop` of the configuration says when, and how often this looks. Ends by Ctrl-C.

    Example: `cascade loop support-intent --once`
    """
    with clear_errors():
        loaded = read_config(config)
        names = nodes or sorted(loaded.nodes)
        for name in names:
            node_of(loaded, name)
        from cascade.traffic import open_traffic

        try:
            from training.loop import turn
        except ImportError as error:
            not_installed(error, "train")
        while True:
            store = open_traffic(loaded)
            try:
                for name in names:
                    try:
                        with steps(f"looking at {name}", quiet=as_json) as step:
                            done = turn(loaded, store, name, step, force, seed)
                    except CascadeError as error:
                        if once:
                            raise
                        # The next look may meet a store that answers again.
                        console.print(f"{name}: {error}", style="red", markup=False, soft_wrap=True)
                        continue
                    _show(done, as_json)
            finally:
                store.close()
            if once:
                return
            time.sleep(60 * loaded.loop.every_minutes)


def _show(done: Any, as_json: bool) -> None:
    if as_json:
        emit(done.to_json())
        return
    for reason in done.due:
        typer.echo(f"{done.node}: due, {reason}")
    for size in done.sizes:
        price = "" if size.usd_per_1000 is None else f", ${size.usd_per_1000:.3f} per 1,000"
        mark = " <- the smallest that clears the bar" if size.rungs == done.smallest else ""
        clears = f"settles {size.settled:.1%}" if size.clears else "does not clear the bar"
        typer.echo(
            f"  {' + '.join(size.rungs)}: {clears}, {size.bytes / 1e6:.1f} MB, {size.local_ms:.2f} ms"
            f"{price}{mark}"
        )
    state = f"rollout of {done.version} started" if done.started else (done.version or "nothing changed")
    typer.echo(f"{done.node}: {state}: {done.why}")
    for caveat in done.caveats:
        typer.echo(f"{done.node}: but: {caveat}")
