"""What the page shows of a node's audits: of everybody's traffic, or of one tenant's."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from cascade.rollout.sql import OUTPUT
from cascade.rollout.state import Life
from cascade.traffic.store import TrafficStore

_MOST_EVIDENCE = 20_000
_MOST_PAIRS = 8
_WRONG = """
SELECT a.decision_id, d.output, a.output FROM audits AS a JOIN decisions AS d ON d.decision_id = a.decision_id
WHERE a.node = ? AND a.is_right = 0 AND a.status = 'done'{tenant} ORDER BY a.finished DESC LIMIT 500
"""
_EVIDENCE = """
SELECT e.is_right, e.propensity FROM evidence AS e{join}
WHERE e.node = ? AND e.bundle_version = ? AND e.seq > ? AND (e.life IS NULL OR e.life = ?)
    AND e.source {source} 'no-verdict'{tenant}
ORDER BY e.seq LIMIT ?
"""
_SPENT = """
SELECT coalesce(sum(a.usd), 0) FROM audits AS a{join}
WHERE a.node = ? AND a.finished >= ? AND a.status IN ('done', 'given-up', 'no-verdict'){tenant}
"""


def audited(
    store: TrafficStore,
    node: str,
    version: str,
    life: Life,
    tenant: str | None = None,
    *,
    verdict: bool = True,
) -> list[tuple[bool, float]]:
    """Give whether each audited answer of a bundle's life was right, and the probability it was drawn with.

    `verdict=False` gives those instead that nobody could judge, where "right" means nothing.

    Raises
    ------
    StoreError
    """
    query, of = _of(_EVIDENCE.replace("{source}", "<>" if verdict else "="), "e", tenant)
    with store.database.reading() as connection:
        rows = connection.execute(
            query, (node, version, life.evidence, life.seq, *of, _MOST_EVIDENCE)
        ).fetchall()
    return [(bool(right), float(propensity)) for right, propensity in rows]


def audit_spending(store: TrafficStore, node: str, since: float, tenant: str | None = None) -> float:
    """Give what a node's audits have cost since a time. Raises StoreError."""
    query, of = _of(_SPENT, "a", tenant)
    with store.database.reading() as connection:
        return float(connection.execute(query, (node, since, *of)).fetchone()[0])


def confusions(store: TrafficStore, node: str, tenant: str | None = None) -> list[dict[str, Any]]:
    """Give what audits found wrong: the answer, the teacher's, how often; the commonest first.

    Raises
    ------
    StoreError
    """
    query, of = _of(_WRONG, "", tenant)
    with store.database.reading() as connection:
        rows = connection.execute(query, (node, *of)).fetchall()
    pairs: Counter[tuple[str, str]] = Counter()
    for id_, ours, theirs in rows:
        answer = _shown(store.rows.value_of(ours, "output", id_))
        pairs[answer, _shown(store.rows.value_of(theirs, OUTPUT, id_))] += 1
    return [
        {"answer": answer, "teacher": teacher, "count": count}
        for (answer, teacher), count in pairs.most_common(_MOST_PAIRS)
    ]


def _of(query: str, table: str, tenant: str | None) -> tuple[str, tuple[str, ...]]:
    """Complete a query for one tenant, or for all."""
    if tenant is None:
        return query.format(join="", tenant=""), ()
    join = f" JOIN decisions AS d ON d.decision_id = {table}.decision_id" if table else ""
    return query.format(join=join, tenant=" AND d.tenant = ?"), (tenant,)


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."
