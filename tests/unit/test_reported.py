"""What the guard takes of reports: in blocks, in little memory, without reading the log again and again."""

import random
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from cascade.policy.guard import ReportedBlock
from cascade.rollout import reported, sql
from cascade.rollout.database_store import DatabaseRolloutStore
from cascade.rollout.records import Report
from cascade.rollout.reported import BLOCK, Reported
from cascade.traffic import SqliteStore
from tests.traffic_records import decision


def plainly(settled: list[int], said: list[tuple[int, bool]], block: int) -> list[ReportedBlock]:
    """The same as `Reported.blocks`, the way that holds all of it."""
    last = dict(said)
    if all(last.values()):
        return []
    parts = [settled[at : at + block] for at in range(0, len(settled), block)]
    return [ReportedBlock(len(part), sum(not last.get(each, True) for each in part)) for part in parts]


def test_blocks_are_those_of_all_that_was_settled_and_the_last_report_on_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reported, "BLOCK", 5)
    monkeypatch.setattr(reported, "_PAGE", 7)
    rng = random.Random(0)
    with SqliteStore(tmp_path / "traffic.db") as traffic:
        store = DatabaseRolloutStore(traffic)
        after, followed = 10, []
        settled: list[int] = []
        said: list[tuple[int, bool]] = []
        for n in range(1, 151):
            ours, by_teacher = rng.random() < 0.7, rng.random() < 0.2
            version = "v1" if ours else "v2"
            traffic.record(decision(f"d{n}", bundle_version=version, by_teacher=by_teacher))
            assert traffic.flush(10)
            if ours and not by_teacher and n > after:
                settled.append(n)
            if n == after:
                followed.append(Reported(store, "n", "v1", after))
            if settled and rng.random() < 0.5:
                of, right = rng.choice(settled), rng.random() < 0.6
                said.append((of, right))
                store.add_reports([Report(f"d{of}", "n", "v1", 0.0, right)])
            if rng.random() < 0.2:
                for each in followed:
                    assert each.blocks(1000) == plainly(settled, said, 5)
        late = Reported(store, "n", "v1", after)  # as a worker that was started anew
        assert late.blocks(1000) == followed[0].blocks(1000) == plainly(settled, said, 5)
        assert len(settled) > 50


class Long:
    """A store with a long life of a bundle in it."""

    def __init__(self, settled: int) -> None:
        self.last = 2 * settled

    def reports(self, node: str, version: str, after: int, limit: int) -> list[tuple[int, int, bool]]:
        end = min(after + limit, self.last // 10)
        return [(n, 2 * n, n != 77) for n in range(after + 1, end + 1)]

    def settled(self, node: str, version: str, after: int, limit: int) -> list[int]:
        return list(range(after + 2, min(after + 2 * limit, self.last) + 1, 2))

    def marks(self) -> tuple[int, int]:
        return 0, self.last


def test_a_long_life_of_a_bundle_takes_little_memory() -> None:
    store: Any = Long(500_000)
    follows = Reported(store, "n", "v1", 0)
    tracemalloc.start()
    try:
        for _ in range(60):
            found = follows.blocks(2_000)
        held, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (sum(each.settled for each in found), sum(each.wrong for each in found)) == (500_000, 1)
    assert len(found) == 500_000 // BLOCK
    assert held < 300_000  # all its decisions and reports took 25 MB
    assert most < 2_000_000


def test_what_is_new_is_read_without_going_through_what_is_old(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "traffic.db") as traffic, traffic.database.reading() as connection:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {sql.SELECT_SETTLED}", ("n", "v1", 7, 10)).fetchall()
    assert [row[-1] for row in plan] == ["SEARCH decisions USING INTEGER PRIMARY KEY (rowid>?)"]


def test_a_node_that_rests_does_not_go_through_what_others_decide_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SqliteStore(tmp_path / "traffic.db") as traffic:
        store = DatabaseRolloutStore(traffic)
        for n in range(1, 31):
            traffic.record(decision(f"d{n}", node="n" if n <= 3 else "busy", bundle_version="v1"))
        assert traffic.flush(10)
        store.add_reports([Report("d2", "n", "v1", 0.0, False)])
        begun: list[int] = []
        settled = store.settled

        def seen(node: str, bundle: str, after: int, limit: int) -> list[int]:
            begun.append(after)
            return settled(node, bundle, after, limit)

        monkeypatch.setattr(store, "settled", seen)
        follows = Reported(store, "n", "v1", 0)
        for _ in range(3):
            assert follows.blocks(1000) == [ReportedBlock(3, 1)]
        assert begun == [0, 3, 30]
        traffic.record(decision("d31", node="n", bundle_version="v1"))
        assert traffic.flush(10)
        assert follows.blocks(1000) == [ReportedBlock(4, 1)]
