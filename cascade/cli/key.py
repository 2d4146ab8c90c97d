"""`cascade key create`, `list` and `revoke`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from cascade.cli.console import ConfigOption, JsonOption, clear_errors, console, emit, read_config
from cascade.errors import ConfigError

FileOption = Annotated[
    Path | None, typer.Option("--file", help="The keys file; by default the configuration's `auth.keys`.")
]


def create_key(
    tenant: Annotated[str, typer.Argument(help="Whose key it is.")],
    nodes: Annotated[
        list[str] | None, typer.Option("--node", help="A node it may ask; all, if none.")
    ] = None,
    verbs: Annotated[
        list[str] | None,
        typer.Option("--verb", help="decide, report, read, proxy, admin; the first two, if none."),
    ] = None,
    days: Annotated[float | None, typer.Option(help="Ends by itself after so many days.")] = None,
    config: ConfigOption = Path("cascade.yaml"),
    file: FileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a bearer key and show it once; only its hash is stored.

    Example: `cascade key create acme --node support-intent --verb decide --verb report --days 90`
    """
    with clear_errors():
        from cascade.security.keys import create_key as create

        path = _path(config, file)
        key, token = create(path, tenant, nodes or (), verbs or ("decide", "report"), days)
        if as_json:
            emit({"id": key.id, "tenant": tenant, "key": token, "file": str(path)})
            return
        typer.echo(token)
        console.print(
            f"{key.id} for {tenant}; shown this once, and stored nowhere", markup=False, soft_wrap=True
        )
        there = read_config(config).nodes if file is None else nodes or ()
        for node in (name for name in nodes or () if name not in there):
            text = f"{config} has no node {node!r} yet: until it has, the key may ask nothing by that name"
            console.print(text, markup=False, soft_wrap=True)


def list_keys(
    config: ConfigOption = Path("cascade.yaml"), file: FileOption = None, as_json: JsonOption = False
) -> None:
    """List keys, without what could be used to call.

    Example: `cascade key list`
    """
    with clear_errors():
        from cascade.security.keys import read_keys

        rows = [
            {
                "id": key.id,
                "tenant": key.tenant,
                "nodes": list(key.nodes) or "all",
                "verbs": list(key.verbs),
                "created": _day(key.created),
                "expires": _day(key.expires) if key.expires else "never",
            }
            for key in read_keys(_path(config, file))
        ]
        if as_json:
            emit({"keys": rows})
            return
        for row in rows:
            nodes = row["nodes"] if isinstance(row["nodes"], str) else ", ".join(row["nodes"])
            what = f"nodes: {nodes}  verbs: {', '.join(row['verbs'])}  expires: {row['expires']}"
            typer.echo(f"{row['id']}  {row['tenant']}  {what}")


def revoke_key(
    key_id: Annotated[str, typer.Argument(help="As `cascade key list` names it.")],
    config: ConfigOption = Path("cascade.yaml"),
    file: FileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Revoke a key. Running servers refuse it within a second.

    Example: `cascade key revoke k-1f2e3d4c`
    """
    with clear_errors():
        from cascade.security.keys import revoke_key as revoke

        key = revoke(_path(config, file), key_id)
        if as_json:
            emit({"revoked": key.id, "tenant": key.tenant})
        else:
            typer.echo(f"revoked {key.id} of {key.tenant}")


def _path(config: Path, file: Path | None) -> Path:
    if file is not None:
        return file
    loaded = read_config(config)
    if loaded.auth is None:
        raise ConfigError(f"{config} has no `auth: {{keys: FILE}}`; add it, or name a file with --file")
    return loaded.base / loaded.auth.keys


def _day(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at))
