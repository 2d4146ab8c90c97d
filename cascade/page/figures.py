"""What the page shows of a node's traffic, read from the store, so that every worker shows the same."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from cascade.traffic.store import TrafficStore

BUCKETS = 24
_LATEST = 2000

_SHARES = """
SELECT CAST(time AS BIGINT) / ?, rung, by_teacher, count(*), coalesce(sum(usd), 0)
FROM decisions WHERE node = ? AND time >= ? AND error IS NULL{tenant} GROUP BY 1, 2, 3
"""
_ERRORS = "SELECT count(*) FROM decisions WHERE node = ? AND time >= ? AND error IS NOT NULL{tenant}"
_LATENCIES = """
SELECT latency_ms, by_teacher FROM decisions WHERE node = ? AND error IS NULL{tenant}
ORDER BY seq DESC LIMIT ?
"""
_ANSWERS = """
SELECT decision_id, output, time FROM decisions WHERE node = ? AND error IS NULL{tenant}
ORDER BY seq DESC LIMIT ?
"""


def traffic_figures(
    store: TrafficStore, node: str, now: float, hours: float, tenant: str | None = None
) -> dict[str, Any]:
    """Give a node's traffic over the last hours.

    Parameters
    ----------
    store : TrafficStore
    node : str
    now : float
        Unix seconds.
    hours : float
        How far back, cut into `BUCKETS` equal buckets.
    tenant : str, optional
        Whose; everybody's, if none.

    Returns
    -------
    dict
        `decisions`, `errors`, `by_rung` (rung to count), `settled` (share, None without decisions), `usd`,
        `usd_if_teacher` (None where the teacher's price is not known yet), `over_time` (the buckets, oldest
        first: `from`, and rung to count), `latency` (`ladder` and `teacher`: p50 and p95 in milliseconds).

    Raises
    ------
    StoreError
    """
    width = max(1, round(hours * 3600 / BUCKETS))
    last = int(now) // width
    first = last - BUCKETS + 1
    counts: dict[int, Counter[str]] = defaultdict(Counter)
    by_teacher = paid = 0
    usd = teacher_usd = 0.0
    shares, failed, latest, of = *(_of(q, tenant) for q in (_SHARES, _ERRORS, _LATENCIES)), _values(tenant)
    with store.database.reading() as connection:
        for bucket, rung, taught, count, cost in connection.execute(
            shares, (width, node, float(first * width), *of)
        ).fetchall():
            counts[int(bucket)][rung] += int(count)
            usd += float(cost)
            if taught:
                by_teacher += int(count)
                teacher_usd += float(cost)
                paid += int(count) if cost else 0
        errors = int(connection.execute(failed, (node, float(first * width), *of)).fetchone()[0])
        latencies = connection.execute(latest, (node, *of, _LATEST)).fetchall()
    total: Counter[str] = Counter()
    for each in counts.values():
        total.update(each)
    decisions = sum(total.values())
    means = store.teacher_means(node) if tenant is None else None  # what others' calls cost is theirs
    price = teacher_usd / by_teacher if paid else (means[0] if means else None)
    return {
        "decisions": decisions,
        "errors": errors,
        "by_rung": dict(total.most_common()),
        "settled": (decisions - by_teacher) / decisions if decisions else None,
        "usd": usd,
        "usd_if_teacher": None if price is None else price * decisions,
        "over_time": [{"from": at * width, "by_rung": dict(counts[at])} for at in range(first, last + 1)],
        "latency": {
            "ladder": _quantiles([float(ms) for ms, taught in latencies if not taught]),
            "teacher": _quantiles([float(ms) for ms, taught in latencies if taught]),
        },
    }


def answer_shift(store: TrafficStore, node: str, tenant: str | None = None) -> float | None:
    """Give how far the newest answers are from those before: the total variation distance of their labels.

    0 where both halves of the latest answers have the same shares of labels, 1 where they share none; None
    where there are too few (200) to say anything.

    Raises
    ------
    StoreError
    """
    with store.database.reading() as connection:
        rows = connection.execute(_of(_ANSWERS, tenant), (node, *_values(tenant), _LATEST)).fetchall()
    if len(rows) < 200:
        return None
    said = [json.dumps(store.rows.value_of(output, "output", id_)) for id_, output, _ in rows]
    half = len(said) // 2
    new, old = Counter(said[:half]), Counter(said[half:])
    n, m = half, len(said) - half
    return sum(abs(new[label] / n - old[label] / m) for label in new.keys() | old.keys()) / 2


def _of(query: str, tenant: str | None) -> str:
    return query.format(tenant="" if tenant is None else " AND tenant = ?")


def _values(tenant: str | None) -> tuple[str, ...]:
    return () if tenant is None else (tenant,)


def _quantiles(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    ordered = sorted(values)
    return {
        name: ordered[min(len(ordered) - 1, int(share * len(ordered)))]
        for name, share in (("p50", 0.50), ("p95", 0.95))
    }
