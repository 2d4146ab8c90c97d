"""Files that are in memory alone, for what must not lie on a disk and what processes share."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO


def memory_file(name: str) -> BinaryIO:
    """Open a new file that ends with its last descriptor; `name` is what the kernel shows of it."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create(name), "w+b")
    return tempfile.TemporaryFile()  # not Linux


@contextmanager
def path_of(raw: bytes, name: str) -> Iterator[str]:
    """Give a path where something can be read, for a library that takes paths only."""
    with memory_file(name) as file:
        file.write(raw)
        file.flush()
        path = f"/proc/self/fd/{file.fileno()}"
        if os.access(path, os.R_OK):
            yield path
            return
    with tempfile.NamedTemporaryFile() as named:  # without /proc; readable by this user only
        named.write(raw)
        named.flush()
        yield named.name
