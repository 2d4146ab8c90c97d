"""The seam between the traffic log and the database it lies in: SQLite or PostgreSQL.

SQL is written once, with `?` for values, and is understood by both. Who keeps tables of its own beside the
traffic (see `cascade.traffic.migrations`) reads and writes them through `TrafficStore.database`::

    with store.database.writing() as connection:      # one transaction, under the write lock of all processes
        connection.execute("INSERT INTO audits (decision_id) VALUES (?)", (decision_id,))
    with store.database.reading() as connection:
        rows = connection.execute("SELECT decision_id FROM audits").fetchall()
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from cascade.errors import StoreError
from cascade.traffic.decision_columns import DecisionColumns
from cascade.traffic.migrations import Backend

Row = tuple[Any, ...]


class Cursor(Protocol):
    """What a statement gave."""

    @property
    def rowcount(self) -> int:
        """How many rows it changed."""

    def fetchone(self) -> Any:
        """Give the next row, None after the last."""

    def fetchall(self) -> list[Any]:
        """Give all rows that are left."""

    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """A connection in autocommit mode, for one thread at a time."""

    def execute(self, sql: str, values: Sequence[Any] = (), /) -> Cursor:
        """Run a statement; `?` stands for a value."""

    def executemany(self, sql: str, rows: Sequence[Sequence[Any]], /) -> Cursor:
        """Run a statement once for each row of values."""

    def close(self) -> None:
        """Close it; what is open is rolled back."""


@dataclass(frozen=True, slots=True)
class Insert:
    """One row that a group of writes adds, of something else than a decision.

    Attributes
    ----------
    statement : str
    row : tuple
    needs_decision : str or None
        The id of the decision that must be there before it.
    """

    statement: str
    row: Row
    needs_decision: str | None = None


Write = Insert | DecisionColumns | Exception
"""What a group of writes consists of; an exception is why a record could not become a row."""


class Database(ABC):
    """A database that holds traffic. Any thread may call any method."""

    backend: ClassVar[Backend]
    errors: ClassVar[tuple[type[Exception], ...]]
    """What the driver raises."""
    row_errors: ClassVar[tuple[type[Exception], ...]]
    """What a statement raises where only its own values are at fault."""
    begin_snapshot: ClassVar[str]
    """Begins a transaction whose statements all see the same state."""
    most_idle: ClassVar[int]
    """Connections for reading that are kept: a rush in which hundreds of threads read leaves no more."""

    def __init__(self, name: str) -> None:
        self.name = name
        """What messages call it; holds no secrets."""
        self._idle: list[Connection] = []
        self._closed = False
        self._lock = threading.Lock()

    @property
    def generation(self) -> int:
        """Rises when another database takes the place of the open one: what was numbered is numbered anew."""
        return 0

    def look(self) -> None:  # noqa: B027
        """See that the database is still the one that is open; costs next to nothing if just done.

        Raises
        ------
        StoreError
            It is gone, or another.
        """

    def is_current(self, connection: Connection) -> bool:
        """Say whether a connection is to the database that is open now."""
        return True

    def require(self, connection: Connection) -> None:  # noqa: B027
        """Raise StoreError where what a connection has just committed is not in the database."""

    @abstractmethod
    def connect_writer(self) -> Connection:
        """Open a connection that commits durably; bring the schema up to date.

        Raises
        ------
        StoreError
            It is of a newer schema, or of something else.
        Exception
            One of `errors`: it cannot be opened.
        """

    @abstractmethod
    def connect_reader(self) -> Connection:
        """Open a connection that cannot write. Raises one of `errors`."""

    @abstractmethod
    def begin(self, connection: Connection) -> None:
        """Begin a transaction under the write lock that all processes share."""

    @abstractmethod
    def write_group(self, connection: Connection, writes: Sequence[Write]) -> list[Exception | None]:
        """Write rows in one transaction, and return once they are on disk.

        A row that is an exception already, that needs a decision which is not there, or whose values the
        database refuses leaves the others alone.

        Returns
        -------
        list of (Exception or None)
            What became of each row, in order. `UnknownDecision` where the decision it needs is not there.

        Raises
        ------
        Exception
            The whole group was not written.
        """

    @abstractmethod
    def tables_with(self, connection: Connection, column: str) -> list[str]:
        """Name the tables that have a column, sorted."""

    @abstractmethod
    def reclaim(self, tables: Sequence[str]) -> None:
        """Give up the space of deleted rows, so that their content is in none of the database's files.

        Raises
        ------
        StoreError
        """

    def advice(self, error: Exception) -> str:
        """Say what to do where the database cannot be opened, if its own words do not."""
        return ""

    def reuse_log(self, error: StoreError) -> bool:
        """Make room in the database's own files, where there was none on the disk for a transaction.

        Parameters
        ----------
        error : StoreError
            What `writing` raised.

        Returns
        -------
        bool
            Whether that is what went wrong, and a smaller transaction may do.
        """
        return False

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Lend a connection for reading: an idle one, or a new one. One that failed is not used again.

        A few are kept for the next who reads.

        Raises
        ------
        StoreError
            It cannot be read, or is closed.
        """
        if self._closed:
            raise StoreError("the traffic store is closed")
        try:
            self.look()
            try:
                connection = self._idle.pop()
                if not self.is_current(connection):
                    connection.close()
                    self._close_idle()
                    connection = self.connect_reader()
            except IndexError:
                connection = self.connect_reader()
            try:
                yield connection
            except BaseException as error:
                connection.close()
                if isinstance(error, self.errors):
                    self._close_idle()  # what broke one has mostly broken all
                raise
            if len(self._idle) < self.most_idle and not self._closed and self.is_current(connection):
                self._idle.append(connection)
            else:
                connection.close()
        except self.errors as error:
            raise StoreError(f"the traffic database {self.name} cannot be read: {error}") from error

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Lend a connection for one transaction under the write lock; it is committed durably at the end.

        An exception rolls it back. Other writers wait meanwhile, so nothing slow belongs inside.

        Raises
        ------
        StoreError
            It cannot be written, or is closed. Nothing was changed, but in a file that was moved meanwhile.
        """
        if self._closed:
            raise StoreError("the traffic store is closed")
        try:
            connection = self.connect_writer()
            try:
                self.begin(connection)
                yield connection
                connection.execute("COMMIT")
                self.require(connection)
            finally:
                connection.close()  # rolls back what is open
        except self.errors as error:
            raise StoreError(f"the traffic database {self.name} cannot be written: {error}") from error

    def close(self) -> None:
        """Let go of idle connections; nothing is lent afterwards."""
        with self._lock:
            self._closed = True
        self._close_idle()

    def _close_idle(self) -> None:
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:
                return
            connection.close()
