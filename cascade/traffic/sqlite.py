"""The traffic log in a SQLite file, written by any number of processes on one machine."""

from __future__ import annotations

import itertools
import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, cast

from cascade.errors import StoreError, UnknownDecision
from cascade.redaction.redactor import Redactor
from cascade.traffic.cipher import Cipher
from cascade.traffic.database import Connection, Database, Insert, Write
from cascade.traffic.database_file import DatabaseFile
from cascade.traffic.decision_columns import IF_NEW, DecisionColumns
from cascade.traffic.group_commit import Limits
from cascade.traffic.schema import FileConnection, connect_reader, connect_writer
from cascade.traffic.sql_store import SqlStore
from cascade.traffic.tally import FileTally


class SqliteDatabase(Database):
    """A SQLite file.

    Parameters
    ----------
    file : DatabaseFile
        Its folder exists.
    busy_timeout : float
        Seconds that a write waits for other processes that write.
    """

    backend = "sqlite"
    errors = (sqlite3.Error,)
    row_errors = (
        sqlite3.DataError,
        sqlite3.IntegrityError,
        sqlite3.InterfaceError,
        sqlite3.ProgrammingError,
        OverflowError,
        ValueError,
    )
    begin_snapshot = "BEGIN"
    most_idle = 8

    def __init__(self, file: DatabaseFile, busy_timeout: float = 5.0) -> None:
        super().__init__(str(file.path))
        self._file = file
        self._busy_timeout = busy_timeout

    @property
    def generation(self) -> int:
        """See `Database.generation`."""
        return self._file.generation

    def look(self) -> None:
        """See `Database.look`."""
        self._file.look_now_and_then()

    def is_current(self, connection: Connection) -> bool:
        """See `Database.is_current`."""
        return self._file.is_current(cast(FileConnection, connection))

    def require(self, connection: Connection) -> None:
        """See `Database.require`."""
        self._file.require(cast(FileConnection, connection))

    def connect_writer(self) -> Connection:
        """See `Database.connect_writer`."""
        return self._file.connected(partial(connect_writer, self._file.path, self._busy_timeout))

    def connect_reader(self) -> Connection:
        """See `Database.connect_reader`."""
        return self._file.connected(partial(connect_reader, self._file.path, self._busy_timeout))

    def begin(self, connection: Connection) -> None:
        """See `Database.begin`."""
        connection.execute("BEGIN IMMEDIATE")

    def write_group(self, connection: Connection, writes: Sequence[Write]) -> list[Exception | None]:
        """See `Database.write_group`."""
        self.begin(connection)
        errors: list[Exception | None] = []
        for write in writes:
            if isinstance(write, DecisionColumns):
                errors += self._insert_decisions(connection, write)
            else:
                errors.append(write if isinstance(write, Exception) else self._insert(connection, write))
        connection.execute("COMMIT")
        try:
            self.require(connection)  # after the commit: what it went to then is what a restart will read
        except StoreError:
            with suppress(sqlite3.Error):  # whoever keeps the old file has all of it there
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            raise
        return errors

    def _insert_decisions(
        self, connection: Connection, decisions: DecisionColumns
    ) -> Sequence[Exception | None]:
        columns, shared = decisions.own, list(decisions.shared.values())
        n, width = len(decisions), len(columns)
        values: list[Any] = [None] * (n * width)
        for place, column in enumerate(columns.values()):
            values[place::width] = column  # those of one decision, then those of the next
        names = tuple(decisions.shared), tuple(columns)
        one, size = _insert_statement(*names, 1), _TOGETHER * width
        left = n // _TOGETHER * size
        try:
            if left:  # else it would be prepared for nothing
                many = _insert_statement(*names, _TOGETHER)
                connection.executemany(many, [shared + values[at : at + size] for at in range(0, left, size)])
            connection.executemany(
                one, [shared + values[at : at + width] for at in range(left, n * width, width)]
            )
        except self.row_errors:
            # Those before the culprit are there, and are left alone when they come again.
            return [
                self._insert(connection, Insert(one, (*shared, *values[at : at + width])))
                for at in range(0, n * width, width)
            ]
        return [None] * n

    def _insert(self, connection: Connection, insert: Insert) -> Exception | None:
        try:
            if insert.needs_decision is not None:
                query = "SELECT 1 FROM decisions WHERE decision_id = ?"
                if connection.execute(query, (insert.needs_decision,)).fetchone() is None:
                    return UnknownDecision(f"no decision has the id {insert.needs_decision!r}")
            connection.execute(insert.statement, insert.row)
        except self.row_errors as error:
            return error
        return None

    def tables_with(self, connection: Connection, column: str) -> list[str]:
        """See `Database.tables_with`."""
        query = (
            "SELECT m.name FROM sqlite_master AS m, pragma_table_info(m.name) AS c "
            "WHERE m.type = 'table' AND c.name = ? ORDER BY m.name"
        )
        return [name for (name,) in connection.execute(query, (column,))]

    def reclaim(self, tables: Sequence[str]) -> None:
        """See `Database.reclaim`. Rewrites the file; needs as much free disk as it has."""
        try:
            with closing(self.connect_writer()) as connection:
                connection.execute("VACUUM")
                # The log still holds the old pages until it is emptied, which readers can delay.
                busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        except sqlite3.Error as error:
            raise StoreError(f"the traffic database {self.name} cannot be compacted: {error}") from error
        if busy:
            raise StoreError(
                f"the log of the traffic database {self.name} is still being read, so it may hold "
                "deleted content: run the command again"
            )

    def advice(self, error: Exception) -> str:
        """See `Database.advice`."""
        if not isinstance(error, sqlite3.OperationalError):
            return ""
        if "unable to open" in str(error):
            return "; its folder must be there and writable, also for the files that SQLite puts beside it"
        with suppress(OSError):
            if _is_full(self._file.path.parent):
                return "; the disk is full: make some MB of room"
        return ""

    def reuse_log(self, error: StoreError) -> bool:
        """See `Database.reuse_log`. What the log holds goes into the file, and the log begins anew."""
        cause = error.__cause__
        if getattr(cause, "sqlite_errorcode", None) != sqlite3.SQLITE_FULL:
            return False
        with suppress(sqlite3.Error, StoreError), closing(self.connect_writer()) as connection:
            # Not TRUNCATE, which would give the log's room to whoever fills the disk.
            connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
        return True


_TOGETHER = 16
"""Decisions that one statement adds: to begin one, and to bind what they share, costs the same for any.
Of 16 a row takes 0.6 of what it takes alone, of 32 hardly less, and preparing a longer one costs more."""


@lru_cache(maxsize=128)
def _insert_statement(shared: tuple[str, ...], own: tuple[str, ...], count: int) -> str:
    """Give the statement that adds so many decisions: of the values that they share, and then their own.

    FAIL keeps what it added before a row that is refused: to take it back, SQLite would have to copy what
    it changes first.
    """
    places = itertools.count(len(shared) + 1)
    rows = [
        ", ".join([f"?{at + 1}" for at in range(len(shared))] + [f"?{next(places)}" for _ in own])
        for _ in range(count)
    ]
    return f"INSERT OR FAIL INTO decisions ({', '.join(shared + own)}) VALUES ({'), ('.join(rows)}) {IF_NEW}"


def _is_full(folder: Path) -> bool:
    """Say whether SQLite could not even begin its log there, which it calls an I/O error."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize < 2**17


class SqliteStore(SqlStore):
    """A `TrafficStore` in a SQLite file.

    Open it after a fork, not before. Records that wait are seen by `find` and `get` of the same process only,
    and an outcome can be reported by another process only once its decision is on disk.

    Parameters
    ----------
    path : Path or str
        The database file, created if missing; its folder exists.
    limits : Limits, optional
        Of the queue and the writer.
    busy_timeout : float
        Seconds that a write waits for other processes that write.
    cipher : Cipher, optional
        Encrypts what was said, see there.
    redactor : Redactor, optional
        Redacts what was said before it is stored.
    create : bool
        Whether the file is made if missing.
    later : bool
        See `SqlStore`.

    Attributes
    ----------
    gaps : list of Gap
        What processes that were killed had taken and not written, as found now.

    Raises
    ------
    StoreError
        It cannot be opened, is of a newer schema, or is no traffic database.
    """

    def __init__(
        self,
        path: Path | str,
        limits: Limits | None = None,
        busy_timeout: float = 5.0,
        cipher: Cipher | None = None,
        redactor: Redactor | None = None,
        create: bool = True,
        later: bool = False,
    ) -> None:
        self.path = Path(path)
        file = DatabaseFile(self.path, create)
        found = True
        try:
            file.look()
        except StoreError:
            if not later:
                raise
            found = False
        # The counters of the dead say whose a log is: where it is still to be told, they stay.
        tally = FileTally(self.path, collect=found)
        file.on_open = tally.keep_files
        self.gaps = tally.gaps
        try:
            super().__init__(SqliteDatabase(file, busy_timeout), limits, cipher, redactor, tally, later)
        except BaseException:
            tally.close()
            raise

    def __enter__(self) -> SqliteStore:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
