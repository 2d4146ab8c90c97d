"""What is older than it may be kept is deleted from the traffic log."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial

from cascade.errors import StoreError
from cascade.traffic.database import Database
from cascade.traffic.deletion import BATCH, Deleted, delete
from cascade.traffic.said import AGE, SAID

_log = logging.getLogger(__name__)


def prune(
    database: Database,
    default: float | None,
    tenants: Mapping[str, float],
    now: float | None = None,
    dry_run: bool = False,
) -> Deleted:
    """Delete traffic that is older than it may be kept, with all that refers to it.

    A decision's and a call's age counts from its time, an imported record's from its import.

    Parameters
    ----------
    database : Database
    default : float or None
        Seconds that traffic is kept; None for ever.
    tenants : mapping of str to float
        Other times for some tenants.
    now : float, optional
        Unix seconds.
    dry_run : bool
        Count only.

    Raises
    ------
    StoreError
        What was deleted until then stays deleted.
    """
    now = time.time() if now is None else now
    counts: dict[str, int] = {}
    rules: list[tuple[str, tuple[object, ...]]] = [
        ("tenant = ? AND {age} < ?", (tenant, now - kept)) for tenant, kept in tenants.items()
    ]
    if default is not None:
        others = f" AND tenant NOT IN ({', '.join('?' * len(tenants))})" if tenants else ""
        rules.append(
            (f"(tenant IS NULL OR (tenant IS NOT NULL{others})) AND {{age}} < ?", (*tenants, now - default))
        )
    size = BATCH
    for table, age in AGE.items():
        for where, values in rules:
            query = f"SELECT seq, {SAID[table][0]} FROM {table} WHERE {where.format(age=age)}"
            while True:
                with database.reading() as connection:
                    limit = "" if dry_run else f" LIMIT {BATCH}"
                    rows = connection.execute(query + limit, values).fetchall()
                if dry_run:
                    counts[table] = counts.get(table, 0) + len(rows)
                else:
                    size = _delete_in_room(database, table, [tuple(row) for row in rows], counts, size)
                if dry_run or len(rows) < BATCH:
                    break
    return Deleted({table: count for table, count in counts.items() if count})


class Pruner:
    """Deletes what is too old, now and then, from a thread.

    Parameters
    ----------
    database : Database
    default, tenants
        See `prune`.
    every : float
        Seconds from one time to the next.
    """

    def __init__(
        self, database: Database, default: float | None, tenants: Mapping[str, float], every: float = 3600.0
    ) -> None:
        self._work = partial(prune, database, default, tenants)
        self._every = every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traffic-pruner", daemon=True)
        self._thread.start()

    @classmethod
    def of(cls, database: Database, default: float | None, tenants: Mapping[str, float]) -> Pruner | None:
        """Start one where anything is ever too old."""
        return cls(database, default, tenants) if default is not None or tenants else None

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                deleted = self._work()
                if deleted.rows:
                    _log.info("traffic older than its retention was deleted: %s", deleted.rows)
            except StoreError as error:
                _log.error("traffic older than its retention was not deleted: %s", error)
            self._stop.wait(self._every)


def _delete_in_room(
    database: Database, table: str, rows: Sequence[tuple[int, str]], counts: dict[str, int], size: int
) -> int:
    """Delete rows, in smaller transactions where the disk is full; give how many rows there was room for."""
    at = 0
    emptied = False
    while at < len(rows):
        try:
            delete(database, table, rows[at : at + size], counts)
        except StoreError as error:
            # Deleting writes, too, into the log, which cannot grow on a full disk: so it is emptied, and a
            # transaction must fit into the room that it has.
            if not database.reuse_log(error):
                raise
            if emptied and size == 1:
                raise StoreError(
                    f"{error}; deleting needs a little room, too: make 5 MB, and prune again"
                ) from error
            size = max(1, size // 4) if emptied else size
            emptied = True
        else:
            at += size
            emptied = False
    return size
