"""`cascade simulate`."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from cascade.cli.import_traffic import LogFormat, format_of
from cascade.cli.labelled_file import load_file
from cascade.errors import InvalidInput, StoreError, TrafficFileError

if TYPE_CHECKING:
    from cascade.config import Config
    from cascade.traffic import ImportCount, TrafficStore
    from cascade.traffic.logs.reading import Format
    from training.evaluate import Row
    from training.replay import Replay

_SHOWN = 20  # bad lines that are named


def simulate(
    node: Annotated[
        str | None, typer.Argument(help="The node whose log, or whose records of a file, are replayed.")
    ] = None,
    bundle: Annotated[
        str | None,
        typer.Option(help="Version of the bundle; by default what serves, else the newest."),
    ] = None,
    since: Annotated[
        str | None, typer.Option("--from", help="Begin of the log: 2026-11-17, or an age such as 7d.")
    ] = None,
    until: Annotated[str | None, typer.Option("--to", help="End of the log, exclusive.")] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            help="In place of the log: labelled records, as `cascade import` takes them. Nothing is stored."
        ),
    ] = None,
    format_: Annotated[LogFormat, typer.Option("--format", help="What --file is.")] = LogFormat.AUTO,
    requests: Annotated[
        Path | None, typer.Option(help="openai-batch: the batch's input file, where --file is its output.")
    ] = None,
    outcomes: Annotated[
        Path | None,
        typer.Option(help='A table of models that answered elsewhere: {"id", "prompt", "rungs"} a line.'),
    ] = None,
    skip_bad: Annotated[bool, typer.Option(help="Leave out bad lines of a file, and name them.")] = False,
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
    real ladder; with `--file`, labelled records of your own, such as a golden set. With `--outcomes`, plans a
    ladder of several models from a table of what each did: learns the difficulty of the prompts by
    cross-fitting, and prints the cost-quality curve next to each model alone, the random mix and the oracle.

    Example: `cascade simulate support-intent --from 7d`,
    `cascade simulate support-intent --file golden.jsonl` or
    `cascade simulate --outcomes outcomes.jsonl --plot curve.png`
    """
    with clear_errors():
        if (node is None) == (outcomes is None):
            raise InvalidInput("simulate", "give either a NODE, whose log is replayed, or --outcomes FILE")
        if file is not None and (node is None or since or until):
            raise InvalidInput("--file", "it takes the place of a NODE's log, so without --from and --to")
        if file is None and (requests is not None or format_ is not LogFormat.AUTO):
            raise InvalidInput("--format", "--format and --requests are about --file")
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
            loaded = read_config(config)
            node_of(loaded, node)
            if file is not None:
                _replay_file(loaded, node, bundle, file, format_, requests, skip_bad, seed, as_json)
            else:
                _replay_log(loaded, node, bundle, since, until, seed, as_json)


def _replay_log(
    config: Config, name: str, version: str | None, since: str | None, until: str | None, seed: int,
    as_json: bool,
) -> None:  # fmt: skip
    from cascade.traffic import open_traffic
    from training.log import last_week, parse_moment, read_log
    from training.offline import open_node
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
            means = store.teacher_means(name)
            found = replay_node(config, node, log, store, means, seed, step)
            step("alternatives")
            rows = alternatives(config, node, log, store, means, step)
        finally:
            store.close()
    _tell(found, rows, {"window": str(log.window)}, as_json)


def _load(
    store: TrafficStore,
    config: Config,
    name: str,
    file: Path,
    kind: Format,
    requests: Path | None,
    skip_bad: bool,
) -> ImportCount:
    try:
        count = load_file(store, config, name, file, kind, requests, skip_bad)
    except TrafficFileError as error:
        why = "nothing was simulated; --skip-bad leaves them out"
        raise TrafficFileError(str(file), error.lines, why) from None
    if not count.added:
        skipped = f", and {len(count.bad_lines):,} bad lines" if count.bad_lines else ""
        raise InvalidInput("--file", f"{file}, read as {kind}, holds no labelled record{skipped}")
    return count


def _means(config: Config, name: str) -> tuple[float, float] | None:
    """What the teacher's answers cost in the node's traffic, where there is a store that can be read."""
    from cascade.traffic import open_traffic

    try:
        store = open_traffic(config, content=False, create=False)
    except StoreError:
        return None
    try:
        return store.teacher_means(name)
    except StoreError:
        return None
    finally:
        store.close()


def _replay_file(
    config: Config, name: str, version: str | None, file: Path, format_: LogFormat, requests: Path | None,
    skip_bad: bool, seed: int, as_json: bool,
) -> None:  # fmt: skip
    from cascade.traffic import open_traffic
    from training.log import read_log
    from training.offline import open_node
    from training.simulate import alternatives, replay_node

    with steps(f"simulating {name}", quiet=as_json) as step, tempfile.TemporaryDirectory() as scratch:
        step("loading the bundle")
        node = open_node(config, name, version)
        kind = format_of(file, format_)
        step(f"reading {file.name} ({kind})")
        # A store of its own, so that what is read is redacted as what is served, and nothing of it stays.
        store = open_traffic(config.model_copy(update={"store": f"sqlite:///{scratch}/file.db"}))
        try:
            count = _load(store, config, name, file, kind, requests, skip_bad)
            if count.differing:
                ids = ", ".join(count.differing[:5])
                raise InvalidInput(
                    "--file", f"{file} has ids that stand there twice with other answers: {ids}"
                )
            log = read_log(store, name, None, None)
            means = _means(config, name)
            found = replay_node(config, node, log, store, means, seed, step)
            step("alternatives")
            rows = alternatives(config, node, log, store, means, step)
        finally:
            store.close()
    skipped = [asdict(line) for line in count.bad_lines]
    _tell(found, rows, {"file": str(file), "skipped": skipped}, as_json)


def _tell(found: Replay, rows: list[Row], what: dict[str, Any], as_json: bool) -> None:
    """Print a replay, and first what was replayed."""
    from training.replay_report import notes, print_replay

    if as_json:
        table = [{"name": row.name} | vars(row) for row in rows]
        emit(found.to_json() | what | {"alternatives": table, "notes": notes(found)})
        return
    _tell_skipped(what.get("skipped", []))
    source = what.get("window") or what["file"]
    if not found.n:
        typer.echo(
            f"{found.node}: nothing to replay from {source}: {found.n_trained_on} decisions trained on"
        )
        return
    typer.echo(f"log: {source}" if "window" in what else f"file: {source}")
    print_replay(wide_console(), found, rows)


def _tell_skipped(skipped: list[dict[str, Any]]) -> None:
    for line in skipped[:_SHOWN]:
        typer.echo(f"skipped line {line['line']}: {line['reason']}")
    if len(skipped) > _SHOWN:
        typer.echo(f"skipped {len(skipped) - _SHOWN} more lines")


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
    _tell_skipped(skipped)
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
