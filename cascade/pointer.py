"""Writes which version of a node's bundles is served where no rollout says otherwise."""

from __future__ import annotations

import os
from pathlib import Path

from cascade.bundle import POINTER


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
