"""The pointer: which version of a node's bundles is served where no rollout says otherwise."""

from __future__ import annotations

import os
from pathlib import Path

from cascade.errors import BundleError

POINTER = "serving"
"""The file in a node's folder that names the version."""


def serving_version(models: Path, node: str) -> str | None:
    """Read which version a node serves; None where there is no pointer: none was ever put live.

    Raises
    ------
    BundleError
        It cannot be read, or is empty, as a file is for a moment that a shell writes to.
    """
    try:
        found = (models / node / POINTER).read_text("utf-8").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(POINTER, f"it cannot be read: {error}") from error
    if not found:
        raise BundleError(POINTER, f"{models / node / POINTER} is empty; it must name a version")
    return found


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
