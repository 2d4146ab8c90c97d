"""The traffic log in a SQLite file, written by any number of processes on one machine."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from cascade.errors import StoreError, UnknownDecision
from cascade.redaction.redactor import Redactor
from cascade.traffic.cipher import Cipher
from cascade.traffic.database import Connection, Database, Insert, Row
from cascade.traffic.group_commit import Limits
from cascade.traffic.rows import INSERT_DECISION, insert_decision
from cascade.traffic.schema import connect_reader, connect_writer
from cascade.traffic.sql_store import SqlStore
from cascade.traffic.tally import FileTally


class SqliteDatabase(Database):
    """A SQLite file.

    Parameters
    ----------
    path : Path
        The database file, created if missing; its folder exists.
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

    def __init__(self, path: Path, busy_timeout: float = 5.0) -> None:
        super().__init__(str(path))
        self._path = path
        self._busy_timeout = busy_timeout

    def connect_writer(self) -> Connection:
        """See `Database.connect_writer`."""
        return connect_writer(self._path, self._busy_timeout)

    def connect_reader(self) -> Connection:
        """See `Database.connect_reader`."""
        return connect_reader(self._path, self._busy_timeout)

    def begin(self, connection: Connection) -> None:
        """See `Database.begin`."""
        connection.execute("BEGIN IMMEDIATE")

    def write_group(
        self, connection: Connection, inserts: Sequence[Insert | Exception]
    ) -> list[Exception | None]:
        """See `Database.write_group`."""
        self.begin(connection)
        errors: list[Exception | None] = []
        at = 0
        for statement, rows in _runs(inserts):
            run = inserts[at : at + len(rows)]
            at += len(rows)
            errors += self._insert_run(connection, statement, rows, run)
        connection.execute("COMMIT")
        return errors

    def _insert_run(
        self,
        connection: Connection,
        statement: str | None,
        rows: Sequence[Row],
        run: Sequence[Insert | Exception],
    ) -> list[Exception | None]:
        if statement is not None:
            try:
                connection.executemany(statement, rows)
            except self.row_errors:
                pass  # those before the culprit are there, and are left alone when they come again
            else:
                return [None] * len(run)
        return [each if isinstance(each, Exception) else self._insert(connection, each) for each in run]

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

    def reuse_log(self, error: StoreError) -> bool:
        """See `Database.reuse_log`. What the log holds goes into the file, and the log begins anew."""
        cause = error.__cause__
        if getattr(cause, "sqlite_errorcode", None) != sqlite3.SQLITE_FULL:
            return False
        with suppress(sqlite3.Error, StoreError), closing(self.connect_writer()) as connection:
            # Not TRUNCATE, which would give the log's room to whoever fills the disk.
            connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
        return True


def _runs(inserts: Sequence[Insert | Exception]) -> Iterator[tuple[str | None, list[Row]]]:
    """Give the rows that follow each other and ask for nothing else, with a statement for all of them.

    What comes between has no statement, and a row for each that says nothing.
    """
    statement, rows = None, list[Row]()
    for insert in inserts:
        its: str | None = None
        row: Row = ()
        if isinstance(insert, Insert) and insert.needs_decision is None:
            its, row = insert.statement, insert.row
            if its is INSERT_DECISION and row[-1] is None and row[-2] is None:
                columns = 19 if row[17] is not None or row[18] is not None else 17
                its, row = _SHORTER[columns], row[:columns]
        if its is not statement and rows:
            yield statement, rows
            rows = []
        statement = its
        rows.append(row)
    if rows:
        yield statement, rows


# sqlite3 asks an adapter about each None that it binds: four of them are an eighth of what a row takes.
_SHORTER = {columns: insert_decision(columns) for columns in (17, 19)}


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
    ) -> None:
        self.path = Path(path)
        tally = FileTally(self.path)
        self.gaps = tally.gaps
        try:
            super().__init__(SqliteDatabase(self.path, busy_timeout), limits, cipher, redactor, tally)
        except BaseException as error:
            tally.close()
            if isinstance(error.__cause__, sqlite3.OperationalError) and "unable to open" in str(error):
                why = "its folder must be there and writable, also for the files that SQLite puts beside it"
                raise StoreError(f"{error}; {why}") from error.__cause__
            if isinstance(error.__cause__, sqlite3.OperationalError) and _is_full(self.path.parent):
                raise StoreError(f"{error}; the disk is full: make some MB of room") from error.__cause__
            raise

    def __enter__(self) -> SqliteStore:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
