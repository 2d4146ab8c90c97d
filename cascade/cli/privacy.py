"""`cascade traffic ...`: what is deleted, erased and encrypted, and which bundles learned from a record."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from cascade.cli.console import (
    ConfigOption,
    JsonOption,
    clear_errors,
    emit,
    not_installed,
    read_config,
    steps,
)

DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be deleted, and delete nothing.")]


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
        from cascade.traffic.retention import prune as run

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
        from cascade.traffic.erasure import erase as run
        from cascade.traffic.open import open_cipher

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
                        not_installed(error, "delta")
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
        from cascade.traffic.reseal import reseal as run

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
        not_installed(error, "encryption")
    name = id_ or time.strftime("k%Y%m%d")
    if not name.isalnum():
        raise typer.BadParameter("an id is made of letters and digits")
    made = new_key(name)
    if as_json:
        emit({"id": name, "key": made})
    else:
        typer.echo(made)


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
