"""The traffic log in a SQL database: one text of SQL for all of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any

from cascade.errors import StoreError
from cascade.redaction import Redactor
from cascade.traffic.cipher import Cipher
from cascade.traffic.database import Database, Row
from cascade.traffic.decision_columns import DECISION_COLUMNS
from cascade.traffic.group_commit import GroupWriter, Limits
from cascade.traffic.records import Call, Decision, ImportCount, Labelled, Outcome, StoreStats, TrainingRecord
from cascade.traffic.rows import CALL_COLUMNS, INSERT_LABELLED, LABELLED_COLUMNS, Rows
from cascade.traffic.sampling import sampled_rows
from cascade.traffic.tally import Tally
from cascade.traffic.training_view import read_training_records

_COUNTS = """
SELECT count(*), coalesce(sum(by_teacher), 0), count(error),
    (SELECT count(*) FROM outcomes JOIN decisions USING (decision_id) WHERE node = ?),
    (SELECT count(*) FROM labelled WHERE node = ?)
FROM decisions WHERE node = ?
"""

_TEACHER_MEANS = (
    "SELECT avg(usd), avg(latency_ms) FROM decisions WHERE node = ? AND by_teacher = 1 AND error IS NULL"
)
_LAST_TIMES = """
SELECT max(time),
    (SELECT max(outcomes.time) FROM outcomes JOIN decisions USING (decision_id) WHERE node = ?),
    (SELECT max(imported_at) FROM labelled WHERE node = ?)
FROM decisions WHERE node = ?
"""

_PAGE = 1_000


class SqlStore:
    """A `TrafficStore` in a SQL database.

    Parameters
    ----------
    database : Database
    limits : Limits, optional
        Of the queue and the writer.
    cipher : Cipher, optional
        Encrypts what was said, see there.
    redactor : Redactor, optional
        Redacts what was said before it is stored.
    tally : Tally, optional
        Keeps what a kill would lose.
    later : bool
        Whether a database that cannot be opened now is tried again with all that is read or written. Until
        then nothing can be, as with one that fails later. `WrongDatabase` is raised all the same.

    Raises
    ------
    StoreError
        It cannot be opened, is of a newer schema, or is no traffic database.
    """

    def __init__(
        self,
        database: Database,
        limits: Limits | None = None,
        cipher: Cipher | None = None,
        redactor: Redactor | None = None,
        tally: Tally | None = None,
        later: bool = False,
    ) -> None:
        self._database = database
        self._rows = Rows(cipher, redactor)
        self._closed = False
        self._closing = threading.Lock()
        try:
            self._writer = GroupWriter(database, self._rows, limits or Limits(), tally, later)
        except database.errors as error:
            why = f"{error}{database.advice(error)}"
            raise StoreError(f"the traffic database {database.name} cannot be opened: {why}") from error

    @property
    def database(self) -> Database:
        """See `TrafficStore.database`."""
        return self._database

    @property
    def rows(self) -> Rows:
        """See `TrafficStore.rows`."""
        return self._rows

    def record(self, *decisions: Decision) -> None:
        """See `TrafficStore.record`."""
        self._writer.record(*decisions)

    def record_call(self, call: Call) -> None:
        """See `TrafficStore.record_call`."""
        self._writer.record(call)

    def report(self, outcome: Outcome) -> Future[str]:
        """See `TrafficStore.report`."""
        return self._writer.report(outcome)

    def find(self, node: str, request_id: str) -> Decision | None:
        """See `TrafficStore.find`."""
        # The queue is asked first, since what leaves it is on disk by then; but what the disk has came first.
        waiting = self._writer.waiting_request(node, request_id)
        known = self._read_decision("node = ? AND request_id = ?", (node, request_id))
        if waiting is not None and (known is None or (known.error is not None and waiting.error is None)):
            return waiting
        return known

    def get(self, decision_id: str) -> Decision | None:
        """See `TrafficStore.get`."""
        waiting = self._writer.waiting_id(decision_id)
        return waiting or self._read_decision("decision_id = ?", (decision_id,))

    def import_labelled(self, records: Iterable[Labelled], replace: bool = False) -> ImportCount:
        """See `TrafficStore.import_labelled`. No JSON raises ValueError or TypeError."""
        now = time.time()
        # All rows are made before the transaction starts, so that other writers wait as short as possible.
        rows = [self._rows.labelled_row(record, now) for record in records]
        try:
            differing = self._differing(rows)
            with self._database.writing() as connection:
                if replace and differing:
                    connection.executemany("DELETE FROM labelled WHERE node = ? AND id = ?", differing)
                added = connection.executemany(INSERT_LABELLED, rows).rowcount if rows else 0
        except StoreError as error:
            raise StoreError(f"nothing was imported: {error}") from error.__cause__
        added -= len(differing) if replace else 0
        ids = tuple(id_ for _, id_ in differing)
        return ImportCount(added=added, already_there=len(rows) - added, differing=ids)

    def _differing(self, rows: Sequence[Row]) -> list[tuple[str, str]]:
        """Give node and id of the records that are there already with another output."""
        if not rows:
            return []
        stored: dict[tuple[str, str], str | None] = {}
        with self._database.reading() as connection:
            for node in {str(row[0]) for row in rows}:
                found = connection.execute("SELECT id, output FROM labelled WHERE node = ?", (node,))
                stored |= {(node, id_): output for id_, output in found}
        new = {(str(row[0]), str(row[1])): row[4] for row in rows}
        opened = self._rows.opened
        return [
            (node, id_)
            for (node, id_), output in new.items()
            if (node, id_) in stored
            and opened(stored[node, id_], "output", id_) != opened(output, "output", id_)
        ]

    def labelled(self, node: str) -> Iterator[Labelled]:
        """See `TrafficStore.labelled`."""
        after = -1
        query = f"SELECT {LABELLED_COLUMNS}, seq FROM labelled WHERE node = ? AND seq > ? ORDER BY seq"
        while True:
            with self._database.reading() as connection:
                rows = connection.execute(f"{query} LIMIT {_PAGE}", (node, after)).fetchall()
            yield from map(self._rows.labelled_of, rows)
            if len(rows) < _PAGE:
                return
            after = rows[-1][-1]

    def training_records(self, node: str) -> list[TrainingRecord]:
        """See `TrafficStore.training_records`."""
        with self._database.reading() as connection:
            return read_training_records(connection, self._database.begin_snapshot, self._rows, node)

    def decisions(
        self, node: str, since: float | None = None, until: float | None = None
    ) -> Iterator[Decision]:
        """See `TrafficStore.decisions`."""
        where, values = _window(since, until)
        for row in self._pages("decisions", DECISION_COLUMNS, f"node = ?{where}", (node, *values)):
            yield self._rows.decision_of(row)

    def sampled_decisions(
        self, node: str, bundle_version: str, since: float, until: float, most: int, share: float = 1.0
    ) -> list[Decision]:
        """See `TrafficStore.sampled_decisions`."""
        rows = sampled_rows(self._database, node, bundle_version, since, until, most, share)
        return sorted(map(self._rows.decision_of, rows), key=lambda found: (found.time, found.decision_id))

    def last_decision_time(self, node: str, before: float) -> float | None:
        """See `TrafficStore.last_decision_time`."""
        query = "SELECT MAX(time) FROM decisions WHERE node = ? AND time < ?"
        with self._database.reading() as connection:
            (found,) = connection.execute(query, (node, before)).fetchone()
        return None if found is None else float(found)

    def calls(self, since: float | None = None, until: float | None = None) -> Iterator[Call]:
        """See `TrafficStore.calls`."""
        where, values = _window(since, until)
        for row in self._pages("calls", CALL_COLUMNS, f"1 = 1{where}", values):
            yield self._rows.call_of(row)

    def counts(self, node: str) -> dict[str, int]:
        """See `TrafficStore.counts`."""
        with self._database.reading() as connection:
            row = connection.execute(_COUNTS, (node, node, node)).fetchone()
        names = ("decisions", "by_teacher", "errors", "outcomes", "imported")
        return dict(zip(names, map(int, row), strict=True))

    def last_times(self, node: str) -> dict[str, float | None]:
        """See `TrafficStore.last_times`."""
        with self._database.reading() as connection:
            row = connection.execute(_LAST_TIMES, (node, node, node)).fetchone()
        return dict(zip(("decision", "outcome", "import"), row, strict=True))

    def teacher_means(self, node: str) -> tuple[float, float] | None:
        """See `TrafficStore.teacher_means`."""
        with self._database.reading() as connection:
            row = connection.execute(_TEACHER_MEANS, (node,)).fetchone()
        return (float(row[0]), float(row[1])) if row[0] is not None else None

    def stats(self) -> StoreStats:
        """See `TrafficStore.stats`."""
        return self._writer.stats()

    def flush(self, timeout: float | None = None) -> bool:
        """See `TrafficStore.flush`."""
        return self._writer.flush(timeout)

    def close(self) -> None:
        """See `TrafficStore.close`."""
        with self._closing:
            if self._closed:
                return
            self._writer.close()
            self._closed = True
            self._database.close()

    def _read_decision(self, where: str, values: tuple[str, ...]) -> Decision | None:
        query = (
            f"SELECT {DECISION_COLUMNS} FROM decisions WHERE {where} ORDER BY error IS NOT NULL, seq LIMIT 1"
        )
        with self._database.reading() as connection:
            row = connection.execute(query, values).fetchone()
        return None if row is None else self._rows.decision_of(row)

    def _pages(self, table: str, columns: str, where: str, values: tuple[Any, ...]) -> Iterator[Row]:
        """Give rows by time and `seq`, a page a read, so that no connection is held between two of them."""
        query = f"SELECT {columns}, time, seq FROM {table} WHERE {where}"
        order = f" ORDER BY time, seq LIMIT {_PAGE}"
        after: tuple[Any, ...] = ()
        while True:
            page = query + (" AND (time, seq) > (?, ?)" if after else "") + order
            with self._database.reading() as connection:
                rows = connection.execute(page, values + after).fetchall()
            yield from rows
            if len(rows) < _PAGE:
                return
            after = tuple(rows[-1][-2:])


def _window(since: float | None, until: float | None) -> tuple[str, tuple[float, ...]]:
    bounds = [(" AND time >= ?", since), (" AND time < ?", until)]
    given = [(text, value) for text, value in bounds if value is not None]
    return "".join(text for text, _ in given), tuple(value for _, value in given)
