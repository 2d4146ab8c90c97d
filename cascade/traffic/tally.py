"""What a process had taken and what it had written, kept where a kill cannot take it away.

Decisions are written in groups, off the request's way: a process that is killed loses those that waited. So
each writer keeps two numbers in a small file that is mapped into memory, which the kernel keeps although the
process dies (a machine that loses its power loses them too). Whoever opens the database next finds the file
of the dead, says how many records are missing, and writes it down: for a SQLite file as a line of
`<database>.gaps.jsonl`, for PostgreSQL as a row (see `cascade.traffic.postgres_tally`).
"""

from __future__ import annotations

import fcntl
import json
import logging
import mmap
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from cascade.traffic.database import Connection

_NUMBERS = struct.Struct("<QQd")
_FILES = struct.Struct("<QQQQ")  # behind the numbers; an older Cascade neither writes nor reads it
_GENERATIONS = struct.Struct("<QQQ")  # behind the files; added later, too

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


class Tally(Protocol):
    """What a `GroupWriter` tells of what it took and settled. Nothing here raises."""

    def opened(self, connection: Connection) -> None:
        """Be told that the database is open."""

    def writing(self, connection: Connection) -> None:
        """Be told, outside any transaction, that records are about to be written."""

    def keep(self, taken: int, settled: int) -> None:
        """Record how many records were taken and how many of them are settled."""

    def written_all(self, connection: Connection | None) -> None:
        """Be told that nothing more will be written; None where the connection is broken."""

    def close(self) -> None:
        """End the tally of a writer that has written everything."""


@dataclass(frozen=True, slots=True)
class FilesOpen:
    """Which files a process has open as its SQLite database.

    Attributes
    ----------
    pid : int
    file : tuple of int
        Device and inode of the database; zeros where it has opened none, or does not say.
    wal, shm : int
        Inodes of the log and of its index, on the same device; 0 where there was none.
    counter : Path
        The counter that says so.
    file_generation, wal_generation, shm_generation : int
        Which of the files that had the number one after the other: see `cascade.traffic.inode`. 0 where that
        is not known.
    """

    pid: int
    file: tuple[int, int]
    wal: int
    shm: int
    counter: Path = Path()
    file_generation: int = 0
    wal_generation: int = 0
    shm_generation: int = 0


class Counter:
    """The two numbers of one writer, in a file of its own.

    Parameters
    ----------
    path : Path
        The file, which is made; its folder exists. Its name begins with the process's id and a hyphen.

    Raises
    ------
    OSError
        It cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._numbers: mmap.mmap | None = None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX)  # let go of by the kernel, whatever the process dies of
            size = _NUMBERS.size + _FILES.size + _GENERATIONS.size
            os.write(self._file, bytes(size))
            self._numbers = mmap.mmap(self._file, size)
        except BaseException:  # on a full disk the file is made and cannot be written
            self.close()
            raise

    def keep(self, taken: int, settled: int) -> None:
        """See `Tally.keep`."""
        if self._numbers is not None:
            _NUMBERS.pack_into(self._numbers, 0, taken, settled, time.time())

    def keep_files(self, files: FilesOpen) -> None:
        """Record which files are open."""
        if self._numbers is not None:
            # Not at once: a process that is killed in between must not leave generations of other numbers.
            behind = _NUMBERS.size + _FILES.size
            _GENERATIONS.pack_into(self._numbers, behind, 0, 0, 0)
            _FILES.pack_into(self._numbers, _NUMBERS.size, *files.file, files.wal, files.shm)
            _GENERATIONS.pack_into(
                self._numbers, behind, files.file_generation, files.wal_generation, files.shm_generation
            )

    def close(self, remove: bool = True) -> None:
        """Let go of the file; where it is not removed, what it holds is found like that of a dead process."""
        if self._numbers is not None:
            self._numbers.close()
            self._numbers = None
        if self._file is not None:
            if remove:
                with suppress(OSError):
                    self.path.unlink()
            os.close(self._file)
            self._file = None


@contextmanager
def counters_of_the_dead(folder: Path | None) -> Iterator[list[tuple[str, int, float]]]:
    """Give the counters of processes that are no more, and remove them unless an exception says not to.

    Parameters
    ----------
    folder : Path or None
        Where they are; None for nowhere.

    Yields
    ------
    list of (str, int, float)
        The file's name, how many records are missing, and when the last was taken.
    """
    found: list[tuple[str, int, float]] = []
    held: list[tuple[Path, int]] = []
    try:
        for path in folder.iterdir() if folder is not None and folder.is_dir() else ():
            try:
                file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                raw = os.read(file, _NUMBERS.size)
            except OSError:  # held by a living process
                os.close(file)
                continue
            held.append((path, file))
            # An empty file is of a process that is about to lock it, or that died before it took anything.
            if len(raw) != _NUMBERS.size:
                held.pop()
                os.close(file)
            elif path.name.partition("-")[0].isdigit():
                taken, settled, ended = _NUMBERS.unpack(raw)
                found.append((path.name, max(0, taken - settled), ended))
        yield found
        for path, _ in held:
            path.unlink(missing_ok=True)
    finally:
        for _, file in held:
            os.close(file)


def counted_files(folder: Path) -> list[FilesOpen]:
    """Give which files each process had open that has a counter in a folder, be it alive or dead."""
    found = []
    with suppress(OSError):
        for path in folder.iterdir():
            with suppress(OSError, ValueError, struct.error):
                pid = int(path.name.partition("-")[0])
                raw = path.read_bytes()
                device, inode, wal, shm = _FILES.unpack_from(raw, _NUMBERS.size)
                generations = (0, 0, 0)
                with suppress(struct.error):  # an older Cascade's
                    generations = _GENERATIONS.unpack_from(raw, _NUMBERS.size + _FILES.size)
                found.append(FilesOpen(pid, (device, inode), wal, shm, path, *generations))
    return found


def is_held(counter: Path) -> bool:
    """Say whether the process of a counter lives."""
    try:
        file = os.open(counter, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(file)
    return False


class FileTally:
    """The tally of a writer of a SQLite file.

    Parameters
    ----------
    database : Path
        The database's file; the counter lies in the folder `<database>.open` beside it. Where that cannot be
        used, nothing is kept, and that is said in the log.
    collect : bool
        Whether the counters of the dead are read and removed; else who opens the database next does it.
    """

    def __init__(self, database: Path, collect: bool = True) -> None:
        self.gaps: list[Gap] = []
        self._counter: Counter | None = None
        self._old: Counter | None = None
        self._numbers = (0, 0)
        folder = database.with_name(f"{database.name}.open")
        try:
            folder.mkdir(
                exist_ok=True
            )  # not its parents: a wrong path of the database must not make itself right
            if collect:
                self.gaps = _collect(database, folder)
            self._counter = Counter(folder / f"{os.getpid()}-{time.time_ns():x}")
        except OSError as error:
            _log.warning("what a kill would lose of %s cannot be counted: %s", database, error)

    def keep_files(self, files: FilesOpen) -> None:
        """Record which files are open, so that others know; count anew where the counter is gone."""
        if self._counter is None:
            return
        try:
            if not self._counter.path.exists():  # deleted along with the database, which is back
                folder = self._counter.path.parent
                folder.mkdir(exist_ok=True)
                anew = Counter(folder / f"{os.getpid()}-{time.time_ns():x}")
                anew.keep(*self._numbers)
                # The old one is closed only with the next: it may just be written to.
                if self._old is not None:
                    self._old.close()
                self._old, self._counter = self._counter, anew
        except OSError as error:
            _log.warning("what a kill would lose cannot be counted: %s", error)
        self._counter.keep_files(files)

    def opened(self, connection: Connection) -> None:
        """See `Tally.opened`."""

    def writing(self, connection: Connection) -> None:
        """See `Tally.writing`."""

    def keep(self, taken: int, settled: int) -> None:
        """See `Tally.keep`."""
        self._numbers = taken, settled
        if self._counter is not None:
            self._counter.keep(taken, settled)

    def written_all(self, connection: Connection | None) -> None:
        """See `Tally.written_all`."""

    def close(self) -> None:
        """See `Tally.close`."""
        for counter in (self._counter, self._old):
            if counter is not None:
                counter.close()


def complain_of(gap: Gap, database: object, host: str = "") -> None:
    """Say in the log what is missing."""
    _log.error(
        "process %d%s ended without closing %s: at most %d records are missing, the last of %s",
        gap.pid, f" of {host}" if host else "", database, gap.at_most,
        time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(gap.ended)),
    )  # fmt: skip


def _collect(database: Path, folder: Path) -> list[Gap]:
    """Read and remove the counters of the dead, and write down what they lost."""
    now = time.time()
    with counters_of_the_dead(folder) as dead:
        gaps = [
            Gap(int(name.partition("-")[0]), missing, ended, now) for name, missing, ended in dead if missing
        ]
        for gap in gaps:
            complain_of(gap, database)
        if gaps:
            with database.with_name(f"{database.name}.gaps.jsonl").open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(asdict(gap)) + "\n" for gap in gaps)
    return gaps
