"""Deletes rows of the traffic log, with all that refers to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cascade.traffic.database import Database

BATCH = 500
"""Rows deleted in one transaction: other writers wait meanwhile."""


@dataclass(frozen=True, slots=True)
class Deleted:
    """How many rows were deleted, by table, and the ids of the records that training may have read."""

    rows: dict[str, int]
    record_ids: tuple[str, ...] = ()


def delete(database: Database, table: str, rows: Sequence[tuple[int, str]], counts: dict[str, int]) -> None:
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
