"""Writes a file whole or not at all."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def written_whole(path: Path) -> Iterator[TextIO]:
    """Open a text file to write, that takes its place once it is whole: half of one reads like a small one.

    Who may read the file of before may read the new one, and nobody else. What is no regular file, such as a
    pipe, is written as it comes.
    """
    if path.exists() and not path.is_file():
        with path.open("w", encoding="utf-8") as file:
            yield file
        return
    target = path.resolve()  # through a link, which stays
    scratch = target.with_name(f".{target.name}-{os.getpid()}")
    before = target.stat().st_mode if target.exists() else None
    scratch.unlink(missing_ok=True)  # of a run that was killed, or another's link to somewhere else
    new = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if before is None else 0o600)
    try:
        with open(new, "w", encoding="utf-8") as file:
            if before is not None:
                os.chmod(scratch, stat.S_IMODE(before))
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, target)
    finally:
        scratch.unlink(missing_ok=True)
