"""The schema's steps: an old database comes to the present schema with its data, and steps never change."""

import hashlib
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from cascade.errors import StoreError
from cascade.rollout.database_store import DatabaseRolloutStore
from cascade.rollout.records import AuditResult
from cascade.rollout.state import Life, NodeRollout, fold
from cascade.traffic import SqliteStore, migrations, schema
from cascade.traffic.migrations import STEPS, VERSION, Step

RELEASED = ("6ae0045334236993",)
"""A hash of each step that databases out there have seen; add one for each step of a release."""

V1 = Path(__file__).parent / "traffic_v1.sql"


def tables(path: Path) -> dict[str, str]:
    with closing(sqlite3.connect(path)) as other:
        return dict(other.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name"))


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as other:
        return int(other.execute("PRAGMA user_version").fetchone()[0])


@pytest.fixture
def v1(tmp_path: Path) -> Path:
    """A database as the first version of Cascade left it, with traffic."""
    path = tmp_path / "v1.db"
    with closing(sqlite3.connect(path)) as other:
        other.executescript(V1.read_text())
    return path


def test_a_database_of_the_first_version_is_migrated_with_its_data(v1: Path, tmp_path: Path) -> None:
    assert version(v1) == 1
    with SqliteStore(v1) as store:
        assert version(v1) == VERSION
        assert store.counts("n") == {
            "decisions": 2, "by_teacher": 1, "errors": 0, "outcomes": 1, "imported": 1,
        }  # fmt: skip
        assert [(r.id, r.output, r.source) for r in store.training_records("n")] == [
            ("i1", "a", "import"),
            ("d2", "a", "teacher"),
        ]
        found = store.find("n", "r1")
        assert found is not None
        assert found.context == {"session": "s"}
        assert list(store.calls()) == []
    SqliteStore(tmp_path / "new.db").close()
    assert tables(v1).keys() == tables(tmp_path / "new.db").keys()


def test_each_step_is_applied_once_and_later_ones_to_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.db"
    SqliteStore(path).close()
    later = (
        *STEPS,
        Step("more", ("CREATE TABLE more (seq {serial}, x TEXT)",), ("CREATE TABLE pg (x TEXT)",)),
    )
    monkeypatch.setattr(schema, "STEPS", later)
    monkeypatch.setattr(schema, "VERSION", VERSION + 1)
    for _ in range(2):
        SqliteStore(path).close()
    assert tables(path)["more"] == "CREATE TABLE more (seq INTEGER PRIMARY KEY, x TEXT)"
    assert version(path) == VERSION + 1
    assert list(later[-1].sql("postgresql")) == ["CREATE TABLE pg (x TEXT)"]


def test_evidence_and_audits_of_before_lives_were_told_apart_are_read_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.db"
    before = next(n for n, step in enumerate(STEPS) if "in which life" in step.name)
    with monkeypatch.context() as older:
        older.setattr(schema, "STEPS", STEPS[:before])
        older.setattr(schema, "VERSION", before)
        SqliteStore(path).close()
    with closing(sqlite3.connect(path)) as other:
        other.executescript("""
            INSERT INTO audits VALUES (1, 'd1', 'n', 'v', 4, 1.0, 0.5, 'linear', '[]', 'waiting', 'dead', 1.0,
                NULL, NULL, 0.0, 0, 0, NULL, NULL, 0);
            INSERT INTO evidence VALUES (1, 'd0', 'n', 'v', 4, 'audit', 1.0, 1, 0.5, '[]');
            INSERT INTO rollout_events VALUES (1, 'n', 1, 1.0, 'ada', 'start', '', 'v', '{"shares": [0, 9]}');
        """)
    with SqliteStore(path) as store:
        shared = DatabaseRolloutStore(store)
        (audit,) = shared.claim_audits(["n"], "heir", 2.0, 3.0, 10)
        assert (audit.decision_id, audit.life) == ("d1", None)
        shared.finish_audits([AuditResult(audit, 2.0, "a", True)])
        assert [(e.decision_id, e.life) for e in shared.evidence("n", "v", 0)] == [("d0", None), ("d1", None)]
        assert fold(NodeRollout("n"), shared.events("n")).life_of("v") == Life(1, 0, 0)


def test_a_step_that_fails_leaves_the_database_as_it_was(v1: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tables(v1)
    monkeypatch.setattr(schema, "STEPS", (*STEPS, Step("bad", ("CREATE TABLE good (x)", "CREATE NONSENSE"))))
    monkeypatch.setattr(schema, "VERSION", VERSION + 1)
    with pytest.raises(StoreError, match="NONSENSE"):
        SqliteStore(v1)
    assert tables(v1) == before
    assert version(v1) == 1


def test_many_processes_that_open_an_old_database_at_once_migrate_it_once(v1: Path) -> None:
    failures: list[BaseException] = []

    def open_it() -> None:
        try:
            SqliteStore(v1).close()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert version(v1) == VERSION


def test_a_released_step_is_never_changed() -> None:
    for step, released in zip(STEPS, RELEASED, strict=False):
        text = "\n".join([step.name, *step.sql("sqlite"), "--", *step.sql("postgresql")])
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        assert digest == released, f"{step.name!r} is released: append another step instead"
    assert migrations.VERSION == len(STEPS) >= len(RELEASED)
