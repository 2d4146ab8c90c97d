"""How a connection to the traffic database in SQLite is opened, and brought to the present schema."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from cascade.errors import WrongDatabase
from cascade.traffic.inode import OPENING
from cascade.traffic.migrations import STEPS, VERSION

_WAL_TRIES = 100

_READER_CACHE_KB = 256
"""Pages that a connection for reading holds. SQLite's own 2 MB would fill as the log grows, once for each
connection of each process, and save nothing: what another connection commits empties them, and the kernel has
the pages anyway. The writer keeps 2 MB; what no longer fits would go to disk before its commit."""

# Of each None that it binds, sqlite3 asks who adapts it, by way of an exception that nobody sees, unless an
# adapter is there: 0.25 us, and a decision has four.
sqlite3.register_adapter(type(None), lambda none: none)


Identity = tuple[int, int]
"""Device and inode: which file it is, whatever its name."""


class FileConnection(sqlite3.Connection):
    """A connection that knows which file it is to.

    Attributes
    ----------
    file : Identity or None
        None where nobody asked.
    """

    file: Identity | None = None


def _no_question(connection: FileConnection) -> None:
    pass


def connect_reader(
    path: Path,
    busy_timeout: float,
    create: bool = True,
    verify: Callable[[FileConnection], None] = _no_question,
) -> FileConnection:
    """Open a connection that cannot write; makes no file, whatever `create`. Raises sqlite3.Error."""
    connection = _connect(path, busy_timeout, False, verify)
    try:
        connection.execute("PRAGMA query_only = ON")
        connection.execute(f"PRAGMA cache_size = -{_READER_CACHE_KB}")
    except BaseException:
        connection.close()
        raise
    return connection


def connect_writer(
    path: Path,
    busy_timeout: float,
    create: bool = True,
    verify: Callable[[FileConnection], None] = _no_question,
) -> FileConnection:
    """Open a connection that writes durably; bring a new or an older file to the present schema.

    Parameters
    ----------
    path : Path
        The database file; its folder exists.
    busy_timeout : float
        Seconds to wait for other processes that write.
    create : bool
        Whether the file is made if missing.
    verify : callable
        Told of the connection before anything is read; what it raises is raised.

    Returns
    -------
    FileConnection
        In autocommit mode; a commit returns once its data is synced to disk.

    Raises
    ------
    WrongDatabase
        The file is of a newer schema, or not a traffic database.
    sqlite3.Error
        It cannot be opened.
    """
    connection = _connect(path, busy_timeout, create, verify)
    try:
        _migrate(connection, path)
        _use_wal(connection)
        # FULL syncs the log at every commit. NORMAL would lose acknowledged outcomes with the power.
        connection.execute("PRAGMA synchronous = FULL")
    except BaseException:
        connection.close()
        raise
    return connection


def uri_of(path: Path, mode: str) -> str:
    """Give what SQLite opens a file by, in a mode: `rw`, `rwc`, `ro`."""
    return f"file:{quote(str(path.absolute()))}?mode={mode}"


def _connect(
    path: Path, busy_timeout: float, create: bool, verify: Callable[[FileConnection], None]
) -> FileConnection:
    with OPENING:
        connection = sqlite3.connect(
            uri_of(path, "rwc" if create else "rw"), uri=True, timeout=busy_timeout, isolation_level=None,
            check_same_thread=False,  # opened by one thread, used by another; never by two at once
            factory=FileConnection,
        )  # fmt: skip
    try:
        verify(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    if _version(connection, path) == VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Asked again under the lock: another process may have done it meanwhile.
        version = _version(connection, path)
        if version == 0 and connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise WrongDatabase(f"{path} is a database of something else: point `store` at another file")
        for step in STEPS[version:]:
            for statement in step.sql("sqlite"):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _version(connection: sqlite3.Connection, path: Path) -> int:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > VERSION:
        raise WrongDatabase(
            f"{path} was written by a newer Cascade (schema {version}, this one knows up to {VERSION}): "
            "upgrade Cascade, or point `store` at another file"
        )
    return version


def _use_wal(connection: sqlite3.Connection) -> None:
    # SQLite does not wait for the lock when two processes switch at once, so the waiting is done here. A file
    # system without WAL keeps the rollback journal, which is as durable and only slower.
    for tries_left in reversed(range(_WAL_TRIES)):
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
            return
        except sqlite3.OperationalError:
            if not tries_left:
                raise
            time.sleep(0.01)
