"""Makes visible what a killed replica lost, in a PostgreSQL database that machines share.

A writer that has something to write enlists in the table `writers` and holds an advisory lock for as long as
its connection lives; one that closes leaves the table. A writer that is enlisted and holds no lock has been
killed, or cut off together with its machine: every other writer looks for such when it opens and twice a
minute while it writes, and moves it to the table `gaps`, where it stays.

How many records are missing is exact where the dead writer's counter (see `cascade.traffic.tally`) is found
on the machine that looks: it is in a folder of its own there. Else all that is known is how many may have
waited at most; the exact number follows once a writer opens on that machine.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cascade.traffic.database import Connection, Database, Row
from cascade.traffic.tally import Counter, Gap, complain_of, counters_of_the_dead

_log = logging.getLogger(__name__)

_LOOK_EVERY = 30.0

# An advisory lock by a 64-bit key stands in two columns of 32 bits each.
_UNLOCKED = """
SELECT writer, host, pid, queue, seen FROM writers WHERE writer <> ? AND NOT EXISTS (
    SELECT 1 FROM pg_locks
    WHERE locktype = 'advisory' AND objsubid = 1 AND granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND ((classid::bigint << 32) | objid::bigint) = writers.lock
)"""
_ENLIST = """
INSERT INTO writers (writer, host, pid, lock, queue, seen) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (writer) DO UPDATE SET lock = excluded.lock, seen = excluded.seen"""
_NOTE = """
INSERT INTO gaps (writer, host, pid, at_most, exact, ended, found) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (writer) DO NOTHING"""


class PostgresTally:
    """The tally of a writer of a PostgreSQL database. See `cascade.traffic.tally.Tally`.

    Parameters
    ----------
    database : Database
    queue : int
        How many records may wait in a writer.
    folder : Path, optional
        Where writers of this machine keep their counters; none are kept without it.

    Attributes
    ----------
    gaps : list of Gap
        What this writer has found so far.
    """

    def __init__(self, database: Database, queue: int, folder: Path | None) -> None:
        self.gaps: list[Gap] = []
        self._database, self._queue, self._folder = database, queue, folder
        self._host = socket.gethostname()
        self._name = f"{os.getpid()}-{secrets.token_hex(8)}"
        self._counter: Counter | None = None
        self._enlisted: Connection | None = None
        self._looked = float("-inf")
        self._left = True
        try:
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
                self._counter = Counter(folder / self._name)
        except OSError as error:
            _log.warning("what a kill would lose of %s cannot be counted exactly: %s", database.name, error)

    def opened(self, connection: Connection) -> None:
        """Look for the dead."""
        self._guarded(connection, self._look)

    def writing(self, connection: Connection) -> None:
        """Enlist, once for each connection, and look for the dead now and then."""
        if connection is not self._enlisted and self._guarded(connection, self._enlist):
            self._enlisted, self._left = connection, False
        if time.monotonic() - self._looked > _LOOK_EVERY:
            self._guarded(connection, self._look)

    def keep(self, taken: int, settled: int) -> None:
        """See `Tally.keep`."""
        if self._counter is not None:
            self._counter.keep(taken, settled)

    def written_all(self, connection: Connection | None) -> None:
        """Leave the table."""
        if connection is not None and not self._left:
            self._left = self._guarded(connection, self._leave)

    def close(self) -> None:
        """See `Tally.close`."""
        if self._counter is not None:
            # Who could not leave is found without a lock; the counter then says that nothing is missing.
            self._counter.close(remove=self._left)

    def _guarded(self, connection: Connection, step: Callable[[Connection], None]) -> bool:
        """Say whether a step succeeded; a failure is logged and costs nothing else."""
        expected: tuple[type[Exception], ...] = (*self._database.errors, OSError)
        try:
            step(connection)
        except expected as error:
            _log.warning("gaps of %s are not looked after: %s", self._database.name, error)
            return False
        return True

    @contextmanager
    def _transaction(self, connection: Connection) -> Iterator[None]:
        """One transaction under the write lock."""
        try:
            self._database.begin(connection)
            yield
            connection.execute("COMMIT")
        except BaseException:
            with suppress(*self._database.errors):
                connection.execute("ROLLBACK")
            raise

    def _enlist(self, connection: Connection) -> None:
        # A key of its own for each connection: the server may not have noticed yet that the last one is gone.
        lock = secrets.randbits(62)
        row = (self._name, self._host, os.getpid(), lock, self._queue, time.time())
        with self._transaction(connection):
            connection.execute("SELECT pg_advisory_lock(?)", (lock,))
            connection.execute(_ENLIST, row)
            again = connection.execute("DELETE FROM gaps WHERE writer = ?", (self._name,)).rowcount
        if again:
            _log.warning("process %d was taken for dead; it goes on, and its gap is withdrawn", os.getpid())

    def _leave(self, connection: Connection) -> None:
        with self._transaction(connection):
            connection.execute("DELETE FROM writers WHERE writer = ?", (self._name,))

    def _look(self, connection: Connection) -> None:
        self._looked = time.monotonic()
        with (
            counters_of_the_dead(self._folder) as counted,
            self._transaction(connection),  # ends first: only what is written down is removed
        ):
            self._note(connection, counted)

    def _note(self, connection: Connection, counted: list[tuple[str, int, float]]) -> None:
        """Move the dead from `writers` to `gaps`."""
        now = time.time()
        connection.execute("UPDATE writers SET seen = ? WHERE writer = ?", (now, self._name))
        unlocked: dict[str, Row] = {row[0]: row for row in connection.execute(_UNLOCKED, (self._name,))}
        for name, missing, ended in counted:
            pid = int(name.partition("-")[0])
            unlocked.pop(name, None)
            # Beside the exact number, what another machine wrote down as the most it can be says nothing.
            connection.execute("DELETE FROM gaps WHERE writer = ?", (name,))
            connection.execute("DELETE FROM writers WHERE writer = ?", (name,))
            if missing:
                self._found(connection, name, self._host, Gap(pid, missing, ended, now), exact=True)
        for name, host, pid, queue, seen in unlocked.values():
            if self._folder and (self._folder / name).exists():
                continue  # held by a living process, which has lost its connection for a while
            connection.execute("DELETE FROM writers WHERE writer = ?", (name,))
            self._found(connection, name, host, Gap(pid, queue, seen, now), exact=False)

    def _found(self, connection: Connection, name: str, host: str, gap: Gap, exact: bool) -> None:
        connection.execute(_NOTE, (name, host, gap.pid, gap.at_most, int(exact), gap.ended, gap.found))
        complain_of(gap, self._database.name, host)
        self.gaps.append(gap)
