"""`cascade retrain`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from cascade.cli.console import (
    ConfigOption,
    JsonOption,
    NodeArgument,
    clear_errors,
    emit,
    node_of,
    not_installed,
    read_config,
    steps,
    wide_console,
)

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def duration(text: str) -> float:
    """Read a time such as `90s`, `10m` or `1h`, in seconds.

    Raises
    ------
    typer.BadParameter
        It is not such a time.

    Examples
    --------
    >>> duration("2m")
    120.0
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text.strip().lower())
    if found is None or float(found[1]) <= 0:
        raise typer.BadParameter(
            f"{text!r} is not a time; write a number and s, m or h, such as 90s, 10m or 1h",
            param_hint="--budget",
        )
    return float(found[1]) * _UNITS[found[2]]


def retrain(
    node: NodeArgument,
    config: ConfigOption = Path("cascade.yaml"),
    seed: Annotated[int, typer.Option(help="The same traffic and seed give the same bundle.")] = 0,
    budget: Annotated[
        str | None,
        typer.Option(help="Time in which more variants of the rungs are tried, such as 90s, 10m or 1h."),
    ] = None,
    activate: Annotated[bool, typer.Option(help="Serve the new bundle once it is certified.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Train a node's local rungs on its traffic, certify them, and write a bundle.

    Exits with 3, and changes nothing that is served, where the bar cannot be proven.

    Without a budget a short list of variants is tried, and the same traffic gives the same bundle. With one,
    more are tried while the time lasts; what wins out of fold is kept, and the report says what was tried.

    Example: `cascade retrain support-intent --budget 10m`
    """
    with clear_errors():
        loaded = read_config(config)
        node_of(loaded, node)
        seconds = None if budget is None else duration(budget)
        from cascade.traffic import open_traffic

        try:
            from training.node_rungs import encoders_of
            from training.report import print_report
            from training.retrain import retrain as run
        except ImportError as error:
            not_installed(error, "train")
        store = open_traffic(loaded)
        try:
            with steps(f"retraining {node}", quiet=as_json) as step:
                step("reading traffic")
                records = store.training_records(node)
                means = store.teacher_means(node)
                result = run(node, loaded, records, encoders_of(loaded), means, seed, step, activate, seconds)
        finally:
            store.close()
        certificate = result.certificate
        if as_json:
            emit({
                "node": node, "version": result.version, "already_there": result.already_there,
                "certificate": result.statement, "caveats": result.caveats, "report": str(result.report),
                "records": result.n_records, "trained_on": result.n_train, "held_out": result.n_held_out,
                "tried": [variant.to_json() for variant in result.tried],
                "forecast": None if result.curve is None else result.curve.to_json(),
            })  # fmt: skip
        else:
            print_report(wide_console(), result.scored, certificate, result.thresholds, result.caveats)
            if result.version:
                state = "already there, " if result.already_there else ""
                typer.echo(f"{node}: bundle {result.version} ({state}{'live' if activate else 'not live'})")
            else:
                typer.echo(f"{node}: refused, the node stays as it is: {certificate.reason}")
            if result.curve is not None:
                typer.echo(f"forecast: {result.curve.sentence}")
            typer.echo(f"report: {result.report}")
            if result.version and not activate:
                bundle = f"{node} --bundle {result.version}"
                typer.echo(f"next: `cascade report {bundle}`, then `cascade rollout start {bundle}`")
        if not certificate.valid:
            raise typer.Exit(3)
