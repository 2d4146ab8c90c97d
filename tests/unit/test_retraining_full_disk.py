"""A full disk is told in one line, whatever the library that met it made of it; other errors stay."""

import errno
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from pickle import PicklingError

import numpy as np
import pytest
from joblib.externals.loky.process_executor import _RemoteTraceback

from training.full_disk import NoSpace, full_disk_told

HERE = r"^no space in models/n; nothing was changed$"


@pytest.fixture
def full() -> Iterator[FileIO]:
    with FileIO("/dev/full", "w") as file:
        yield file


def test_what_a_full_device_says_is_understood(full: FileIO) -> None:
    with pytest.raises(NoSpace, match=HERE), full_disk_told(Path("models/n")):
        full.write(b"x")


def test_what_numpy_says_of_a_full_device_is_understood(full: FileIO) -> None:
    with pytest.raises(NoSpace, match=HERE), full_disk_told(Path("models/n")):
        np.zeros(100_000).tofile(full)


@pytest.mark.parametrize(
    "trace", ["OSError: [Errno 28] No space left on device", "OSError: 24009 requested and 5104 written"]
)
def test_the_folder_between_processes_is_named_where_that_is_full(
    monkeypatch: pytest.MonkeyPatch, trace: str
) -> None:
    monkeypatch.setenv("JOBLIB_TEMP_FOLDER", "/mnt/tiny")
    handed_on = PicklingError("Could not pickle the task to send it to the workers.")
    handed_on.__cause__ = _RemoteTraceback(f"Traceback (most recent call last):\n...\n{trace}\n")
    with pytest.raises(NoSpace, match=r"^no space in /mnt/tiny; "), full_disk_told(Path("models/n")):
        raise handed_on


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(PermissionError), full_disk_told(Path("models/n")):
        raise PermissionError(errno.EACCES, "Permission denied", "x")
    with pytest.raises(PicklingError), full_disk_told(Path("models/n")):
        raise PicklingError("no")
