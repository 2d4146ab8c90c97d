"""The day's money for audits is spread over the rest of the day by what was settled in the last minutes."""

from math import inf
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.config.rollout import AuditConfig, RolloutConfig
from cascade.rollout.database_store import DatabaseRolloutStore
from cascade.rollout.judge import Judge
from cascade.rollout.pace import EVERY, LATE, OVER, DaySpending, SettledRate
from cascade.traffic import open_store
from tests.traffic_records import decision

DAY = 86_400.0
NOON = 43_200.0


class Log:
    """A store that knows only when a node settled what and when its audits ended, each of which cost 1 cent.

    `read` counts the rows that were looked at.
    """

    def __init__(self, times: list[float]) -> None:
        self.times, self.read, self.asked, self.generation = times, 0, 0, 0

    def settled_since(self, node: str, since: float, until: float) -> int:
        n = sum(since <= at < until for at in self.times)
        self.read, self.asked = self.read + n, self.asked + 1
        return n

    def audit_spending(self, node: str, since: float, until: float = inf) -> tuple[float, int]:
        n = self.settled_since(node, since, until)
        return 0.01 * n, n


def rate(log: Log) -> SettledRate:
    return SettledRate(log)  # type: ignore[arg-type]


def spending(log: Log) -> DaySpending:
    return DaySpending(log)  # type: ignore[arg-type]


def judge(store: Any) -> Judge:
    return Judge(store, None, {}, RolloutConfig(audit=AuditConfig(daily_usd=1.0)))  # type: ignore[arg-type]


def test_what_was_settled_in_the_last_minutes_is_expected_until_midnight() -> None:
    log = Log([NOON - 100 - 0.1 * i for i in range(600)])
    assert judge(log)._until_midnight("n", NOON) == 2.0 * 43_200


def test_it_is_counted_anew_only_now_and_then_and_after_a_clock_jump() -> None:
    log = Log([NOON - 100.0] * 600)
    of = rate(log)
    for now in (NOON, NOON + 1, NOON + EVERY - 0.1):
        assert of.per_second("n", now) == 2.0
    first = log.asked
    assert first == OVER / EVERY
    assert of.per_second("n", NOON + EVERY + 1) < 2.0
    assert log.asked == first + 1
    assert of.per_second("n", NOON - 3600) == 0.0
    assert of.per_second("n", NOON) == 2.0
    assert log.asked == 3 * first + 1


def test_of_a_busy_node_each_row_is_read_once() -> None:
    log = Log([0.01 * i for i in range(100_000)])  # 100 a second
    of = rate(log)
    for now in range(340, 1000):
        assert of.per_second("n", now) == pytest.approx(100, rel=0.01)
    assert log.read < len(log.times)


def test_what_a_slow_rung_settles_counts_although_it_is_logged_late() -> None:
    log = Log([])
    of = rate(log)
    for now in range(1000, 1700):  # one a second, each on disk 20 s after it was asked
        log.times = [float(at) for at in range(now - 20)]
        found = of.per_second("n", float(now))
    assert found == pytest.approx(1.0, rel=0.02)


@given(st.lists(st.floats(0, 5000), max_size=60), st.lists(st.floats(0.1, 400), min_size=1, max_size=30))
def test_the_rate_is_that_of_the_last_minutes_whenever_it_is_asked_for(
    times: list[float], pauses: list[float]
) -> None:
    log, now = Log(times), 1000.0
    of = rate(log)
    for pause in pauses:
        now += pause
        found = of.per_second("n", now)
        # Up to 35 s ago; from 300 s on before that, and from the begin of the piece that lies there.
        least = sum(now - OVER - LATE <= at < now - LATE - EVERY for at in times)
        most = sum(now - LATE - EVERY - OVER - max(EVERY, *pauses) <= at < now - LATE for at in times)
        assert least / (OVER + EVERY + max(EVERY, *pauses)) <= found <= most / (0.99 * OVER)


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


@given(st.lists(st.floats(-500, DAY + 500), max_size=60), st.lists(st.floats(0.1, 9000), max_size=30))
def test_what_a_day_cost_is_known_whenever_it_is_asked_for(times: list[float], pauses: list[float]) -> None:
    log, now = Log([]), 0.0
    of = spending(log)
    for pause in [*pauses, -1000.0]:  # the clock jumps back in the end
        now = max(now + pause, 0.0)
        log.times = [at for at in times if at <= now]
        day = now // DAY * DAY
        n = sum(at >= day for at in log.times)
        assert of.today("n", now) == (pytest.approx(0.01 * n), n)


def test_of_a_day_with_many_audits_few_are_read_at_each_look() -> None:
    log = Log([10.0 * i for i in range(4000)])
    of = spending(log)
    of.today("n", 40_000.0)
    before = log.read
    for now in range(40_001, 40_500):
        of.today("n", float(now))
    assert log.read - before < 3 * 500


def test_an_audit_that_a_failing_store_wrote_late_is_counted_within_ten_minutes() -> None:
    log = Log([100.0, 200.0])
    of = spending(log)
    assert of.today("n", 1000.0)[1] == 2
    log.times = [100.0, 200.0, 300.0]
    assert of.today("n", 1601.0)[1] == 3


def test_audits_that_end_after_a_clock_was_set_back_are_counted() -> None:
    log = Log([100.0, 200.0])
    of = spending(log)
    of.today("n", 300.0)
    assert of.today("n", 700.0)[1] == 2
    log.times.append(460.0)
    assert of.today("n", 470.0)[1] == 3
