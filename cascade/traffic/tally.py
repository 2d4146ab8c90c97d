"""What a process had taken and what it had written, kept where a kill cannot take it away.

Decisions are written in groups, off the request's way: a process that is killed loses those that waited. So
each writer keeps two numbers in a small file that is mapped into memory, which the kernel keeps although the
process dies (a machine that loses its power loses them too). Whoever opens the database next finds the file
of the dead, says how many records are missing, and adds a line to `<database>.gaps.jsonl`.
"""

from __future__ import annotations

import fcntl
import json
import logging
import mmap
import os
import struct
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

_NUMBERS = struct.Struct("<QQd")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Gap:
    """Records that a killed process took and did not write.

    Attributes
    ----------
    pid : int
    at_most : int
        How many; those of a group that was committed at the very moment are counted although they are there.
    ended : float
        Unix time of the last record it took.
    found : float
        Unix time at which this was noticed.
    """

    pid: int
    at_most: int
    ended: float
    found: float


class Tally:
    """The two numbers of one writer.

    Parameters
    ----------
    database : Path
        The database's file; the tally lies in the folder `<database>.open` beside it. Where that cannot be
        used, nothing is kept, and that is said in the log.
    """

    def __init__(self, database: Path) -> None:
        self.gaps: list[Gap] = []
        self._numbers: mmap.mmap | None = None
        self._file: int | None = None
        self._path = database.with_name(f"{database.name}.open") / f"{os.getpid()}-{time.time_ns():x}"
        try:
            self._path.parent.mkdir(exist_ok=True)
            self.gaps = _collect(database, self._path.parent)
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX)  # let go of by the kernel, whatever the process dies of
            os.write(self._file, bytes(_NUMBERS.size))
            self._numbers = mmap.mmap(self._file, _NUMBERS.size)
        except OSError as error:
            _log.warning("what a kill would lose of %s cannot be counted: %s", database, error)

    def keep(self, taken: int, settled: int) -> None:
        """Record how many records were taken and how many of them are settled."""
        if self._numbers is not None:
            _NUMBERS.pack_into(self._numbers, 0, taken, settled, time.time())

    def close(self) -> None:
        """End the tally of a writer that has written everything."""
        if self._numbers is not None:
            self._numbers.close()
            self._numbers = None
        if self._file is not None:
            with suppress(OSError):
                self._path.unlink()
            os.close(self._file)
            self._file = None


def _collect(database: Path, folder: Path) -> list[Gap]:
    """Read and remove the tallies of the dead, and write down what they lost."""
    gaps = []
    for path in folder.iterdir():
        try:
            file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            raw = os.read(file, _NUMBERS.size)
            pid = path.name.partition("-")[0]
            # An empty file is of a process that is about to lock it, or that died before it took anything.
            if len(raw) == _NUMBERS.size:
                taken, settled, ended = _NUMBERS.unpack(raw)
                if taken > settled and pid.isdigit():
                    gaps.append(Gap(int(pid), taken - settled, ended, time.time()))
                path.unlink(missing_ok=True)
        except OSError:
            continue  # held by a living process
        finally:
            os.close(file)
    for gap in gaps:
        _log.error(
            "process %d ended without closing %s: at most %d records are missing, the last of %s",
            gap.pid, database, gap.at_most, time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(gap.ended)),
        )  # fmt: skip
    if gaps:
        with database.with_name(f"{database.name}.gaps.jsonl").open("a", encoding="utf-8") as file_of_gaps:
            file_of_gaps.writelines(json.dumps(asdict(gap)) + "\n" for gap in gaps)
    return gaps
