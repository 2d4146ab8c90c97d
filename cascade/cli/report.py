"""`cascade report`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from cascade.cli.console import (
    ConfigOption,
    JsonOption,
    NodeArgument,
    clear_errors,
    console,
    emit,
    json_text,
    node_of,
    read_config,
    steps,
    wide_console,
)
from cascade.config import Config
from cascade.errors import InvalidInput


class Format(StrEnum):
    """What a report is written as."""

    TERMINAL = "terminal"
    MD = "md"
    HTML = "html"
    JSON = "json"


def report(
    node: NodeArgument,
    bundle: Annotated[
        str | None,
        typer.Option(help="Version of the bundle; by default what serves, else the newest."),
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="What to write.")] = Format.TERMINAL,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to; by default to the terminal.")
    ] = None,
    config: ConfigOption = Path("cascade.yaml"),
    as_json: JsonOption = False,
) -> None:
    """Say whether a node is safe to turn on: proof, slices, validators, net cost, what to label next.

    The HTML is one file with its plots inside, and fetches nothing.

    Example: `cascade report support-intent --format html --output report.html`
    """
    with clear_errors():
        loaded = read_config(config)
        node_of(loaded, node)
        from cascade.traffic import open_traffic

        wanted = Format.JSON if as_json else form
        if output is not None and wanted is Format.TERMINAL:
            raise InvalidInput("--output", "say as what: --format md, html or json")
        if output is not None and not output.parent.is_dir():
            raise InvalidInput("--output", f"the folder {output.parent} does not exist")
        try:
            from training.offline import default_version
        except ImportError as error:
            needed = "pip install 'cascade-ladder[train]'"
            console.print(f"`{error.name}` is not installed: {needed}", markup=False)
            raise typer.Exit(1) from None
        version = bundle or default_version(loaded, node)
        if version is None:
            store = open_traffic(loaded, content=False)
            try:
                _no_bundle(loaded, node, store.counts(node), wanted, output)
            finally:
                store.close()
            return
        _write(loaded, node, version, wanted, output)


def _no_bundle(config: Config, node: str, traffic: dict[str, int], form: Format, output: Path | None) -> None:
    refused = config.models_path / node / "refused" / "report.md"
    why = f"; the last retraining was refused: {refused}" if refused.exists() else ""
    if form is Format.JSON and output is None:
        emit({"node": node, "version": None, "traffic": traffic, "certificate": None, "metrics": None})
        return
    if form is not Format.TERMINAL:
        raise InvalidInput(node, f"it has no bundle to report on{why}; `cascade retrain {node}` makes one")
    typer.echo(f"{node}: no bundle, the teacher answers everything{why}")
    typer.echo("  traffic: " + ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in traffic.items()))
    if any(traffic.values()):
        typer.echo(f"  `cascade retrain {node}` makes a bundle, or says what is missing")
    else:
        typer.echo(f"  send calls through the service, or load a log: `cascade import {node} FILE`")


def _write(config: Config, name: str, version: str, form: Format, output: Path | None) -> None:
    from cascade.traffic import open_traffic
    from training.node_report import gather
    from training.offline import open_node
    from training.render_html import to_html
    from training.render_markdown import print_document, to_markdown
    from training.report_sections import to_document

    with steps(f"report of {name}", quiet=form is Format.JSON) as step:
        step("loading the bundle")
        opened = open_node(config, name, version)
        store = open_traffic(config)
        try:
            found = gather(config, opened, store, step)
        finally:
            store.close()
        step("rendering")
        text = ""
        if form is Format.HTML:
            text = to_html(to_document(found))
        elif form is Format.MD:
            text = to_markdown(to_document(found), lambda plot: _save_plot(plot, output))
    if form is Format.TERMINAL:
        print_document(wide_console(), to_document(found))
    elif form is Format.JSON and output is None:
        emit(found.to_json())
    else:
        if form is Format.JSON:
            text = json_text(found.to_json(), indent=1) + "\n"
        if output is None:
            typer.echo(text, nl=False)
        else:
            output.write_text(text, encoding="utf-8", errors="replace")
            typer.echo(f"report: {output}")


def _save_plot(plot: Any, output: Path | None) -> str | None:
    """Save a plot beside a Markdown report; without a file there is no place for it."""
    if output is None:
        return None
    from training.plots import save_plot

    path = output.with_name(f"{output.stem}-{plot.name}.png")
    save_plot(plot.draw, path, plot.width, plot.height)
    return path.name
