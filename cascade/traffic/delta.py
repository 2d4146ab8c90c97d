"""Export of decisions to a Delta table, partitioned by node and day, that any engine reads (extra `delta`).

The table remembers, in the metadata of its commits, up to which row of the traffic database it goes. Rows and
that mark are one commit, so an export that was cut short or run twice neither loses nor doubles a decision.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from arro3.core import Array, DataType, Field, Schema, Table
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError, TableNotFoundError

from cascade.errors import InvalidInput
from cascade.traffic.compact_json import to_json
from cascade.traffic.database import Database
from cascade.traffic.decision_columns import DECISION_COLUMNS
from cascade.traffic.rows import Rows

_MARK = "cascade.exported_up_to"
_SOURCE = "cascade.source"
_BATCH = 10_000
_IDS_AT_ONCE = 500

_TEXT, _FLOAT, _INT = DataType.utf8(), DataType.float64(), DataType.int64()
_FIELDS = [
    Field("node", _TEXT, nullable=False), Field("day", _TEXT, nullable=False),
    Field("decision_id", _TEXT, nullable=False), Field("time", _FLOAT, nullable=False),
    Field("tenant", _TEXT, nullable=True), Field("request_id", _TEXT, nullable=True),
    Field("text", _TEXT, nullable=True), Field("messages", _TEXT, nullable=True),
    Field("context", _TEXT, nullable=False), Field("output", _TEXT, nullable=False),
    Field("rung", _TEXT, nullable=False), Field("by_teacher", DataType.bool(), nullable=False),
    Field("confidence", _FLOAT, nullable=True), Field("bundle_version", _TEXT, nullable=False),
    Field("mode", _TEXT, nullable=False), Field("attempts", _TEXT, nullable=False),
    Field("usd", _FLOAT, nullable=False), Field("input_tokens", _INT, nullable=False),
    Field("output_tokens", _INT, nullable=False), Field("latency_ms", _FLOAT, nullable=False),
    Field("error", _TEXT, nullable=True),
]  # fmt: skip
SCHEMA = Schema(_FIELDS)


def export_delta(database: Database, rows: Rows, folder: Path) -> int:
    """Add the decisions that are new since the last export to a Delta table.

    Texts are written as they are stored, redacted, and decrypted where they are encrypted.

    Parameters
    ----------
    database : Database
    rows : Rows
        Reads rows of the database.
    folder : Path
        The table; made if missing.

    Returns
    -------
    int
        Decisions added.

    Raises
    ------
    InvalidInput
        The folder holds something else, or another store's export.
    StoreError
        The database cannot be read. What was exported until then stays.
    """
    source = hashlib.sha256(database.name.encode()).hexdigest()[:16]
    after = _mark(folder, source)
    added = 0
    for last, columns in _batches(database, rows, after):
        properties = CommitProperties(custom_metadata={_MARK: str(last), _SOURCE: source})
        arrays = [Array(columns[field.name], type=field.type) for field in _FIELDS]
        try:
            write_deltalake(
                folder,
                Table.from_arrays(arrays, schema=SCHEMA),
                mode="append",
                partition_by=["node", "day"],
                commit_properties=properties,
            )
        except (DeltaError, OSError) as error:
            raise InvalidInput("to", f"the Delta table {folder} cannot be written: {error}") from error
        added += len(columns["node"])
    return added


def _mark(folder: Path, source: str) -> int:
    """Give the last exported row; -1 before the first export."""
    try:
        table = DeltaTable(folder)
    except TableNotFoundError:
        if folder.is_dir() and any(folder.iterdir()):
            raise InvalidInput("to", f"{folder} holds something that is no Delta table") from None
        folder.mkdir(parents=True, exist_ok=True)
        return -1
    except (DeltaError, OSError) as error:
        raise InvalidInput("to", f"{folder} is no Delta table that can be read: {error}") from error
    for commit in table.history():
        if _MARK in commit:
            if commit.get(_SOURCE) != source:
                raise InvalidInput("to", f"{folder} holds the export of another store")
            return int(commit[_MARK])
    raise InvalidInput("to", f"{folder} is a Delta table of something else")


def _batches(database: Database, rows: Rows, after: int) -> Iterator[tuple[int, dict[str, list[Any]]]]:
    query = f"SELECT {DECISION_COLUMNS}, seq FROM decisions WHERE seq > ? ORDER BY seq LIMIT {_BATCH}"
    while True:
        with database.reading() as connection:
            page = connection.execute(query, (after,)).fetchall()
        if not page:
            return
        columns: dict[str, list[Any]] = {field.name: [] for field in _FIELDS}
        for row in page:
            decision = rows.decision_of(row)
            values = {
                "node": decision.node, "day": datetime.fromtimestamp(decision.time, UTC).strftime("%Y-%m-%d"),
                "decision_id": decision.decision_id, "time": decision.time,
                "tenant": decision.context.get("tenant"), "request_id": decision.request_id,
                "text": decision.text,
                "messages": None if decision.messages is None else to_json(decision.messages),
                "context": to_json(decision.context), "output": to_json(decision.output),
                "rung": decision.rung, "by_teacher": decision.by_teacher, "confidence": decision.confidence,
                "bundle_version": decision.bundle_version, "mode": decision.mode,
                "attempts": to_json(decision.attempts), "usd": decision.usd,
                "input_tokens": decision.input_tokens, "output_tokens": decision.output_tokens,
                "latency_ms": decision.latency_ms, "error": decision.error,
            }  # fmt: skip
            for name, value in values.items():
                columns[name].append(value)
        after = page[-1][-1]
        yield after, columns


def erase_from_delta(folder: Path, decision_ids: Sequence[str]) -> int:
    """Delete decisions from an exported table, and the files that held them.

    Older versions of the table cannot be read afterwards.

    Returns
    -------
    int
        Rows deleted.

    Raises
    ------
    InvalidInput
        It is no Delta table, or cannot be written.
    """
    deleted = 0
    try:
        table = DeltaTable(folder)
        for at in range(0, len(decision_ids), _IDS_AT_ONCE):
            part = decision_ids[at : at + _IDS_AT_ONCE]
            quoted = ", ".join("'" + id_.replace("'", "''") + "'" for id_ in part)
            deleted += int(table.delete(f"decision_id IN ({quoted})")["num_deleted_rows"])
        # Also where nothing was deleted now: an erasure or an export that was cut short leaves files behind.
        table.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)
    except (DeltaError, TableNotFoundError, OSError) as error:
        raise InvalidInput("export", f"nothing can be erased from {folder}: {error}") from error
    return deleted
