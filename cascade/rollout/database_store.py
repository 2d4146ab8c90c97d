"""The shared state of rollouts, in tables beside the traffic: SQLite or PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING

from cascade.errors import StoreError
from cascade.rollout import sql
from cascade.rollout.records import (
    Audit,
    AuditResult,
    Evidence,
    EvidenceSource,
    Report,
    SavedGuard,
    ShadowRun,
)
from cascade.rollout.state import Event
from cascade.traffic import TrafficStore

if TYPE_CHECKING:
    from cascade.traffic.database import Connection

NO_VERDICT: EvidenceSource = "no-verdict"


class DatabaseRolloutStore:
    """A `RolloutStore` in a traffic store's database.

    Parameters
    ----------
    traffic : TrafficStore
        Stays open; whoever opened it closes it.
    """

    def __init__(self, traffic: TrafficStore) -> None:
        self._database = traffic.database
        self._rows = traffic.rows

    @property
    def generation(self) -> int:
        """See `RolloutStore.generation`."""
        return self._database.generation

    def append(self, event: Event) -> bool:
        """See `RolloutStore.append`."""
        with self._database.writing() as connection:
            head = int(connection.execute(sql.SELECT_HEAD, (event.node,)).fetchone()[0])
            if head + 1 != event.seq:
                return False
            return connection.execute(sql.INSERT_EVENT, sql.event_row(event)).rowcount == 1

    def events(self, node: str, after: int = 0) -> list[Event]:
        """See `RolloutStore.events`."""
        with self._database.reading() as connection:
            rows = connection.execute(sql.SELECT_EVENTS, (node, after)).fetchall()
        return [sql.event_of(row) for row in rows]

    def heads(self) -> dict[str, int]:
        """See `RolloutStore.heads`."""
        with self._database.reading() as connection:
            return dict(connection.execute(sql.SELECT_HEADS).fetchall())

    def add_shadows(self, runs: Sequence[ShadowRun]) -> None:
        """See `RolloutStore.add_shadows`."""
        with self._database.writing() as connection:
            for run in runs:
                connection.execute(sql.INSERT_SHADOW, sql.shadow_row(run, self._rows))
                if run.right is not None and run.propensity > 0:
                    _add(connection, _evidence_of_shadow(run))
                elif run.rung:
                    self._add_of_finished(connection, run)

    def add_audits(self, audits: Sequence[Audit], owner: str, lease_until: float) -> None:
        """See `RolloutStore.add_audits`."""
        with self._database.writing() as connection:
            rows = [sql.audit_row(audit, owner, lease_until) for audit in audits]
            connection.executemany(sql.INSERT_AUDIT, rows)

    def claim_audits(
        self, nodes: Sequence[str], owner: str, now: float, lease_until: float, limit: int
    ) -> list[Audit]:
        """See `RolloutStore.claim_audits`."""
        claimed: list[Audit] = []
        with self._database.writing() as connection:
            for node in nodes:
                left = limit - len(claimed)
                rows = connection.execute(sql.SELECT_ORPHANS, (now, node, left)).fetchall()
                for audit in map(sql.audit_of, rows):
                    values = (owner, lease_until, audit.decision_id, now)
                    if connection.execute(sql.CLAIM_AUDIT, values).rowcount == 1:
                        claimed.append(audit)
        return claimed

    def renew_audits(self, owner: str, lease_until: float) -> None:
        """See `RolloutStore.renew_audits`."""
        with self._database.writing() as connection:
            connection.execute(sql.RENEW_LEASES, (lease_until, owner))

    def finish_audits(self, results: Sequence[AuditResult]) -> None:
        """See `RolloutStore.finish_audits`."""
        with self._database.writing() as connection:
            for result in results:
                row = sql.finish_row(result, self._rows)
                counts = result.right is not None or result.answered
                if connection.execute(sql.FINISH_AUDIT, row).rowcount == 1 and counts:
                    evidence = _evidence_of_audit(result)
                    if evidence.right and _called_wrong(connection, evidence.decision_id):
                        evidence = replace(evidence, right=False)
                    _add(connection, evidence)
                    self._add_beside(connection, result)

    def _add_beside(self, connection: Connection, result: AuditResult) -> None:
        """Add evidence on what candidates answered beside an audit that ends."""
        audit = result.audit
        found = connection.execute(sql.SELECT_BESIDE, (audit.decision_id, audit.bundle)).fetchall()
        for node, bundle, step, answer, slices, life in found:
            theirs = self._rows.value_of(answer, sql.BESIDE, audit.decision_id)
            run = ShadowRun(
                audit.decision_id, node, bundle, step, result.time, theirs, "", None, 0.0,
                tuple(json.loads(slices)), life=life,
            )  # fmt: skip
            _add(connection, _evidence_beside(run, result))

    def _add_of_finished(self, connection: Connection, run: ShadowRun) -> None:
        """Add evidence on what a candidate answered beside, where the audit has ended already.

        Were it lost, a candidate that runs late would be judged by what the teacher answered, the hard part.
        """
        row = connection.execute(sql.SELECT_FINISHED, (run.decision_id, run.bundle)).fetchone()
        if row is None:
            return
        *columns, status, output, finished = row
        judged = status == "done"
        answer = self._rows.value_of(output, sql.OUTPUT, run.decision_id) if judged else None
        # Whether the audited answer was right is of no interest here, but that it could be said is.
        result = AuditResult(sql.audit_of(tuple(columns)), finished, answer, True if judged else None)
        _add(connection, _evidence_beside(run, result))

    def evidence(self, node: str, bundle: str, after: int, limit: int = 5000) -> list[Evidence]:
        """See `RolloutStore.evidence`."""
        with self._database.reading() as connection:
            rows = connection.execute(sql.SELECT_EVIDENCE, (node, bundle, after, limit)).fetchall()
        return [sql.evidence_of(row) for row in rows]

    def audits_waiting(self, node: str) -> int:
        """See `RolloutStore.audits_waiting`."""
        with self._database.reading() as connection:
            return int(connection.execute(sql.COUNT_WAITING, (node,)).fetchone()[0])

    def audit_spending(self, node: str, since: float, until: float = inf) -> tuple[float, int]:
        """See `RolloutStore.audit_spending`."""
        with self._database.reading() as connection:
            usd, count = connection.execute(sql.SPENDING, (node, since, until)).fetchone()
        return float(usd), int(count)

    def add_reports(self, reports: Sequence[Report]) -> None:
        """See `RolloutStore.add_reports`."""
        with self._database.writing() as connection:
            rows = [(r.decision_id, r.node, r.bundle, r.time, int(r.right)) for r in reports]
            connection.executemany(sql.INSERT_REPORT, rows)

    def reports(self, node: str, bundle: str, after: int, limit: int = 5000) -> list[tuple[int, int, bool]]:
        """See `RolloutStore.reports`."""
        with self._database.reading() as connection:
            rows = connection.execute(sql.SELECT_REPORTS, (node, bundle, after, limit)).fetchall()
        return [(int(seq), int(decision), bool(right)) for seq, decision, right in rows]

    def settled(self, node: str, bundle: str, after: int, limit: int = 5000) -> list[int]:
        """See `RolloutStore.settled`."""
        with self._database.reading() as connection:
            rows = connection.execute(sql.SELECT_SETTLED, (node, bundle, after, limit)).fetchall()
        return [int(row[0]) for row in rows]

    def settled_since(self, node: str, since: float, until: float) -> int:
        """See `RolloutStore.settled_since`."""
        with self._database.reading() as connection:
            return int(connection.execute(sql.COUNT_SETTLED, (node, since, until)).fetchone()[0])

    def marks(self) -> tuple[int, int]:
        """See `RolloutStore.marks`."""
        with self._database.reading() as connection:
            evidence, decisions = connection.execute(sql.SELECT_MARKS).fetchone()
        return int(evidence), int(decisions)

    def guard(self, node: str, bundle: str) -> SavedGuard | None:
        """See `RolloutStore.guard`."""
        with self._database.reading() as connection:
            row = connection.execute(sql.SELECT_GUARD, (node, bundle)).fetchone()
        return None if row is None else SavedGuard(node, bundle, int(row[0]), json.loads(row[1]))

    def save_guard(self, saved: SavedGuard) -> None:
        """See `RolloutStore.save_guard`."""
        with self._database.writing() as connection:
            try:
                values = (saved.node, saved.bundle, saved.seq, sql.to_json(saved.state))
            except (ValueError, TypeError) as error:
                raise StoreError(f"the guard's state of {saved.node} is no JSON: {error}") from error
            connection.execute(sql.SAVE_GUARD, values)


def _add(connection: Connection, evidence: Evidence) -> None:
    connection.execute(sql.INSERT_EVIDENCE, sql.evidence_row(evidence))


def _called_wrong(connection: Connection, decision_id: str) -> bool:
    """Whether the last report on a decision calls its answer wrong.

    Nothing else that is reported is heeded here. Those who report are no random sample: "right" would outvote
    the teacher, and a verdict where the teacher gave none would count the wrong ones above all.
    """
    reported = connection.execute(sql.SELECT_REPORT, (decision_id,)).fetchone()
    return reported is not None and not reported[0]


def _evidence_of_shadow(run: ShadowRun) -> Evidence:
    return Evidence(
        0, run.decision_id, run.node, run.bundle, run.step, "shadow", run.time, bool(run.right),
        run.propensity, run.slices, run.life,
    )  # fmt: skip


def _evidence_beside(run: ShadowRun, result: AuditResult) -> Evidence:
    """Give what an audit says about a candidate's answer to the same request."""
    judged = result.right is not None
    return Evidence(
        0, run.decision_id, run.node, run.bundle, run.step, "audit" if judged else NO_VERDICT, result.time,
        judged and run.answer == result.output, result.audit.propensity, run.slices, run.life,
    )  # fmt: skip


def _evidence_of_audit(result: AuditResult) -> Evidence:
    audit = result.audit
    return Evidence(
        0, audit.decision_id, audit.node, audit.bundle, audit.step,
        NO_VERDICT if result.right is None else "audit", result.time, bool(result.right), audit.propensity,
        audit.slices, audit.life,
    )  # fmt: skip
