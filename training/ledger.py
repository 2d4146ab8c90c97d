"""What a node really cost and saved in a window of its log: every dollar spent, and what it spared."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cascade.rollout.database_store import DatabaseRolloutStore
from cascade.traffic import Decision, TrafficStore
from training.journal import Retraining
from training.log import Window
from training.replay import decision_text, teacher_usd

N_BOOTSTRAP = 200
_UNRESOLVED = """
SELECT status, error, count(*) FROM audits
WHERE node = ? AND finished >= ? AND status IN ('given-up', 'no-verdict')
GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT 8
"""


@dataclass(frozen=True)
class Ledger:
    """Dollars of a window.

    Attributes
    ----------
    window : str
    decisions, settled, failed : int
        All; those settled below the teacher; those that got an error.
    teacher : float
        Paid for the teacher's answers, retries and failed calls included.
    chats : float
        Paid for chat rungs below the teacher, on decisions that they settled.
    local : float
        Time of local rungs, failed drafts included, at the price of a CPU hour.
    audits, retraining : float
    n_audits, n_retrainings : int
    always_teacher : float
        What the teacher would have cost for all answered decisions.
    net, net_low, net_high : float
        Saved, all told, with the 95 % interval of what the teacher would have cost.
    unresolved : tuple of (str, int)
        Why audits of the window say neither right nor wrong, and how many each; the commonest first.
    """

    window: str
    decisions: int
    settled: int
    failed: int
    teacher: float
    chats: float
    local: float
    audits: float
    n_audits: int
    retraining: float
    n_retrainings: int
    always_teacher: float
    net: float
    net_low: float
    net_high: float
    unresolved: tuple[tuple[str, int], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Give all figures as JSON values."""
        return asdict(self)


def open_ledger(
    decisions: Iterable[Decision],
    window: Window,
    audits: tuple[float, int],
    retrainings: Iterable[Retraining],
    cpu_hour: float,
    fallback_usd: float,
    teacher_name: str,
    seed: int = 0,
) -> Ledger:
    """Add up a window of a node's log.

    A local attempt's time includes waiting for its batch, so local rungs are charged rather too much.

    Parameters
    ----------
    decisions : iterable of Decision
    audits : (usd, how many)
    retrainings : iterable of Retraining
        Of any time; those in the window count.
    fallback_usd : float
        What a teacher's answer costs, where the log does not tell.
    teacher_name : str
        The rung whose time is not local.
    """
    sizes, paid, settled_usd = [], [], 0.0
    teacher = local_ms = 0.0
    settled = failed = n = 0
    for decision in decisions:
        n += 1
        local_ms += sum(
            float(a.get("latency_ms", 0.0)) for a in decision.attempts if a.get("rung") != teacher_name
        )
        if decision.error is not None:
            failed += 1
            teacher += decision.usd
            continue
        sizes.append(len(decision_text(decision).encode("utf-8", "replace")))
        paid.append(decision.usd if decision.by_teacher and decision.usd > 0 else np.nan)
        if decision.by_teacher:
            teacher += decision.usd
        else:
            settled += 1
            settled_usd += decision.usd
    each = teacher_usd(np.array(sizes, dtype=np.float64), np.array(paid, dtype=np.float64), fallback_usd)
    local = local_ms * cpu_hour / 3_600_000
    runs = [run for run in retrainings if window.holds(run.time)]
    retraining = sum(run.usd for run in runs)
    spent = teacher + settled_usd + local + audits[0] + retraining
    rng = np.random.default_rng(seed)
    sums = (
        [each[rng.integers(0, len(each), len(each))].sum() for _ in range(N_BOOTSTRAP)]
        if len(each)
        else [0.0]
    )
    low, high = np.percentile(sums, [2.5, 97.5])
    return Ledger(
        str(window), n, settled, failed, teacher, settled_usd, local, audits[0], audits[1], retraining,
        len(runs), float(each.sum()), float(each.sum() - spent), float(low - spent), float(high - spent),
    )  # fmt: skip


def audits_of(store: TrafficStore, node: str, since: float | None) -> tuple[float, int]:
    """Give what a node's audits since then cost, and how many there were."""
    return DatabaseRolloutStore(store).audit_spending(node, since or 0.0)


def unresolved_audits(store: TrafficStore, node: str, since: float | None) -> tuple[tuple[str, int], ...]:
    """Give why a node's audits since then say neither right nor wrong, and how many each.

    Raises
    ------
    StoreError
    """
    with store.database.reading() as connection:
        rows = connection.execute(_UNRESOLVED, (node, since or 0.0)).fetchall()
    return tuple(
        (f"audit without verdict: {why}" if status == "no-verdict" else f"given up: {why}", int(count))
        for status, why, count in rows
    )
