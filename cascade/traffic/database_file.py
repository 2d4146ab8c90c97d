"""Which file a process has open as its SQLite database, and whether that is still the one at the path.

SQLite keeps writing to a file that was moved or deleted, or that another was put in the place of, and says
that all went well. What was acknowledged is then lost, and processes that opened the path at different times
do not see each other. So the file at the path is compared with the open one wherever something is promised.

- It is gone: nothing is read, written or made until it is back.
- Another database of ours lies there, a backup that was put back: it is opened in place of the old one.
- Anything else lies there: as if it were gone.

The log of the old file (`-wal`, `-shm`) stays at the path. SQLite would take it for that of the new one and
ruin it, so it is set aside first: known by who had it open, see `cascade.traffic.tally.counted_files`. Of a
process that lives inode numbers tell that. Those of a dead one may be another file's by now, even of the log
that was restored along with its database, so there the inode's generation must be the same as well.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Protocol

from cascade.errors import StoreError
from cascade.traffic.inode import generation_of
from cascade.traffic.migrations import VERSION
from cascade.traffic.schema import FileConnection, Identity, uri_of
from cascade.traffic.tally import FilesOpen, counted_files, is_held

_LOOK_EVERY = 0.25
"""Seconds that a look counts for who only reads."""

_log = logging.getLogger(__name__)


class Open(Protocol):
    """Opens a connection: see `cascade.traffic.schema.connect_writer`."""

    def __call__(self, create: bool, verify: Callable[[FileConnection], None], /) -> FileConnection: ...  # noqa: D102


class DatabaseFile:
    """The file at a path, and which one it was when it was opened.

    Parameters
    ----------
    path : Path
    create : bool
        Whether the first who connects makes the file where none is.
    """

    def __init__(self, path: Path, create: bool = True) -> None:
        self.path = path
        self.generation = 0
        """Rises when another file is opened in place of the old one."""
        self.on_open: Callable[[FilesOpen], None] = lambda files: None
        """Told what is open, whenever that changes."""
        self._create = create
        self._open: Identity | None = None
        self._logs: set[int] = set()  # inodes of the log of the open file
        self._told: FilesOpen | None = None
        self._trouble = ""
        self._look_at = float("-inf")
        self._lock = threading.RLock()
        self._folder = path.with_name(f"{path.name}.open")

    def connected(self, open_: Open) -> FileConnection:
        """Open a connection to the file that is the database; make none but at the very first.

        Raises
        ------
        StoreError
            The file is gone, or another that is none of ours; or see `open_`.
        """
        self.look()
        connection = open_(self._create and self._open is None, self._verify)
        try:
            connection.execute("PRAGMA schema_version").fetchone()  # opens the log, too
        except BaseException:
            connection.close()
            raise
        self._tell()
        return connection

    def is_current(self, connection: FileConnection) -> bool:
        """Say whether a connection is to the file that is the database as of the last look."""
        return connection.file == self._open

    def require(self, connection: FileConnection) -> None:
        """Raise StoreError unless a connection's file is the one at the path, now."""
        if _identity(self.path) != connection.file:
            raise StoreError(
                f"the traffic database {self.path} is another file than the open one, or gone: "
                "what is written would be lost"
            )

    def look_now_and_then(self) -> None:
        """Look, unless that was done a moment ago; raises what was found then."""
        if time.monotonic() >= self._look_at:
            self.look()
        elif self._trouble:
            raise StoreError(self._trouble)

    def look(self) -> None:
        """Compare the file at the path with the open one; open another of ours in its place.

        Raises
        ------
        StoreError
            It is gone, or another that is none of ours.
        """
        now = _identity(self.path)
        if now is None or now != self._open or self._trouble:
            with self._lock:
                self._look_closer()
        self._look_at = time.monotonic() + _LOOK_EVERY

    def _look_closer(self) -> None:
        now = _identity(self.path)
        if self._open is None:
            if now is None:
                self._may_make()
            else:
                self._set_logs_aside(now)
            return
        if now is None:
            raise self._complaint("is gone", "put it back, or restart to begin a new one")
        if now != self._open:
            if why := _unsound(self.path):
                raise self._complaint(
                    f"is another file than the open one, and cannot be opened in its place ({why})",
                    "put the right one there, or stop and look",
                )
            self._adopt(now)
        elif self._trouble:
            _log.warning("the traffic database %s is back", self.path)
        self._trouble = ""

    def _may_make(self) -> None:
        if not self._create:
            raise StoreError(f"no traffic database at {self.path}")
        for files in counted_files(self._folder):
            if files.file != (0, 0) and is_held(files.counter):
                raise StoreError(
                    f"no traffic database at {self.path}, but process {files.pid} has it open: it was moved "
                    "or deleted; put it back, or stop that process"
                )
        log = _log_paths(self.path)[0]
        with suppress(OSError):
            if log.stat().st_size:
                raise StoreError(
                    f"no traffic database at {self.path}, but its log {log} is there: the database was moved "
                    "or deleted, and the log holds what is not in it; put the database back, or move the log"
                )

    def _complaint(self, what: str, advice: str) -> StoreError:
        text = (
            f"the traffic database {self.path} {what}: what is written would be lost, so nothing is; {advice}"
        )
        if text != self._trouble:
            _log.error("%s", text)
            self._trouble = text
        self._look_at = time.monotonic() + _LOOK_EVERY
        return StoreError(text)

    def _adopt(self, now: Identity) -> None:
        from cascade.traffic.schema import connect_writer

        before, logs = self._open, self._logs
        self._set_logs_aside(now)
        self._open, self._logs = now, set()
        try:
            # Brings a backup of an older schema up to date, for those who read first.
            connect_writer(self.path, 5.0, False, self._verify).close()
        except (sqlite3.Error, StoreError) as error:
            self._open, self._logs = before, logs
            raise self._complaint(
                f"is another file than the open one, and cannot be opened in its place ({error})",
                "put the right one there, or stop and look",
            ) from error
        self.generation += 1
        _log.error(
            "the traffic database %s is another file now, and is read and written from here on: "
            "what was recorded since the two parted is in the old one only",
            self.path,
        )

    def _verify(self, connection: FileConnection) -> None:
        """Make sure which file was just opened, before anything is read from it."""
        connection.file = _identity(self.path)
        with self._lock:
            if self._open is None:
                self._open = connection.file
            if connection.file is None or connection.file != self._open:
                raise StoreError(f"the traffic database {self.path} was moved while it was opened")

    def _tell(self) -> None:
        logs = _log_paths(self.path)
        wal, shm = (found[1] if found else 0 for found in map(_identity, logs))
        generations = [generation_of(each, self._open) for each in (self.path, *logs)]
        with self._lock:
            if self._open is None:
                return
            self._logs = {wal, shm} - {0}
            files = FilesOpen(os.getpid(), self._open, wal, shm, Path(), *generations)
            if files != self._told:
                self._told = files
                self.on_open(files)

    def _set_logs_aside(self, now: Identity) -> None:
        """Move the log at the path away if it is known to be of another file than the one there now.

        Raises
        ------
        StoreError
            It may be of another file, which cannot be told; or it is, and cannot be moved.
        """
        with self._alone():
            counted = [(files, is_held(files.counter)) for files in counted_files(self._folder)]
            try:
                # All are judged before any is moved: where one cannot be told, nothing is touched.
                for path in [
                    each for each in _log_paths(self.path) if self._is_of_another(each, now, counted)
                ]:
                    self._set_aside(path)
            except FileNotFoundError:  # the last who had it open took it along
                pass
            except OSError as error:
                raise StoreError(
                    f"the log of another file lies beside the traffic database {self.path} and cannot be set "
                    f"aside: {error}; move it away"
                ) from error

    def _is_of_another(self, path: Path, now: Identity, counted: list[tuple[FilesOpen, bool]]) -> bool:
        found = _identity(path)
        if found is None:
            return False
        is_shm = path.name.endswith("-shm")
        another = self._open is not None and self._open[1] != now[1] and found[1] in self._logs
        doubtful: list[str] = []
        for files, alive in counted:
            if found[1] != (files.shm if is_shm else files.wal):
                continue
            # A living process keeps its numbers from being given out again.
            same_log: bool | None = True
            same_file: bool | None = files.file[1] == now[1]
            if not alive:
                recorded = files.shm_generation if is_shm else files.wal_generation
                same_log = _same(recorded, generation_of(path, now))
                if same_file:
                    same_file = _same(files.file_generation, generation_of(self.path))
            if same_log is False:
                continue
            # A disk may have another number after a restart: the same inode is taken for the same file, also
            # where its generation is not known, and of another disk's inodes nothing is known.
            if same_file is not False:
                return False
            if files.file[0] != now[0]:
                continue
            if same_log:
                another = True
            else:
                doubtful.append(str(files.counter))
        # An index without its log is made anew by SQLite, and an empty log changes nothing.
        if doubtful and not another and not is_shm and path.stat().st_size:
            raise StoreError(
                f"it cannot be told whether the log {path} belongs to the traffic database {self.path}, so "
                "neither is touched: a process that was killed had a log of the same inode number, and "
                f"another database. If the database alone was replaced, move {path} away; if both were put "
                f"there together, remove {' and '.join(sorted(doubtful))}"
            )
        return another

    def _set_aside(self, path: Path) -> None:
        found = path.stat()
        if path.name.endswith("-shm") or not found.st_size:
            path.unlink()
            return
        aside = path.with_name(f"{path.name}.{found.st_ino}.old")
        path.rename(aside)
        _log.error("the log of the file that was at %s before is set aside as %s", self.path, aside)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other processes out: what one sets aside, and makes anew, the next must not."""
        try:
            folder = os.open(self._folder, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # nobody has kept count of anything
            yield
            return
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)


def _identity(path: Path) -> Identity | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _same(recorded: int, generation: int) -> bool | None:
    """Compare two generations; None where one is not known."""
    return recorded == generation if recorded and generation else None


def _log_paths(path: Path) -> tuple[Path, Path]:
    real = os.path.realpath(path)  # SQLite puts them beside what a symbolic link points to
    return Path(f"{real}-wal"), Path(f"{real}-shm")


def _unsound(path: Path) -> str:
    """Say what is wrong with the file at a path, without touching it or a log beside it."""
    try:
        with closing(sqlite3.connect(uri_of(path, "ro&immutable=1"), uri=True)) as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    except sqlite3.Error as error:
        return str(error)
    if version > VERSION:
        return "a newer Cascade wrote it"
    if not version or "decisions" not in tables:
        return "it is no traffic database"
    return ""
