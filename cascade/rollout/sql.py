"""The statements and rows of the shared state, in the SQL that SQLite and PostgreSQL both speak."""

from __future__ import annotations

import json
from typing import Any

from cascade.rollout.records import Audit, AuditResult, Evidence, ShadowRun
from cascade.rollout.state import Event
from cascade.traffic.rows import Rows

Row = tuple[Any, ...]

EVENT_COLUMNS = "node, seq, time, who, what, why, bundle_version, data"
AUDIT_COLUMNS = "decision_id, node, bundle_version, step, time, propensity, rung, slices, own_words, life"
EVIDENCE_COLUMNS = "decision_id, node, bundle_version, step, source, time, is_right, propensity, slices, life"

SELECT_HEAD = "SELECT coalesce(max(seq), 0) FROM rollout_events WHERE node = ?"
INSERT_EVENT = (
    f"INSERT INTO rollout_events ({EVENT_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (node, seq) DO NOTHING"
)
SELECT_EVENTS = f"SELECT {EVENT_COLUMNS} FROM rollout_events WHERE node = ? AND seq > ? ORDER BY seq"
SELECT_HEADS = "SELECT node, max(seq) FROM rollout_events GROUP BY node"

INSERT_SHADOW = (
    "INSERT INTO shadow_runs (decision_id, node, bundle_version, step, time, answer, rung, confidence, "
    "latency_ms, slices, is_right, propensity, life) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (decision_id, bundle_version) DO NOTHING"
)

INSERT_AUDIT = (
    f"INSERT INTO audits ({AUDIT_COLUMNS}, status, owner, lease_until, usd, input_tokens, output_tokens) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'waiting', ?, ?, 0, 0, 0) ON CONFLICT (decision_id) DO NOTHING"
)
SELECT_ORPHANS = (
    f"SELECT {AUDIT_COLUMNS} FROM audits WHERE status = 'waiting' AND lease_until < ? AND node = ? "
    "ORDER BY id LIMIT ?"
)
CLAIM_AUDIT = (
    "UPDATE audits SET owner = ?, lease_until = ? "
    "WHERE decision_id = ? AND status = 'waiting' AND lease_until < ?"
)
RENEW_LEASES = "UPDATE audits SET lease_until = ? WHERE status = 'waiting' AND owner = ?"
FINISH_AUDIT = (
    "UPDATE audits SET status = ?, output = ?, is_right = ?, usd = usd + ?, input_tokens = input_tokens + ?, "
    "output_tokens = output_tokens + ?, finished = ?, error = ? WHERE decision_id = ? AND status = 'waiting'"
)
COUNT_WAITING = "SELECT count(*) FROM audits WHERE status = 'waiting' AND node = ?"
SPENDING = (
    "SELECT coalesce(sum(usd), 0), count(*) FROM audits "
    "WHERE node = ? AND finished >= ? AND finished < ? AND status IN ('done', 'given-up', 'no-verdict')"
)

INSERT_EVIDENCE = (
    f"INSERT INTO evidence ({EVIDENCE_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (decision_id, bundle_version) DO NOTHING"
)
SELECT_BESIDE = (
    "SELECT node, bundle_version, step, answer, slices, life FROM shadow_runs "
    "WHERE decision_id = ? AND bundle_version <> ? AND rung <> ''"
)
SELECT_FINISHED = (
    f"SELECT {AUDIT_COLUMNS}, status, output, finished FROM audits "
    "WHERE decision_id = ? AND bundle_version <> ? AND status IN ('done', 'no-verdict')"
)
SELECT_EVIDENCE = (
    f"SELECT seq, {EVIDENCE_COLUMNS} FROM evidence WHERE node = ? AND bundle_version = ? AND seq > ? "
    "ORDER BY seq LIMIT ?"
)

INSERT_REPORT = (
    "INSERT INTO reports (decision_id, node, bundle_version, time, is_right) VALUES (?, ?, ?, ?, ?)"
)
SELECT_REPORT = "SELECT is_right FROM reports WHERE decision_id = ? ORDER BY seq DESC LIMIT 1"
SELECT_REPORTS = (
    "SELECT r.seq, d.seq, r.is_right FROM reports AS r JOIN decisions AS d ON d.decision_id = r.decision_id "
    "WHERE r.node = ? AND r.bundle_version = ? AND r.seq > ? ORDER BY r.seq LIMIT ?"
)
# `node || ''` keeps SQLite from going through all that the node ever decided, by its index, for what is new.
SELECT_SETTLED = (
    "SELECT seq FROM decisions WHERE node || '' = ? AND bundle_version = ? AND by_teacher = 0 "
    "AND error IS NULL AND rung <> '' AND seq > ? ORDER BY seq LIMIT ?"
)

COUNT_SETTLED = (
    "SELECT count(*) FROM decisions WHERE node = ? AND time >= ? AND time < ? AND by_teacher = 0 "
    "AND error IS NULL AND rung <> ''"
)

SELECT_MARKS = (
    "SELECT (SELECT coalesce(max(seq), 0) FROM evidence), (SELECT coalesce(max(seq), 0) FROM decisions)"
)

SELECT_GUARD = "SELECT seq, state FROM guard_states WHERE node = ? AND bundle_version = ?"
SAVE_GUARD = (
    "INSERT INTO guard_states (node, bundle_version, seq, state) VALUES (?, ?, ?, ?) "
    "ON CONFLICT (node, bundle_version) DO UPDATE SET seq = excluded.seq, state = excluded.state "
    "WHERE excluded.seq > guard_states.seq"
)

OUTPUT, BESIDE = "audit.output", "shadow.answer"
"""What sealed columns are called, to whoever seals them (`cascade.traffic.training_view` reads the first)."""


def to_json(value: Any) -> str:
    """Write JSON. Raises ValueError or TypeError for what is none."""
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def event_row(event: Event) -> Row:
    """Give the values of `INSERT_EVENT`."""
    return (
        event.node, event.seq, event.time, event.who, event.what, event.why, event.bundle,
        to_json(dict(event.data)),
    )  # fmt: skip


def event_of(row: Row) -> Event:
    """Give the event in a row of `EVENT_COLUMNS`."""
    node, seq, time, who, what, why, bundle, data = row
    return Event(node, seq, time, who, what, why, bundle, json.loads(data))


def shadow_row(run: ShadowRun, rows: Rows) -> Row:
    """Give the values of `INSERT_SHADOW`."""
    return (
        run.decision_id, run.node, run.bundle, run.step, run.time,
        rows.sealed(run.answer, BESIDE, run.decision_id), run.rung, run.confidence, run.latency_ms,
        to_json(run.slices), None if run.right is None else int(run.right), run.propensity, run.life,
    )  # fmt: skip


def audit_row(audit: Audit, owner: str, lease_until: float) -> Row:
    """Give the values of `INSERT_AUDIT`."""
    return (
        audit.decision_id, audit.node, audit.bundle, audit.step, audit.time, audit.propensity, audit.rung,
        to_json(audit.slices), int(audit.own_words), audit.life, owner, lease_until,
    )  # fmt: skip


def audit_of(row: Row) -> Audit:
    """Give the audit in a row of `AUDIT_COLUMNS`."""
    id_, node, bundle, step, time, propensity, rung, slices, own_words, life = row
    parts = tuple(json.loads(slices))
    return Audit(id_, node, bundle, step, time, propensity, rung, parts, bool(own_words), life)


def finish_row(result: AuditResult, rows: Rows) -> Row:
    """Give the values of `FINISH_AUDIT`."""
    id_ = result.audit.decision_id
    return (
        "done" if not result.error else "no-verdict" if result.answered else "given-up",
        None if result.error else rows.sealed(result.output, OUTPUT, id_),
        None if result.right is None else int(result.right), result.usd, result.input_tokens,
        result.output_tokens, result.time, result.error or None, id_,
    )  # fmt: skip


def evidence_row(evidence: Evidence) -> Row:
    """Give the values of `INSERT_EVIDENCE`."""
    return (
        evidence.decision_id, evidence.node, evidence.bundle, evidence.step, evidence.source, evidence.time,
        int(evidence.right), evidence.propensity, to_json(evidence.slices), evidence.life,
    )  # fmt: skip


def evidence_of(row: Row) -> Evidence:
    """Give the evidence in a row of `seq` and `EVIDENCE_COLUMNS`."""
    seq, id_, node, bundle, step, source, time, right, propensity, slices, life = row
    parts = tuple(json.loads(slices))
    return Evidence(seq, id_, node, bundle, step, source, time, bool(right), propensity, parts, life)
