"""`cascade traffic ...`: what is stored, shown and exported."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cascade.cli.console import (
    ConfigOption,
    JsonOption,
    NodeArgument,
    clear_errors,
    console,
    emit,
    node_of,
    not_installed,
    read_config,
    steps,
)
from cascade.errors import UnknownDecision

if TYPE_CHECKING:
    from cascade.config import Config


def counts(config: ConfigOption = Path("cascade.yaml"), as_json: JsonOption = False) -> None:
    """Count what is stored of each node. Needs no key where traffic is encrypted.

    Example: `cascade traffic counts`
    """
    with clear_errors():
        loaded = read_config(config)
        from cascade.traffic import open_traffic

        store = open_traffic(loaded, content=False)
        try:
            found: dict[str, Any] = {
                name: store.counts(name) | {"last": store.last_times(name)} for name in loaded.nodes
            }
        finally:
            store.close()
        if as_json:
            emit({"nodes": found})
            return
        for name, values in found.items():
            told = ", ".join(f"{values[key]} {key.replace('_', ' ')}" for key in values if key != "last")
            typer.echo(f"{name}: {told}")


def show(
    node: NodeArgument,
    config: ConfigOption = Path("cascade.yaml"),
    last: Annotated[int, typer.Option(min=1, help="How many, the newest last.")] = 10,
    tenant: Annotated[str | None, typer.Option(help="Of this tenant only.")] = None,
    decision: Annotated[
        str | None, typer.Option(help="The id of one decision, in place of the last.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show a node's last decisions as they are stored, and why a rung did not settle one.

    Needs the key where traffic is encrypted.

    Example: `cascade traffic show support-intent --last 5`
    """
    with clear_errors():
        from cascade.page.stored import last_decisions, shown
        from cascade.traffic import open_traffic

        loaded = read_config(config)
        node_of(loaded, node)
        store = open_traffic(loaded)
        try:
            if decision is None:
                decisions = last_decisions(store, node, last, tenant)
            else:
                one = store.get(decision)
                if one is None or one.node != node or tenant not in (None, one.context.get("tenant")):
                    raise UnknownDecision(f"no decision of node {node} has the id {decision!r}")
                decisions = [one]
        finally:
            store.close()
        if as_json:
            emit({"decisions": [shown(each) for each in decisions]})
            return
        if not decisions:
            text = f"{node}: no decisions yet; `cascade traffic counts` counts imported records too"
            console.print(text, markup=False, highlight=False, soft_wrap=True)
        for d in decisions:
            when = datetime.fromtimestamp(d.time, UTC).isoformat(timespec="seconds")
            said = d.text if d.text is not None else "; ".join(f"{r}: {c}" for r, c in d.messages or ())
            by = " ".join(part for part in (d.mode, d.bundle_version) if part)
            line = f"{when} {d.decision_id} [{d.rung or 'failed'}] ({by}) {d.output!r}: {said}"
            typer.echo(_printable(line))
            for attempt in d.attempts:
                if attempt.get("reason"):
                    typer.echo(_printable(f"    {attempt['rung']} did not settle: {attempt['reason']}"))


def _printable(text: str) -> str:
    """Escape what a caller's text could tell the terminal: to hide lines, or to fill the clipboard."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def export(
    to: Annotated[
        Path, typer.Option(help="The folder of the Delta table, made if missing; with --imported a file.")
    ],
    config: ConfigOption = Path("cascade.yaml"),
    imported: Annotated[
        str, typer.Option("--imported", help="In place of decisions: this node's imported records, as JSONL.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Add the decisions that are new since the last export to a Delta table, by node and day.

    `--imported` writes a node's imported records into a file that `cascade import` reads.

    Example: `cascade traffic export --to var/decisions.delta`
    """
    with clear_errors():
        loaded = read_config(config)
        if imported:
            _export_imported(loaded, imported, to, as_json)
            return
        try:
            from cascade.traffic.delta import export_delta
        except ImportError as error:
            not_installed(error, "delta")
        from cascade.traffic import open_traffic
        from cascade.traffic.open import open_cipher
        from cascade.traffic.rows import Rows

        store = open_traffic(loaded)
        try:
            with steps(f"exporting to {to}", quiet=as_json):
                added = export_delta(store.database, Rows(open_cipher(loaded)), to)
        finally:
            store.close()
        if as_json:
            emit({"to": str(to), "added": added})
        else:
            typer.echo(f"{to}: {added} decisions added")


def _export_imported(config: Config, node: str, to: Path, as_json: bool) -> None:
    from cascade.traffic import export_file, open_traffic

    node_of(config, node)
    store = open_traffic(config)
    try:
        written = export_file(store, node, to)
    finally:
        store.close()
    if as_json:
        emit({"to": str(to), "node": node, "written": written})
    else:
        typer.echo(f"{to}: {written} imported records written")
