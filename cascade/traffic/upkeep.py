"""Deleting from the traffic log: what is older than it may be kept, and what a person wants erased."""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from cascade.errors import StoreError
from cascade.redaction import Redactor
from cascade.traffic.cipher import Cipher
from cascade.traffic.database import Database, Row
from cascade.traffic.rows import Rows

_log = logging.getLogger(__name__)

_BATCH = 500  # rows deleted in one transaction: other writers wait meanwhile
_PAGE = 1_000

# Where what was said stands: the table, its id column, and its columns.
_SAID: dict[str, tuple[str, tuple[str, ...]]] = {
    "decisions": ("decision_id", ("text", "messages", "context", "output", "attempts", "error")),
    "outcomes": ("outcome_id", ("output",)),
    "labelled": ("id", ("text", "messages", "output", "context")),
    "calls": ("call_id", ("messages", "output", "context", "error")),
}
_PLAIN = {"labelled": ("session",)}  # said as well, and never encrypted
# Answers that rollouts keep beside a decision: encrypted under names of their own, and deleted with it.
_BESIDE = {
    "audits": ("id", "decision_id", {"output": "audit.output"}),
    "shadow_runs": ("id", "decision_id", {"answer": "shadow.answer"}),
}
_AGE = {"decisions": "time", "labelled": "imported_at", "calls": "time"}


@dataclass(frozen=True, slots=True)
class Deleted:
    """How many rows were deleted, by table, and the ids of the records that training may have read."""

    rows: dict[str, int]
    record_ids: tuple[str, ...] = ()


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
    size = _BATCH
    for table, age in _AGE.items():
        for where, values in rules:
            query = f"SELECT seq, {_SAID[table][0]} FROM {table} WHERE {where.format(age=age)}"
            while True:
                with database.reading() as connection:
                    limit = "" if dry_run else f" LIMIT {_BATCH}"
                    rows = connection.execute(query + limit, values).fetchall()
                if dry_run:
                    counts[table] = counts.get(table, 0) + len(rows)
                else:
                    size = _delete_in_room(database, table, [tuple(row) for row in rows], counts, size)
                if dry_run or len(rows) < _BATCH:
                    break
    return Deleted({table: count for table, count in counts.items() if count})


def erase(
    database: Database, value: str, redactor: Redactor | None, cipher: Cipher | None, dry_run: bool = False
) -> Deleted:
    """Delete all that mentions a person, and give up the space, so that no file of the database holds it.

    A row mentions the value where it, or its placeholder under any tenant, stands as a word in anything that
    was said, which the context is part of. Every row is read: it takes a while.

    Parameters
    ----------
    database : Database
    value : str
        What identifies the person: a mail address, a customer number, a telephone number, as it was written.
    redactor : Redactor, optional
        The one that traffic is stored through.
    cipher : Cipher, optional
        The one that it is encrypted by.
    dry_run : bool
        Find only.

    Returns
    -------
    Deleted
        `record_ids` are those of the decisions and imported records; `cascade traffic lineage` tells which
        bundles learned from them.

    Raises
    ------
    StoreError
    """
    if not value.strip():
        raise ValueError("the subject is empty")
    mentions = _mentions(value, redactor, _tenants(database))
    rows_of = Rows(cipher)
    found: dict[str, list[tuple[int, str]]] = {}
    decisions: set[str] = set()
    for table in _SAID:
        for seq, id_, decision_id, said in _said(database, table, rows_of):
            if any(mentions(text) for text in said):
                if table == "outcomes":
                    decisions.add(decision_id)
                else:
                    found.setdefault(table, []).append((seq, id_))
    known = {id_ for _, id_ in found.get("decisions", [])}
    with database.reading() as connection:
        for id_ in sorted(decisions - known):
            row = connection.execute("SELECT seq FROM decisions WHERE decision_id = ?", (id_,)).fetchone()
            if row is not None:
                found.setdefault("decisions", []).append((row[0], id_))
    ids = [id_ for table in ("decisions", "labelled") for _, id_ in found.get(table, [])]
    counts: dict[str, int] = {}
    if dry_run:
        return Deleted({table: len(rows) for table, rows in found.items()}, tuple(ids))
    for table, rows in found.items():
        for at in range(0, len(rows), _BATCH):
            _delete(database, table, rows[at : at + _BATCH], counts)
    # Also of what has nothing left to delete: a run before this one may have been cut short in between.
    database.reclaim(sorted({*counts, *_SAID, *_BESIDE}))
    return Deleted(counts, tuple(ids))


def reseal(database: Database, cipher: Cipher, progress: Callable[[int], None] = lambda _: None) -> int:
    """Encrypt everything that was said by the current key: what was plain, and what older keys encrypted.

    Returns
    -------
    int
        Rows that changed.

    Raises
    ------
    StoreError
        A key is missing, or the database fails; what was done until then stays done.
    """
    rows = Rows(cipher)
    changed = 0
    places = {table: ("seq", id_, {c: c for c in columns}) for table, (id_, columns) in _SAID.items()}
    for table, (number, id_column, columns) in (places | _BESIDE).items():
        after = -1
        names = ", ".join((number, id_column, *columns))
        query = f"SELECT {names} FROM {table} WHERE {number} > ? ORDER BY {number} LIMIT {_BATCH}"
        statement = f"UPDATE {table} SET {', '.join(f'{c} = ?' for c in columns)} WHERE {number} = ?"
        while True:
            with database.writing() as connection:
                page = connection.execute(query, (after,)).fetchall()
                updates = []
                for seq, id_, *values in page:
                    named = zip(columns.values(), values, strict=True)
                    new = [rows.resealed(value, name, id_) for name, value in named]
                    if new != list(values):
                        updates.append((*new, seq))
                if updates:
                    connection.executemany(statement, updates)
            changed += len(updates)
            if len(page) < _BATCH:
                break
            after = page[-1][0]
            progress(changed)
    database.reclaim([*_SAID, *_BESIDE])  # whatever changed now, for the same reason as in `erase`
    return changed


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
            _delete(database, table, rows[at : at + size], counts)
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


def _delete(database: Database, table: str, rows: Sequence[tuple[int, str]], counts: dict[str, int]) -> None:
    """Delete rows; with decisions, all that refers to them in whatever table."""
    deleted: dict[str, int] = {}  # counted once it is certain
    with database.writing() as connection:
        if database.backend == "sqlite":
            connection.execute("PRAGMA secure_delete = ON")
        if table == "decisions":
            ids = [(id_,) for _, id_ in rows]
            for other in database.tables_with(connection, "decision_id"):
                if other != table:
                    gone = connection.executemany(f"DELETE FROM {other} WHERE decision_id = ?", ids).rowcount
                    deleted[other] = max(gone, 0)
        gone = connection.executemany(
            f"DELETE FROM {table} WHERE seq = ?", [(seq,) for seq, _ in rows]
        ).rowcount
        deleted[table] = gone
    for name, count in deleted.items():
        if count:
            counts[name] = counts.get(name, 0) + count


def _tenants(database: Database) -> list[str]:
    with database.reading() as connection:
        names: set[str] = {""}
        for table in _AGE:
            names |= {row[0] for row in connection.execute(f"SELECT DISTINCT tenant FROM {table}") if row[0]}
    return sorted(names)


def _mentions(value: str, redactor: Redactor | None, tenants: Sequence[str]) -> Callable[[str], bool]:
    needles = {value}
    if redactor is not None:
        needles |= {redactor.text(value, tenant) for tenant in tenants}
        # As it is stored where it stood under the name of a secret.
        needles |= {redactor.placeholder("SECRET", value, tenant) for tenant in tenants}
    # JSON columns hold a text escaped.
    needles |= {json.dumps(needle)[1:-1] for needle in needles}
    words = "|".join(re.escape(needle) for needle in sorted(needles, key=len, reverse=True))
    pattern = re.compile(rf"(?<!\w)(?:{words})(?!\w)", re.IGNORECASE)
    return lambda text: pattern.search(text) is not None


def _said(database: Database, table: str, rows: Rows) -> Iterator[tuple[int, str, str, list[str]]]:
    """Go through a table: seq, id, decision id, and everything in the row that was said."""
    id_column, columns = _SAID[table]
    plain = _PLAIN.get(table, ())
    decision = "decision_id" if table in ("decisions", "outcomes") else "''"
    names = ", ".join((id_column, decision, *plain, *columns))
    query = f"SELECT seq, {names} FROM {table} WHERE seq > ? ORDER BY seq LIMIT {_PAGE}"
    after = -1
    while True:
        with database.reading() as connection:
            page: list[Row] = connection.execute(query, (after,)).fetchall()
        for seq, id_, decision_id, *values in page:
            open_ = values[: len(plain)]
            sealed = zip(columns, values[len(plain) :], strict=True)
            said = [*open_, *(rows.opened(value, name, id_) for name, value in sealed)]
            yield seq, id_, decision_id, [text for text in said if text is not None]
        if len(page) < _PAGE:
            return
        after = page[-1][0]
