"""What every traffic store promises, on SQLite and on a real PostgreSQL alike."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import psycopg
import pytest
from traffic_records import BASE, decision, outcome

from cascade.errors import StoreError, UnknownDecision
from cascade.traffic import Call, Labelled, Limits, SqliteStore, sql_store
from cascade.traffic.postgres import _LOCK, PostgresStore
from cascade.traffic.sql_store import SqlStore

TESTS = Path(__file__).parents[1]


class Place(Protocol):
    """Where a store keeps its traffic, seen from outside."""

    url: str

    def open(self, limits: Limits | None = None, busy_timeout: float = 5.0) -> Any: ...

    def rows(self, query: str) -> list[Any]: ...

    def write_lock(self) -> Any:
        """As if another process wrote: until the end, no store can commit."""

    def synchronous(self, store: Any) -> bool:
        """Whether a commit waits for the disk."""


class SqlitePlace:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"sqlite:///{path}"

    def open(self, limits: Limits | None = None, busy_timeout: float = 5.0) -> SqliteStore:
        return SqliteStore(self.path, limits, busy_timeout)

    def rows(self, query: str) -> list[Any]:
        with closing(sqlite3.connect(self.path)) as other:
            return [row[0] for row in other.execute(query)]

    @contextmanager
    def write_lock(self) -> Iterator[None]:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
            other.execute("ROLLBACK")

    def synchronous(self, store: Any) -> bool:
        return store._writer._connection.execute("PRAGMA synchronous").fetchone() == (2,)


class PostgresPlace:
    def __init__(self, url: str) -> None:
        self.url = url

    def open(self, limits: Limits | None = None, busy_timeout: float = 5.0) -> PostgresStore:
        return PostgresStore(self.url, limits, busy_timeout)

    def rows(self, query: str) -> list[Any]:
        with psycopg.connect(self.url) as other:
            return [row[0] for row in other.execute(query)]

    @contextmanager
    def write_lock(self) -> Iterator[None]:
        with psycopg.connect(self.url) as other:
            other.execute(_LOCK)
            yield
            other.rollback()

    def synchronous(self, store: Any) -> bool:
        return store._writer._connection.execute("SHOW synchronous_commit").fetchone() == ("on",)


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "sqlite":
        return SqlitePlace(tmp_path / "traffic.db")
    new_schema: Callable[[], str] = request.getfixturevalue("new_postgres")
    return PostgresPlace(new_schema())


@pytest.fixture
def store(place: Place) -> Iterator[SqlStore]:
    with place.open() as opened:
        yield opened


def test_a_decision_comes_back_as_it_was(store: SqlStore) -> None:
    chat = decision(
        "d1", text=None, messages=(("user", "hé"), ("assistant", "")), request_id="r", output=None
    )
    for each in (BASE, chat):
        store.record(each)
    assert store.flush()
    assert store.get("d0") == BASE
    assert store.get("d1") == store.find("n", "r") == chat
    assert store.get("d2") is store.find("n", "q") is store.find("m", "r") is None
    assert store.stats().written == 2


def test_find_prefers_an_answer_to_an_earlier_failure(place: Place, store: SqlStore) -> None:
    failed, answered = decision("d1", request_id="r", error="E: no"), decision("d2", request_id="r")
    store.record(failed)
    assert store.flush()
    with place.write_lock():
        store.record(decision("d3", request_id="q", error="E: no"))
        store.record(decision("d4", request_id="q"))
        assert getattr(store.find("n", "q"), "decision_id", "") == "d4"
        assert store.find("n", "r") == failed
        store.record(answered)
        assert store.find("n", "r") == answered
    assert store.flush()
    assert store.find("n", "r") == answered


def test_find_sees_what_still_waits_and_the_first_stays_the_first(place: Place, store: SqlStore) -> None:
    first, second = (decision(id_, request_id="r") for id_ in ("d1", "d2"))
    with place.write_lock():
        store.record(first)
        store.record(second)
        assert place.rows("SELECT count(*) FROM decisions") == [0]
        assert store.find("n", "r") == first
        assert store.get("d2") == second
        assert store.stats().waiting == 2
        assert not store.flush(timeout=0)
    assert store.flush()
    assert store.find("n", "r") == first
    with place.write_lock():
        store.record(decision("d3", request_id="r"))
        assert store.find("n", "r") == first


def test_an_outcome_is_acknowledged_only_after_the_commit(place: Place, store: SqlStore) -> None:
    assert place.synchronous(store)
    with place.write_lock():
        store.record(BASE)
        future = store.report(outcome("o1", "d0", output="a"))
        assert not future.done()
        assert not future.cancel()
    assert future.result(60) == "o1"
    assert place.rows("SELECT outcome_id FROM outcomes") == ["o1"]
    assert store.report(outcome("o1", "d0", output="b")).result(60) == "o1"
    assert place.rows("SELECT output FROM outcomes") == ['"a"']


def test_unknown_decision(place: Place, store: SqlStore) -> None:
    with place.write_lock():  # all of it in one group, or nearly
        too_early = store.report(outcome("o1", "d0"))
        store.record(BASE)
        in_time = store.report(outcome("o2", "d0"))
    with pytest.raises(UnknownDecision, match="d0"):
        too_early.result(60)
    assert in_time.result(60) == "o2"
    assert store.report(outcome("o3", "d0")).result(60) == "o3"


def test_one_record_that_cannot_be_written_leaves_its_group_alone(place: Place, store: SqlStore) -> None:
    with place.write_lock():
        store.record(decision("nan", output=float("nan")))
        store.record(decision("surrogate", text="\ud800"))
        store.record(decision("huge", input_tokens=2**70))
        store.record(decision("no time", time=float("nan")))
        store.record(decision("object", attempts=[{"x": object()}]))
        store.record(BASE)
        bad = store.report(outcome("o1", "d0", output=float("inf")))
        good = store.report(outcome("o2", "d0", output="a"))
    assert good.result(60) == "o2"
    with pytest.raises(StoreError):
        bad.result(60)
    assert store.flush()
    assert place.rows("SELECT decision_id FROM decisions") == ["d0"]
    stats = store.stats()
    assert (stats.written, stats.failed, stats.dropped, stats.waiting) == (2, 6, 0, 0)


def test_a_full_queue_drops_and_counts(place: Place) -> None:
    with place.open(Limits(queue=3)) as store:
        with place.write_lock():
            for number in range(5):
                store.record(decision(f"d{number}"))
            with pytest.raises(StoreError):
                store.report(outcome("o", "d0")).result(0)
            assert store.stats().dropped == 3
        assert store.flush()
        assert store.report(outcome("o", "d0")).result(60) == "o"
        assert place.rows("SELECT decision_id FROM decisions ORDER BY seq") == ["d0", "d1", "d2"]


def test_a_locked_database_is_given_up_after_some_tries(place: Place) -> None:
    with place.open(Limits(tries=2, backoff=0.0), busy_timeout=0.0) as store:
        with place.write_lock():
            store.record(decision("lost"))
            with pytest.raises(StoreError, match="lock"):
                store.report(outcome("o1", "lost")).result(60)
        store.record(decision("kept"))
        assert store.report(outcome("o2", "kept")).result(60) == "o2"
        assert place.rows("SELECT decision_id FROM decisions") == ["kept"]


def test_close_writes_what_waits_and_later_calls_are_harmless(place: Place) -> None:
    store = place.open()
    for number in range(2_500):
        store.record(decision(f"d{number}"))
    store.close()
    store.close()
    assert place.rows("SELECT count(*) FROM decisions") == [2_500]
    store.record(decision("late"))
    assert store.stats().dropped == 1
    with pytest.raises(StoreError):
        store.report(outcome("o", "d0")).result(0)
    with pytest.raises(StoreError):
        store.get("d0")


REPORTER = """
import os, sys
from cascade.traffic import open_store
sys.path.insert(0, sys.argv[2])
from traffic_records import decision, outcome

store = open_store(sys.argv[1])
number = 0
waiting = []
while True:
    number += 1
    store.record(decision(f"d{number}"))
    future = store.report(outcome(f"o{number}", f"d{number}", output="a"))
    future.add_done_callback(lambda f: os.write(1, f.result().encode() + b"\\n"))
    waiting.append(future)
    if len(waiting) == 50:
        waiting.pop(0).result()
"""


def test_what_was_acknowledged_survives_kill_9(place: Place) -> None:
    command = [sys.executable, "-c", REPORTER, place.url, str(TESTS)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=TESTS.parent)
    assert process.stdout is not None
    head = [process.stdout.readline() for _ in range(200)]
    os.kill(process.pid, signal.SIGKILL)
    lines = head + process.stdout.readlines()
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL
    acknowledged = {line.decode().strip() for line in lines if line.endswith(b"\n")}
    assert len(acknowledged) >= 200
    assert acknowledged <= set(
        place.rows("SELECT outcome_id FROM outcomes JOIN decisions USING (decision_id)")
    )
    with place.open() as store:
        assert store.counts("n")["outcomes"] >= len(acknowledged)


def test_several_stores_write_one_file(place: Place) -> None:
    stores = [place.open() for _ in range(4)]
    for number in range(400):
        stores[number % 4].record(decision(f"d{number}"))
    for each in stores:
        each.close()
    assert place.rows("SELECT count(*) FROM decisions") == [400]
    assert all(each.stats().failed == 0 for each in stores)


def test_import_is_whole_or_not_at_all(store: SqlStore) -> None:
    one, two = Labelled("n", "1", "a", None, "x"), Labelled("n", "2", "b", None, None, "s", 3.0)
    count = store.import_labelled([one, two, replace(one, node="m")])
    assert (count.added, count.already_there) == (3, 0)
    count = store.import_labelled([replace(one, output="changed"), replace(one, id="3")])
    assert (count.added, count.already_there) == (1, 1)
    assert [(r.id, r.output) for r in store.training_records("n")] == [("1", "x"), ("3", "x"), ("2", None)]
    with pytest.raises(ValueError, match="Out of range"):
        store.import_labelled([replace(one, id="4"), replace(one, id="5", output=float("nan"))])
    with pytest.raises(ValueError, match="surrogates"):
        store.import_labelled([replace(one, id="4"), replace(one, id="5", text="\ud800")])
    assert store.counts("n")["imported"] == 3


def test_training_records(store: SqlStore) -> None:
    chat = (("user", "u"), ("assistant", "a"))
    decisions = [
        decision("teacher", time=9.0, by_teacher=True, output="t", text=None, messages=chat),
        decision("teacher-failed", by_teacher=True, output=None, error="no answer"),
        decision("failed-right", by_teacher=True, output=None, error="no answer"),
        decision("local", output="l"),
        decision("local-right", time=8.0, output="l", context={}),
        decision("local-corrected", time=8.0, output="l"),
        decision("teacher-corrected", time=7.0, by_teacher=True, output="t"),
        decision("teacher-wrong", by_teacher=True, output="t"),
        decision("wrong-then-right", time=6.0, output="l"),
        decision("says-nothing", time=5.0, by_teacher=True, output="t"),
        decision("elsewhere", node="m", by_teacher=True),
    ]
    for each in decisions:
        store.record(each)
    reports = [
        outcome("1", "local-right", right=True),
        outcome("2", "local-corrected", output=["c"], right=False),
        outcome("3", "teacher-corrected", output=0),
        outcome("4", "teacher-wrong", right=False),
        outcome("5", "wrong-then-right", right=False),
        outcome("6", "wrong-then-right", right=True),
        outcome("7", "wrong-then-right"),
        outcome("8", "says-nothing"),
        outcome("9", "failed-right", right=True),
    ]
    for report in reports:
        store.report(report)
    assert store.flush()
    store.import_labelled(
        [Labelled("n", "z", "imported", None, "i"), Labelled("n", "y", None, chat, "i", "q", 8.0)]
    )
    records = store.training_records("n")
    assert [(r.id, r.output, r.source, r.session, r.time) for r in records] == [
        ("z", "i", "import", None, None),
        ("says-nothing", "t", "teacher", "s", 5.0),
        ("wrong-then-right", "l", "outcome", "s", 6.0),
        ("teacher-corrected", 0, "outcome", "s", 7.0),
        ("local-corrected", ["c"], "outcome", "s", 8.0),
        ("local-right", "l", "outcome", None, 8.0),
        ("y", "i", "import", "q", 8.0),
        ("teacher", "t", "teacher", "s", 9.0),
    ]
    assert (records[-1].text, records[-1].messages) == ("user: u\nassistant: a", chat)
    assert (records[0].text, records[0].messages) == ("imported", None)
    assert store.counts("n") == {
        "decisions": 10,
        "by_teacher": 6,
        "errors": 2,
        "outcomes": 9,
        "imported": 2,
    }
    times = store.last_times("n")
    assert (times["decision"], times["outcome"]) == (9.0, 5.0)
    assert times["import"] is not None
    assert store.last_times("none") == {"decision": None, "outcome": None, "import": None}
    assert store.counts("none")["by_teacher"] == 0


def test_decisions_are_read_by_node_and_window_oldest_first(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_store, "_PAGE", 3)
    for number, time in enumerate([5.0, 3.0, 3.0, 3.0, 3.0, 4.0, 1.0]):
        store.record(decision(f"d{number}", time=time))
    store.record(decision("elsewhere", node="m", time=3.0))
    assert store.flush()
    found = list(store.decisions("n"))
    assert [d.decision_id for d in found] == ["d6", "d1", "d2", "d3", "d4", "d5", "d0"]
    assert found[-1] == decision("d0", time=5.0)
    assert [d.decision_id for d in store.decisions("n", since=4.0)] == ["d5", "d0"]
    assert [d.decision_id for d in store.decisions("n", since=1.0, until=3.0)] == ["d6"]
    assert list(store.decisions("n", since=9.0)) == list(store.decisions("none")) == []


def test_calls_come_back_as_they_were(store: SqlStore) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    full = Call(
        "c1", 2.0, "t", "n", "big", [{"role": "user", "content": "hé"}], [tool], {"type": "json_object"},
        {"role": "assistant", "content": "{}"}, {"session": "s"}, 0.5, 7, 8, 9.5,
    )  # fmt: skip
    bare = Call("c2", 1.0, None, None, "big", [], None, None, None, error="timeout")
    for each in (full, bare, replace(full, model="again"), replace(full, call_id="bad", usd=float("nan"))):
        store.record_call(each)
    assert store.flush()
    assert list(store.calls()) == [bare, full]
    assert list(store.calls(since=2.0)) == [full]
    assert store.stats().failed == 1


def test_every_other_process_can_keep_tables_of_its_own(place: Place, store: SqlStore) -> None:
    with store.database.writing() as connection:
        connection.execute("CREATE TABLE mine (decision_id TEXT, sure BIGINT)")
        connection.executemany("INSERT INTO mine VALUES (?, ?)", [("a", 1), ("b 100%?", None)])
    for statement, error in (("INSERT INTO nonsense VALUES (1)", StoreError), (None, RuntimeError)):
        with pytest.raises(error), store.database.writing() as connection:  # noqa: PT012
            connection.execute("INSERT INTO mine VALUES (?, ?)", ("c", 2))
            if statement is None:
                raise RuntimeError
            connection.execute(statement)
    with store.database.reading() as connection:
        found = connection.execute(
            "SELECT * FROM mine WHERE decision_id LIKE 'b %' OR sure = ?", (1,)
        ).fetchall()
        assert [tuple(row) for row in found] == [("a", 1), ("b 100%?", None)]
        tables = store.database.tables_with(connection, "decision_id")
    assert tables == sorted(tables)
    assert {"decisions", "mine", "outcomes"} <= set(tables)
    with pytest.raises(StoreError, match="read"), store.database.reading() as connection:
        connection.execute("DELETE FROM mine")
    assert place.rows("SELECT count(*) FROM mine") == [2]


def test_a_nul_in_a_text_is_stored(store: SqlStore) -> None:
    store.record(decision("d1", text="a\x00b", request_id="r\x00"))
    assert store.flush()
    found = store.find("n", "r\x00")
    assert found is not None
    assert found.text in {"a\x00b", "a\ufffdb"}
