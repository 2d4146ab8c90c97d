"""The pointer: which version of a node's bundles is served where no rollout says otherwise."""

from __future__ import annotations

import os
from pathlib import Path

from cascade.errors import BundleError

POINTER = "serving"
"""The file in a node's folder that names the version."""


def serving_version(models: Path, node: str) -> str | None:
    """Read which version a node serves; None where none was ever put live."""
    try:
        return (models / node / POINTER).read_text("utf-8").strip() or None
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(POINTER, f"it cannot be read: {error}") from error


def point_to(models: Path, node: str, version: str) -> None:
    """Make a version the one the node serves, atomically and on disk. Raises OSError."""
    pointer = models / node / POINTER
    scratch = pointer.with_name(f".{POINTER}-{os.getpid()}")
    with scratch.open("w") as file:
        file.write(version + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(scratch, pointer)
    descriptor = os.open(pointer.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
