"""`cascade traffic ...`: what is stored, exported, deleted, erased and encrypted."""

from __future__ import annotations

import time
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
    read_config,
    steps,
)
from cascade.errors import UnknownDecision

if TYPE_CHECKING:
    from cascade.config import Config

DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be deleted, and delete nothing.")]


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
            _missing(error, "delta")
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


def prune(
    config: ConfigOption = Path("cascade.yaml"), dry_run: DryRun = False, as_json: JsonOption = False
) -> None:
    """Delete traffic that is older than `retention` allows. `cascade serve` does the same every hour.

    Example: `cascade traffic prune --dry-run`
    """
    with clear_errors():
        loaded = read_config(config)
        from cascade.traffic import open_traffic
        from cascade.traffic.open import retention_of
        from cascade.traffic.upkeep import prune as run

        default, tenants = retention_of(loaded)
        store = open_traffic(loaded, content=False)
        try:
            with steps("pruning", quiet=as_json):
                deleted = run(store.database, default, tenants, dry_run=dry_run)
        finally:
            store.close()
        if as_json:
            emit({"deleted": deleted.rows, "dry_run": dry_run})
        elif default is None and not tenants:
            typer.echo("nothing is too old: no retention is configured")
        else:
            typer.echo(_told(deleted.rows, dry_run))


def erase(
    subject: Annotated[str, typer.Option(help="What identifies the person, as it was written.")],
    config: ConfigOption = Path("cascade.yaml"),
    exported: Annotated[
        Path | None, typer.Option("--export", help="A Delta table to erase from as well.")
    ] = None,
    dry_run: DryRun = False,
    as_json: JsonOption = False,
) -> None:
    """Delete all traffic that mentions a person, and name the bundles that learned from it.

    Found by the value itself and by its placeholder, in texts, chats, answers and contexts; gone from the
    database's files too. Backups, and what a running server has not written yet, are out of reach.

    Example: `cascade traffic erase --subject eve@example.com`
    """
    with clear_errors():
        loaded = read_config(config)
        from cascade.lineage import bundles_that_learned
        from cascade.redaction import open_redactor
        from cascade.traffic import open_traffic
        from cascade.traffic.open import open_cipher
        from cascade.traffic.upkeep import erase as run

        if not subject.strip():
            raise typer.BadParameter("the subject is empty")
        store = open_traffic(loaded)
        try:
            with steps("erasing", quiet=as_json):
                database, redactor, cipher = store.database, open_redactor(loaded), open_cipher(loaded)
                found = run(database, subject, redactor, cipher, dry_run=True)
                if exported is not None and not dry_run and found.record_ids:
                    try:
                        from cascade.traffic.delta import erase_from_delta
                    except ImportError as error:
                        _missing(error, "delta")
                    erase_from_delta(exported, found.record_ids)
                learned, unknown = bundles_that_learned(loaded.models_path, found.record_ids)
                try:
                    deleted = found if dry_run else run(database, subject, redactor, cipher)
                except BaseException:  # the next run no longer finds what this one deleted
                    typer.echo("not finished, run it again; of what was found at first:", err=True)
                    _tell_bundles(learned, unknown, err=True)
                    raise
        finally:
            store.close()
        if as_json:
            emit({
                "deleted": deleted.rows, "dry_run": dry_run, "records": list(found.record_ids),
                "learned": learned, "lineage_unknown": unknown,
            })  # fmt: skip
            return
        typer.echo(_told(deleted.rows, dry_run))
        _tell_bundles(learned, unknown)


def lineage(
    record: Annotated[
        list[str], typer.Option(help="The id of a decision or an imported record; repeatable.")
    ],
    config: ConfigOption = Path("cascade.yaml"),
    as_json: JsonOption = False,
) -> None:
    """Tell which bundles learned from a record, whether or not it is still stored.

    Example: `cascade traffic lineage --record 1876a0b2c3d4e5f6`
    """
    with clear_errors():
        loaded = read_config(config)
        from cascade.lineage import bundles_that_learned

        learned, unknown = bundles_that_learned(loaded.models_path, record)
        if as_json:
            emit({"learned": learned, "lineage_unknown": unknown})
        else:
            _tell_bundles(learned, unknown)


def reseal(config: ConfigOption = Path("cascade.yaml"), as_json: JsonOption = False) -> None:
    """Encrypt all that is stored by the first configured key: after switching encryption on, or a new key.

    Example: `cascade traffic reseal`
    """
    with clear_errors():
        loaded = read_config(config)
        from cascade.errors import ConfigError
        from cascade.traffic import open_traffic
        from cascade.traffic.open import open_cipher
        from cascade.traffic.upkeep import reseal as run

        cipher = open_cipher(loaded)
        if cipher is None:
            raise ConfigError("encryption is not configured: set `encryption: {}` in cascade.yaml")
        store = open_traffic(loaded)
        try:
            with steps("encrypting", quiet=as_json) as step:
                changed = run(store.database, cipher, lambda n: step(f"{n} rows"))
        finally:
            store.close()
        if as_json:
            emit({"key": cipher.current, "changed": changed})
        else:
            typer.echo(f"{changed} rows are now encrypted by the key {cipher.current!r}")


def key(
    id_: Annotated[str, typer.Option("--id", help="Letters and digits; today's date by default.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Make a key for `encryption`. Keep it: without it the traffic cannot be read.

    Example: `export CASCADE_ENCRYPTION_KEYS=$(cascade traffic key)`
    """
    try:
        from cascade.traffic.aes import new_key
    except ImportError as error:
        _missing(error, "encryption")
    name = id_ or time.strftime("k%Y%m%d")
    if not name.isalnum():
        raise typer.BadParameter("an id is made of letters and digits")
    made = new_key(name)
    if as_json:
        emit({"id": name, "key": made})
    else:
        typer.echo(made)


def _missing(error: ImportError, extra: str) -> Any:
    console.print(f"`{error.name}` is not installed: pip install 'cascade-ladder[{extra}]'", markup=False)
    raise typer.Exit(1) from None


def _told(rows: dict[str, int], dry_run: bool) -> str:
    told = ", ".join(f"{count} {table}" for table, count in sorted(rows.items())) or "nothing"
    return f"{told} would be deleted" if dry_run else f"{told} deleted"


def _tell_bundles(learned: list[dict[str, object]], unknown: list[str], err: bool = False) -> None:
    for bundle in learned:
        state = "serving" if bundle["serving"] else "not serving"
        said = f"{bundle['node']}/{bundle['version']} ({state}) learned from {bundle['records']} of them"
        typer.echo(said, err=err)
    if not learned:
        typer.echo("no bundle with a lineage learned from them", err=err)
    for name in unknown:
        typer.echo(f"{name} has no lineage: it may have", err=err)
