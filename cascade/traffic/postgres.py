"""The traffic log in PostgreSQL, written by any number of replicas on any number of machines."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing, suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import psycopg

from cascade.errors import StoreError, UnknownDecision, WrongDatabase
from cascade.redaction.redactor import Redactor
from cascade.traffic.cipher import Cipher
from cascade.traffic.database import Connection, Cursor, Database, Insert, Row, Write
from cascade.traffic.decision_columns import INSERT_DECISION, DecisionColumns
from cascade.traffic.group_commit import Limits
from cascade.traffic.migrations import STEPS, VERSION
from cascade.traffic.postgres_tally import PostgresTally
from cascade.traffic.sql_store import SqlStore

# One writer at a time, as in SQLite: then the order of `seq` is the order of the commits, so that the first
# decision of a request id stays the first, and what was exported once is never joined by an earlier row.
_LOCK = "SELECT pg_advisory_xact_lock(67824, hashtext(current_schema()::text))"
_VERSION_TABLE = "cascade_schema"


class PostgresConnection:
    """A psycopg connection that takes `?` for values.

    PostgreSQL's text cannot hold the character NUL; U+FFFD is stored, and looked up, in its place.
    """

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def execute(self, sql: str, values: Sequence[Any] = (), /) -> Cursor:
        """See `Connection.execute`."""
        return self._connection.execute(_translated(sql), _without_nul(values))

    def executemany(self, sql: str, rows: Sequence[Sequence[Any]], /) -> Cursor:
        """See `Connection.executemany`."""
        cursor = self._connection.cursor()
        cursor.executemany(_translated(sql), [_without_nul(row) for row in rows])
        return cursor

    def close(self) -> None:
        """See `Connection.close`."""
        self._connection.close()


class PostgresDatabase(Database):
    """A PostgreSQL database; the tables are in the first schema of its `search_path`.

    Parameters
    ----------
    url : str
        `postgresql://user@host:port/database?option=value`, as libpq reads it. The password comes from
        `PGPASSWORD` or `~/.pgpass`, which libpq reads by itself.
    busy_timeout : float
        Seconds that a write waits for other replicas that write.
    connect_timeout : float
        Seconds that opening a connection may take, rounded up.
    """

    backend = "postgresql"
    errors = (psycopg.Error,)
    row_errors = (
        psycopg.DataError,
        psycopg.IntegrityError,
        psycopg.ProgrammingError,
        ValueError,
        OverflowError,
    )
    begin_snapshot = "BEGIN ISOLATION LEVEL REPEATABLE READ"
    most_idle = 32  # to make one takes longer than a query

    def __init__(self, url: str, busy_timeout: float = 5.0, connect_timeout: float = 5.0) -> None:
        super().__init__(name_of(url))
        self._url = url
        self._lock_milliseconds = max(1, int(busy_timeout * 1000))  # 0 would mean: wait for ever
        self._connect_timeout = max(2, int(connect_timeout + 0.999))  # libpq takes 1 for 2

    def connect_writer(self) -> Connection:
        """See `Database.connect_writer`."""
        connection = self._connect()
        try:
            # A server may be set to acknowledge before its log is on disk.
            connection.execute("SET synchronous_commit = on")
            connection.execute(f"SET lock_timeout = {self._lock_milliseconds}")
            # So that the server notices within a minute that a machine is gone, and lets go of its locks.
            connection.execute("SET tcp_keepalives_idle = 30")
            connection.execute("SET tcp_keepalives_interval = 10")
            connection.execute("SET tcp_keepalives_count = 3")
            self._migrate(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def connect_reader(self) -> Connection:
        """See `Database.connect_reader`."""
        connection = self._connect()
        connection.execute("SET default_transaction_read_only = on")
        return connection

    def begin(self, connection: Connection) -> None:
        """See `Database.begin`."""
        connection.execute("BEGIN")
        connection.execute(_LOCK)

    def write_group(self, connection: Connection, writes: Sequence[Write]) -> list[Exception | None]:
        """See `Database.write_group`."""
        self.begin(connection)
        try:
            errors = self._write_at_once(connection, writes)
        except self.row_errors:
            # An error spoils a whole transaction here, so the culprit is found by writing one by one.
            connection.execute("ROLLBACK")
            self.begin(connection)
            errors = self._write_one_by_one(connection, writes)
        connection.execute("COMMIT")
        return errors

    def _write_at_once(self, connection: Connection, writes: Sequence[Write]) -> list[Exception | None]:
        there = self._decisions_there(connection, writes)
        errors: list[Exception | None] = []
        rows: dict[str, list[Row]] = {}
        for write in writes:
            if isinstance(write, DecisionColumns):
                rows.setdefault(INSERT_DECISION, []).extend(write.rows())
                there.update(write.ids)
                errors += [None] * len(write)
                continue
            error = write if isinstance(write, Exception) else _missing(write, there)
            errors.append(error)
            if isinstance(write, Insert) and error is None:
                rows.setdefault(write.statement, []).append(write.row)
        for statement, values in rows.items():
            connection.executemany(statement, values)
        return errors

    def _write_one_by_one(self, connection: Connection, writes: Sequence[Write]) -> list[Exception | None]:
        there = self._decisions_there(connection, writes)
        errors: list[Exception | None] = []
        for write in writes:
            if isinstance(write, DecisionColumns):
                for id_, row in zip(write.ids, write.rows(), strict=True):
                    error = self._write_one(connection, INSERT_DECISION, row)
                    if error is None:
                        there.add(id_)
                    errors.append(error)
                continue
            error = write if isinstance(write, Exception) else _missing(write, there)
            if isinstance(write, Insert) and error is None:
                error = self._write_one(connection, write.statement, write.row)
            errors.append(error)
        return errors

    def _write_one(self, connection: Connection, statement: str, row: Row) -> Exception | None:
        connection.execute("SAVEPOINT one")
        error: Exception | None = None
        try:
            connection.execute(statement, row)
        except self.row_errors as refused:
            connection.execute("ROLLBACK TO SAVEPOINT one")
            error = refused
        connection.execute("RELEASE SAVEPOINT one")
        return error

    def _decisions_there(self, connection: Connection, writes: Sequence[Write]) -> set[str]:
        needed = {each.needs_decision for each in writes if isinstance(each, Insert)} - {None}
        if not needed:
            return set()
        query = "SELECT decision_id FROM decisions WHERE decision_id = ANY(?)"
        return {id_ for (id_,) in connection.execute(query, ([_no_nul(str(id_)) for id_ in needed],))}

    def tables_with(self, connection: Connection, column: str) -> list[str]:
        """See `Database.tables_with`."""
        query = (
            "SELECT table_name FROM information_schema.columns "
            "WHERE table_schema = current_schema() AND column_name = ? ORDER BY table_name"
        )
        return [name for (name,) in connection.execute(query, (column,))]

    def reclaim(self, tables: Sequence[str]) -> None:
        """See `Database.reclaim`. Rewrites the tables; who writes them waits meanwhile.

        The server's write-ahead log and its archives and backups are out of reach from here.
        """
        try:
            with closing(self._connect()) as connection:
                for table in tables:
                    connection.execute(f"VACUUM FULL {table}")
                with suppress(psycopg.errors.InsufficientPrivilege):
                    connection.execute("CHECKPOINT")
        except psycopg.Error as error:
            raise StoreError(f"the traffic database {self.name} cannot be compacted: {error}") from error

    def _connect(self) -> PostgresConnection:
        return PostgresConnection(
            psycopg.connect(
                self._url,
                autocommit=True,
                connect_timeout=self._connect_timeout,
                application_name="cascade",
            )
        )

    def _migrate(self, connection: Connection) -> None:
        if self._version(connection) == VERSION:
            return
        try:
            self.begin(connection)
            # Asked again under the lock: another replica may have done it meanwhile.
            version = self._version(connection)
            if version == 0:
                if _has_table(connection, "decisions"):
                    raise StoreError(
                        f"{self.name} has a table `decisions` of something else: point `store` at another "
                        "database, or at another schema by ?options=-csearch_path%3Dcascade"
                    )
                connection.execute(f"CREATE TABLE {_VERSION_TABLE} (version BIGINT NOT NULL)")
                connection.execute(f"INSERT INTO {_VERSION_TABLE} VALUES (0)")
            for step in STEPS[version:]:
                for statement in step.sql("postgresql"):
                    connection.execute(statement)
            connection.execute(f"UPDATE {_VERSION_TABLE} SET version = {VERSION}")
            connection.execute("COMMIT")
        except BaseException:
            with suppress(psycopg.Error):
                connection.execute("ROLLBACK")
            raise

    def _version(self, connection: Connection) -> int:
        if not _has_table(connection, _VERSION_TABLE):
            return 0
        version = int(connection.execute(f"SELECT version FROM {_VERSION_TABLE}").fetchone()[0])
        if version > VERSION:
            raise WrongDatabase(
                f"{self.name} was written by a newer Cascade (schema {version}, this one knows up to "
                f"{VERSION}): upgrade Cascade, or point `store` at another database"
            )
        return version


class PostgresStore(SqlStore):
    """A `TrafficStore` in PostgreSQL, see `PostgresDatabase` and `SqliteStore` for the parameters.

    Records that wait are seen by `find` and `get` of the same process only, and an outcome can be reported to
    another replica only once its decision is on disk.

    Parameters
    ----------
    state : Path, optional
        A folder of this machine, in which writers count what a kill would lose. See `PostgresTally`.

    Attributes
    ----------
    gaps : list of Gap
        What processes that were killed had taken and not written, as found by this store.

    Raises
    ------
    StoreError
        It cannot be opened, or is of a newer schema.
    """

    def __init__(
        self,
        url: str,
        limits: Limits | None = None,
        busy_timeout: float = 5.0,
        cipher: Cipher | None = None,
        redactor: Redactor | None = None,
        state: Path | None = None,
        later: bool = False,
    ) -> None:
        database = PostgresDatabase(url, busy_timeout)
        limits = limits or Limits()
        folder = None if state is None else state / f"traffic-{sha256(url.encode()).hexdigest()[:12]}.open"
        tally = PostgresTally(database, limits.queue, folder)
        self.gaps = tally.gaps
        try:
            super().__init__(database, limits, cipher, redactor, tally, later)
        except BaseException:
            tally.close()
            raise

    def __enter__(self) -> PostgresStore:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def name_of(url: str) -> str:
    """Give a URL without what may be secret: no password, of the options only the host."""
    parts = urlsplit(url)
    host = dict(parse_qsl(parts.query)).get("host") or parts.hostname or "localhost"
    port = f":{parts.port}" if parts.port else ""
    user = f"{parts.username}@" if parts.username else ""
    return f"postgresql://{user}{host}{port}{parts.path}"


def _has_table(connection: Connection, name: str) -> bool:
    # Not to_regclass, whose cache still says no when another replica has just made the table.
    query = "SELECT count(*) FROM pg_catalog.pg_tables WHERE schemaname = current_schema() AND tablename = ?"
    return bool(connection.execute(query, (name,)).fetchone()[0])


def _missing(insert: Insert, there: set[str]) -> Exception | None:
    if insert.needs_decision is None or _no_nul(insert.needs_decision) in there:
        return None
    return UnknownDecision(f"no decision has the id {insert.needs_decision!r}")


@cache
def _translated(sql: str) -> bytes:
    return sql.replace("%", "%%").replace("?", "%s").encode()


def _without_nul(values: Sequence[Any]) -> list[Any]:
    return [_no_nul(value) if isinstance(value, str) else value for value in values]


def _no_nul(text: str) -> str:
    return text.replace("\x00", "\ufffd") if "\x00" in text else text
