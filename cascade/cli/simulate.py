"""`cascade simulate`."""

from __future__ import annotations

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
    read_config,
    steps,
    wide_console,
)
from cascade.errors import InvalidInput


def simulate(
    node: Annotated[str | None, typer.Argument(help="The node whose log is replayed.")] = None,
    bundle: Annotated[
        str | None,
        typer.Option(help="Version of the bundle; by default what serves, else the newest."),
    ] = None,
    since: Annotated[
        str | None, typer.Option("--from", help="Begin of the log: 2026-11-17, or an age such as 7d.")
    ] = None,
    until: Annotated[str | None, typer.Option("--to", help="End of the log, exclusive.")] = None,
    outcomes: Annotated[
        Path | None,
        typer.Option(help='A table of models that answered elsewhere: {"id", "prompt", "rungs"} a line.'),
    ] = None,
    skip_bad: Annotated[bool, typer.Option(help="Leave out bad lines of the table, and name them.")] = False,
    encoder: Annotated[
        str, typer.Option(help="Encoder whose nearest prompts help to tell difficulty; 'none' for without.")
    ] = "sentence-transformers/all-MiniLM-L6-v2",
    plot: Annotated[Path | None, typer.Option(help="Write the cost-quality curve, as PNG or SVG.")] = None,
    seed: Annotated[int, typer.Option(help="Of folds and bootstrap.")] = 0,
    config: ConfigOption = Path("cascade.yaml"),
    as_json: JsonOption = False,
) -> None:
    """Say what a ladder would have cost and got wrong, without asking any model.

    With NODE, replays the node's log (by default the seven days up to its last decision) through a bundle's
    real ladder. With `--outcomes`, plans a ladder of several models from a table of what each did: learns
    the difficulty of the prompts by cross-fitting, and prints the cost-quality curve next to each model
    alone, the random mix and the oracle.

    Example: `cascade simulate support-intent --from 7d` or
    `cascade simulate --outcomes outcomes.jsonl --plot curve.png`
    """
    with clear_errors():
        if (node is None) == (outcomes is None):
            raise InvalidInput("simulate", "give either a NODE, whose log is replayed, or --outcomes FILE")
        try:
            import training.cross_fit  # noqa: F401
        except ImportError as error:
            needed = "pip install 'cascade-ladder[train]'"
            console.print(f"`{error.name}` is not installed: {needed}", markup=False)
            raise typer.Exit(1) from None
        if outcomes is not None:
            _plan(outcomes, skip_bad, encoder, plot, seed, config, as_json)
        else:
            assert node is not None
            _replay(node, bundle, since, until, seed, config, as_json)


def _replay(
    name: str, version: str | None, since: str | None, until: str | None, seed: int, path: Path, as_json: bool
) -> None:
    config = read_config(path)
    node_of(config, name)
    from cascade.traffic import open_traffic
    from training.log import last_week, parse_moment, read_log
    from training.offline import open_node
    from training.replay_report import notes, print_replay
    from training.simulate import alternatives, replay_node

    begin = None if since is None else parse_moment(since, "--from")
    end = None if until is None else parse_moment(until, "--to")
    if begin is not None and end is not None and begin >= end:
        raise InvalidInput("--to", "it has to be after --from")
    with steps(f"simulating {name}", quiet=as_json) as step:
        step("loading the bundle")
        node = open_node(config, name, version)
        store = open_traffic(config)
        try:
            if begin is None and end is None:
                begin, end = last_week(store, name)
            step("reading the log")
            log = read_log(store, name, begin, end)
            found = replay_node(config, node, log, store, seed, step)
            step("alternatives")
            rows = alternatives(config, node, log, store, step)
        finally:
            store.close()
    if as_json:
        table = [{"name": row.name} | vars(row) for row in rows]
        emit(found.to_json() | {"window": str(log.window), "alternatives": table, "notes": notes(found)})
        return
    if not found.n:
        typer.echo(f"{name}: nothing to replay from {log.window}: {found.n_trained_on} decisions trained on")
        return
    typer.echo(f"log: {log.window}")
    print_replay(wide_console(), found, rows)


def _plan(
    outcomes: Path, skip_bad: bool, encoder: str, plot: Path | None, seed: int, config: Path, as_json: bool
) -> None:
    from training.cost_quality import simulate as run
    from training.cross_fit import cross_fit
    from training.outcome_report import print_simulation, verdict
    from training.outcome_table import load_outcomes
    from training.plots import plot_cost_quality

    with steps("simulating", quiet=as_json) as step:
        step("reading outcomes")
        table, bad = load_outcomes(outcomes, skip_bad)
        embedding = None
        if encoder != "none":
            step("embedding")
            embedding = _encoder(encoder, config)(table.prompts)
        p_right = cross_fit(table, embedding, seed=seed, progress=step)
        step("bootstrap")
        simulation = run(table, p_right, seed)
        if plot is not None:
            plot_cost_quality(simulation, plot)
    skipped = [{"line": line.line, "reason": line.reason} for line in bad]
    if as_json:
        emit(simulation.to_json() | {"verdict": verdict(simulation), "skipped": skipped})
        return
    for line in bad[:20]:
        typer.echo(f"skipped line {line.line}: {line.reason}")
    if len(bad) > 20:
        typer.echo(f"skipped {len(bad) - 20} more lines")
    print_simulation(wide_console(), simulation)
    if plot is not None:
        typer.echo(f"plot: {plot}")


def _encoder(name: str, config: Path) -> Any:
    from cascade.encoder import find_encoder
    from training.embedding import ParallelEncoder

    if config.is_file():
        loaded = read_config(config)
        return ParallelEncoder(find_encoder(name, loaded.models_path, loaded.base))
    return ParallelEncoder(find_encoder(name, Path("models"), Path.cwd()))
