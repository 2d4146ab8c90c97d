"""The guard and the database that it reads: on a real store."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cascade.config.rollout import RolloutConfig
from cascade.config.schema import BarConfig
from cascade.policy.guarded_slices import GuardedSlices
from cascade.rollout.database_store import DatabaseRolloutStore
from cascade.rollout.follow import Follower
from cascade.rollout.judge import Judge
from cascade.rollout.records import Audit, AuditResult
from cascade.rollout.state import Event
from cascade.traffic import SqliteStore
from tests.soon import comes

NODE, VERSION = "n", "0001-aaaaaaaa"


def audited(store: DatabaseRolloutStore, begin: int, n: int, right: bool) -> None:
    now = time.time()
    audits = [Audit(f"d{begin + i}", NODE, VERSION, 0, now, 1.0, "linear") for i in range(n)]
    store.add_audits(audits, "me", now + 60)
    store.finish_audits([AuditResult(each, now, "a", right, 0.0, 1, 1) for each in audits])


def test_a_guard_heeds_what_comes_after_a_backup_was_put_back_at_places_that_it_had_read(
    tmp_path: Path,
) -> None:
    path, backup = tmp_path / "traffic.db", tmp_path / "backup.db"
    bundle: Any = SimpleNamespace(guarded_slices=GuardedSlices())
    with SqliteStore(path) as traffic:
        store = DatabaseRolloutStore(traffic)
        follower = Follower(store, [NODE])
        judge = Judge(store, follower, {NODE: BarConfig(agreement=0.9)}, RolloutConfig())

        def look() -> list[Event]:
            follower.poll()
            return judge.look(NODE, {VERSION: bundle}, {})

        audited(store, 0, 10, right=True)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(f"VACUUM INTO '{backup}'")
        audited(store, 10, 490, right=True)
        assert look() == []
        backup.rename(path)
        assert comes(lambda: follower.poll() is not None and store.generation == 1)
        assert look() == []
        audited(store, 10, 200, right=False)
        assert store.evidence(NODE, VERSION, 0)[-1].seq < 500, "the guard had been further in the one before"
        assert [event.what for event in look()] == ["rollback"]
