"""Which traffic is training truth: the rules of `TrafficStore.training_records`, as queries."""

from __future__ import annotations

from typing import Any

from cascade.text import flatten_messages
from cascade.traffic.database import Connection
from cascade.traffic.live_share import CELL_SECONDS, Block, CellCount, blocks_of
from cascade.traffic.records import LiveShare, Messages, TrainingRecord
from cascade.traffic.rows import Rows

_IMPORTED = "SELECT id, time, text, messages, output, session, tenant, context FROM labelled WHERE node = ?"

# SQLite cuts here and PostgreSQL rounds: cells are compared with cells of the same database only.
_CELL = f"CAST(d.time / {CELL_SECONDS} AS BIGINT)"
_COUNTED = f"""
SELECT d.bundle_version, {_CELL} AS cell, sum(1 - d.by_teacher), count(a.id), count(*) FROM decisions AS d
LEFT JOIN audits AS a ON a.decision_id = d.decision_id AND a.status = 'done'
WHERE d.node = ? AND d.error IS NULL AND d.bundle_version <> '' GROUP BY d.bundle_version, cell
"""

# The teacher's answers and the draw of audits alone say which decisions are here. People choose what they
# report on, mostly by whether it was right: a report that brought in a settled answer, or took an audited one
# out, would leave held-out records that are right more often than the traffic.
# An outcome that says neither what nor whether it was right tells nothing and hides no earlier one.
_DECIDED = f"""
SELECT d.decision_id, d.time, d.text, d.messages, d.output, d.context, d.by_teacher,
    o.output, o.is_right, o.outcome_id, a.output, a.propensity, d.attempts, d.bundle_version, {_CELL}
FROM decisions AS d
LEFT JOIN audits AS a ON a.decision_id = d.decision_id AND a.status = 'done'
LEFT JOIN outcomes AS o ON o.seq = (
    SELECT max(seq) FROM outcomes
    WHERE decision_id = d.decision_id AND (output IS NOT NULL OR is_right IS NOT NULL)
)
WHERE d.node = ? AND (a.id IS NOT NULL OR (d.by_teacher = 1 AND d.error IS NULL))
"""


def read_training_records(connection: Connection, begin: str, rows: Rows, node: str) -> list[TrainingRecord]:
    """Read what `TrafficStore.training_records` promises, from one snapshot, which `begin` begins.

    Raises what the connection raises, and StoreError where a value cannot be decrypted.
    """
    connection.execute(begin)
    try:
        records = _imported(connection, rows, node) + _decided(connection, rows, node)
    finally:
        connection.execute("ROLLBACK")
    # The source decides between an imported record and a decision that share time and id.
    records.sort(key=lambda r: (r.time is not None, r.time or 0.0, r.id, r.source))
    return records


def _imported(connection: Connection, rows: Rows, node: str) -> list[TrainingRecord]:
    records = []
    for row in connection.execute(_IMPORTED, (node,)):
        id_, time, text, messages, output, session, tenant, context = row
        flat, chat = _question(rows, text, messages, id_)
        value = rows.value_of(output, "output", id_)
        about = rows.value_of(context, "context", id_) or {}
        if tenant is not None:
            about["tenant"] = tenant
        records.append(TrainingRecord(id_, flat, chat, value, "import", session, time, context=about))
    return records


def _decided(connection: Connection, rows: Rows, node: str) -> list[TrainingRecord]:
    counted = connection.execute(_COUNTED, (node,))
    blocks = blocks_of([CellCount((bundle, cell), *map(int, counts)) for bundle, cell, *counts in counted])
    records = []
    for row in connection.execute(_DECIDED, (node,)):
        id_, time, text, messages, answer, context, by_teacher, reported, right, outcome_id = row[:10]
        audit, propensity, attempts, bundle, cell = row[10:]
        if reported is not None:
            output, from_outcome = rows.value_of(reported, "output", outcome_id), True
        elif by_teacher:
            output, from_outcome = rows.value_of(answer, "output", id_), bool(right)
        else:  # that a settled answer is right, or wrong, is no answer: the audit's stands
            output, from_outcome = rows.value_of(audit, "audit.output", id_), False
        about = rows.value_of(context, "context", id_)
        flat, chat = _question(rows, text, messages, id_)
        records.append(
            TrainingRecord(
                id=id_,
                text=flat,
                messages=chat,
                output=output,
                source="outcome" if from_outcome else "teacher",
                session=about.get("session"),
                time=time,
                context=about,
                propensity=1.0 if propensity is None else float(propensity),
                teacher=_teacher(rows.value_of(attempts, "attempts", id_)) if by_teacher else "",
                live=_live(blocks.get((bundle, cell)), bool(by_teacher)),
            )
        )
    return records


def _live(block: Block | None, by_teacher: bool) -> LiveShare:
    """Say what a decision tells about live traffic; without a block no bundle served, or it has an error."""
    if not by_teacher:  # it was audited
        return LiveShare("settled", 1.0, block.of_settled if block else 1.0)
    if block is None or not block.selected:
        return LiveShare()
    return LiveShare("escalated", block.chance, block.of_escalated)


def _teacher(attempts: list[dict[str, Any]]) -> str:
    """Give which teacher answered, as its attempt says; empty in logs from before it was said."""
    return str(attempts[-1].get("teacher", "")) if attempts else ""


def _question(rows: Rows, text: str | None, messages: str | None, id_: str) -> tuple[str, Messages | None]:
    """Give a question as local rungs read it when it is asked.

    What was stored before redaction was switched on, or by older rules, is redacted by today's: what is
    trained on is what is served. Redacting again changes nothing.
    """
    chat = rows.messages_of(messages, id_)
    plain = rows.opened(text, "text", id_) or ""
    if rows.redactor is not None:
        plain, redacted = rows.redactor.question(plain, chat or ())
        return plain, redacted if chat is not None else None
    return flatten_messages(chat) if chat is not None else plain, chat
