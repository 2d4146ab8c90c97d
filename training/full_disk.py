"""A full disk, told in one line: by the library that met it, it is a long trace without the disk's name."""

from __future__ import annotations

import errno
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import PicklingError

from cascade.errors import CascadeError

FULL = (errno.ENOSPC, errno.EDQUOT)
_NUMPY = re.compile(r"OSError: \d+ requested and \d+ written")
"""What numpy says where an array does not fit; it drops the error's number."""
_SAID = re.compile(rf"OSError: \[Errno ({'|'.join(map(str, FULL))})\]|{_NUMPY.pattern}")
"""What the trace says that joblib hands on in place of the error of a process."""


class NoSpace(CascadeError):
    """A disk is full. The message says where, and that nothing was changed."""

    code = "RESOURCE_EXHAUSTED"
    reason = "NO_SPACE"


@contextmanager
def full_disk_told(folder: Path) -> Iterator[None]:
    """Say in one line that a disk is full, for work that changes nothing before it is done.

    Parameters
    ----------
    folder : Path
        Where the work writes. What processes hand each other goes through a temporary folder; that one is
        named where it is the full one.

    Raises
    ------
    NoSpace
    """
    try:
        yield
    except Exception as error:
        if not _is_full(error):
            raise
        raise NoSpace(f"no space in {_where(error, folder)}; nothing was changed") from error


def _is_full(error: BaseException) -> bool:
    """Say whether a full disk is behind an error: joblib makes it one of pickle's, with the trace as text."""
    if isinstance(error, OSError):
        return error.errno in FULL or _NUMPY.search(f"OSError: {error}") is not None
    return isinstance(error, PicklingError) and _SAID.search(str(error.__cause__)) is not None


def _where(error: Exception, folder: Path) -> str:
    if isinstance(error, PicklingError):
        given = os.environ.get("JOBLIB_TEMP_FOLDER")
        return given or f"/dev/shm or {tempfile.gettempdir()} (JOBLIB_TEMP_FOLDER names another folder)"
    return str(getattr(error, "filename", None) or folder)
