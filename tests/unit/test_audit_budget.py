"""The day's money for audits is spread over the rest of the day by what was settled in the last minutes."""

from pathlib import Path
from typing import Any

from cascade.config.rollout import AuditConfig, RolloutConfig
from cascade.rollout.database_store import DatabaseRolloutStore
from cascade.rollout.judge import Judge
from cascade.traffic import open_store
from tests.traffic_records import decision

NOON = 43_200.0


class Counting:
    """A store that knows only how much was settled."""

    def __init__(self, settled: int) -> None:
        self.settled, self.asked = settled, 0

    def settled_since(self, node: str, since: float, until: float) -> int:
        self.asked += 1
        return self.settled


def judge(store: Any) -> Judge:
    return Judge(store, None, {}, RolloutConfig(audit=AuditConfig(daily_usd=1.0)))  # type: ignore[arg-type]


def test_what_was_settled_in_the_last_minutes_is_expected_until_midnight() -> None:
    assert judge(Counting(600))._until_midnight("n", NOON) == 2.0 * 43_200


def test_it_is_counted_anew_only_now_and_then_and_after_a_clock_jump() -> None:
    store = Counting(600)
    of = judge(store)
    for now in (NOON, NOON + 1, NOON + 29):
        of._until_midnight("n", now)
    assert store.asked == 1
    of._until_midnight("n", NOON + 31)
    of._until_midnight("n", NOON - 3600)
    assert store.asked == 3


def test_only_what_bundles_settled_in_the_window_counts(tmp_path: Path) -> None:
    traffic = open_store(f"sqlite:///{tmp_path}/traffic.db")
    traffic.record(decision("in", time=100.0))
    traffic.record(decision("before", time=10.0))
    traffic.record(decision("at the end", time=200.0))
    traffic.record(decision("by the teacher", time=100.0, by_teacher=True))
    traffic.record(decision("failed", time=100.0, error="deadline", rung=""))
    traffic.record(decision("of another node", time=100.0, node="m"))
    assert traffic.flush(10)
    assert DatabaseRolloutStore(traffic).settled_since("n", 50.0, 200.0) == 1
    traffic.close()
