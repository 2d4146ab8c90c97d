"""`cascade bundle keygen`, `sign` and `verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cascade.cli.console import JsonOption, clear_errors, emit

FolderArgument = Annotated[Path, typer.Argument(help="The bundle: models/NODE/VERSION.")]


def create_signing_key(
    private: Annotated[Path, typer.Argument(help="Where the private key goes; keep it away from servers.")],
    public: Annotated[Path, typer.Argument(help="Where the public key goes, for `bundles.trusted_keys`.")],
    as_json: JsonOption = False,
) -> None:
    """Make an Ed25519 key pair for signing bundles.

    Example: `cascade bundle keygen release.key release.pub`
    """
    with clear_errors():
        from cascade.security.signing import create_signing_key as create

        name = create(private, public)
        if as_json:
            emit({"key": name, "private": str(private), "public": str(public)})
        else:
            typer.echo(f"key {name}: {private} (private, mode 0600) and {public}")


def sign(
    folder: FolderArgument,
    key: Annotated[Path, typer.Option("--key", help="The private key, in PEM.")],
    as_json: JsonOption = False,
) -> None:
    """Check a bundle's files and sign its manifest.

    Example: `cascade bundle sign models/support-intent/0001-913a9626 --key release.key`
    """
    with clear_errors():
        from cascade.manifest import read_manifest, verify_files
        from cascade.security.signing import read_private_key, sign_bundle

        verify_files(folder, read_manifest(folder))
        name = sign_bundle(folder, read_private_key(key))
        if as_json:
            emit({"bundle": str(folder), "key": name})
        else:
            typer.echo(f"{folder} is signed by key {name}")


def verify(
    folder: FolderArgument,
    keys: Annotated[list[Path], typer.Option("--key", help="A trusted public key, in PEM.")],
    as_json: JsonOption = False,
) -> None:
    """Check that a trusted key signed a bundle and that no file of it was altered.

    Example: `cascade bundle verify models/support-intent/0001-913a9626 --key release.pub`
    """
    with clear_errors():
        from cascade.manifest import read_manifest, verify_files
        from cascade.security.signing import read_public_key, verify_signature

        name = verify_signature(folder, [read_public_key(key) for key in keys])
        verify_files(folder, read_manifest(folder))
        if as_json:
            emit({"bundle": str(folder), "key": name})
        else:
            typer.echo(f"{folder} is signed by key {name}, and every file is as it was")
