"""What a person wants erased is found in all that was said, and deleted from the traffic log."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence

from cascade.redaction import Redactor
from cascade.traffic.cipher import Cipher
from cascade.traffic.database import Database, Row
from cascade.traffic.deletion import BATCH, Deleted, delete
from cascade.traffic.rows import Rows
from cascade.traffic.said import AGE, BESIDE, PLAIN, SAID

_PAGE = 1_000


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
    for table in SAID:
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
        for at in range(0, len(rows), BATCH):
            delete(database, table, rows[at : at + BATCH], counts)
    # Also of what has nothing left to delete: a run before this one may have been cut short in between.
    database.reclaim(sorted({*counts, *SAID, *BESIDE}))
    return Deleted(counts, tuple(ids))


def _tenants(database: Database) -> list[str]:
    with database.reading() as connection:
        names: set[str] = {""}
        for table in AGE:
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
    id_column, columns = SAID[table]
    plain = PLAIN.get(table, ())
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
