"""The SQLite traffic log: what was acknowledged is on disk, and a bad disk never reaches the request path."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from traffic_records import decision, outcome

from cascade.errors import ConfigError, StoreError
from cascade.traffic import Labelled, Limits, SqliteStore, open_store
from cascade.traffic import sqlite as sqlite_module
from cascade.traffic.schema import connect_writer


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "traffic.db"


@contextmanager
def write_lock(path: Path) -> Iterator[None]:
    """As if another process wrote: until the end, no store can commit."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def rows(path: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as other:
        return [row[0] for row in other.execute(query)]


def test_what_waits_is_committed_as_groups(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    statements: list[str] = []
    entered, go_on = threading.Event(), threading.Event()

    def traced(*args: Any) -> sqlite3.Connection:
        connection = connect_writer(*args)

        def trace(statement: str) -> None:
            statements.append(statement)
            if statement.startswith("INSERT") and not entered.is_set():
                entered.set()
                go_on.wait(60)

        connection.set_trace_callback(trace)
        return connection

    monkeypatch.setattr(sqlite_module, "connect_writer", traced)
    with SqliteStore(path, Limits(group=100)) as store:
        store.record(decision("first"))
        assert entered.wait(60)
        for number in range(250):
            store.record(decision(f"d{number}"))
        go_on.set()
        assert store.flush()
        assert store.stats().written == 251
    assert statements.count("COMMIT") == 1 + 3


def test_a_row_that_is_refused_costs_none_of_those_inserted_with_it(path: Path) -> None:
    names = [f"d{number:03}" for number in range(150)]
    bad = {"d000", "d070", "d149"}
    with SqliteStore(path) as store:
        store.record(*(decision(name, input_tokens=2**70 if name in bad else 1) for name in names))
        assert store.flush()
        assert (store.stats().written, store.stats().failed) == (147, 3)
    kept = rows(path, "SELECT decision_id FROM decisions ORDER BY seq")
    assert kept == [name for name in names if name not in bad]


def test_of_decisions_that_come_together_those_that_find_no_room_are_dropped(path: Path) -> None:
    with SqliteStore(path, Limits(queue=5)) as store:
        store.record(*(decision(f"d{number}") for number in range(8)))
        assert store.flush()
        assert (store.stats().written, store.stats().dropped) == (5, 3)
        store.record(decision("later"))
        assert store.flush()
        assert store.stats().written == 6
    assert rows(path, "SELECT decision_id FROM decisions ORDER BY seq") == [
        *(f"d{n}" for n in range(5)),
        "later",
    ]


def test_of_decisions_that_come_while_there_is_no_room_at_all_each_is_counted(path: Path) -> None:
    with SqliteStore(path, Limits(queue=5)) as store:
        with write_lock(path):
            store.record(*(decision(f"d{number}") for number in range(5)))
            store.record(decision("late"), decision("later"))
            assert store.stats().dropped == 2
        assert store.flush()
        assert store.stats().written == 5


def test_a_full_disk_fails_outcomes_only_and_heals(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = threading.Event()

    def small(*args: Any) -> sqlite3.Connection:
        connection = connect_writer(*args)
        if full.is_set():
            connection.execute("PRAGMA max_page_count = 1")  # SQLite takes the present size instead
        return connection

    monkeypatch.setattr(sqlite_module, "connect_writer", small)
    full.set()
    with SqliteStore(path, Limits(tries=2, backoff=0.0)) as store:
        store.record(decision("lost", text="x" * 100_000))
        with pytest.raises(StoreError, match="full"):
            store.report(outcome("o1", "lost", output="y" * 100_000)).result(60)
        with pytest.raises(StoreError, match="full"):
            store.import_labelled([Labelled("n", "i", "x" * 100_000, None, "a")])
        assert store.flush()
        assert store.find("n", "lost") is store.get("lost") is None
        assert (store.stats().failed, store.stats().written) == (2, 0)

        full.clear()
        store.record(decision("kept", text="x" * 100_000))
        assert store.report(outcome("o2", "kept", output="a")).result(60) == "o2"


def test_a_read_only_database_fails_outcomes_only_and_heals(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_only = threading.Event()

    def closed(*args: Any) -> sqlite3.Connection:
        connection = connect_writer(*args)
        if read_only.is_set():
            connection.execute("PRAGMA query_only = ON")
        return connection

    monkeypatch.setattr(sqlite_module, "connect_writer", closed)
    read_only.set()
    with SqliteStore(path, Limits(tries=2, backoff=0.0)) as store:
        store.record(decision("lost", request_id="r"))
        with pytest.raises(StoreError, match="readonly"):
            store.report(outcome("o1", "lost", output="a")).result(60)
        with pytest.raises(StoreError, match="readonly"):
            store.import_labelled([Labelled("n", "i", "x", None, "a")])
        assert store.flush()
        assert store.find("n", "r") is store.get("lost") is None
        assert (store.stats().failed, store.stats().written) == (2, 0)

        read_only.clear()
        store.record(decision("kept"))
        assert store.report(outcome("o2", "kept", output="a")).result(60) == "o2"


def test_any_failure_of_the_connection_leaves_the_thread_alive(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SqliteStore(path, Limits(tries=1)) as store:

        def fail(*args: Any) -> sqlite3.Connection:
            raise MemoryError("none left")

        with monkeypatch.context() as patched, write_lock(path):
            patched.setattr(sqlite_module, "connect_writer", fail)
            store._writer._connection, old = None, store._writer._connection
            store.record(decision("lost"))
            assert store.flush(60)
            assert old is not None
            old.close()
        store.record(decision("kept"))
        assert store.flush(60)
        assert rows(path, "SELECT decision_id FROM decisions") == ["kept"]


def test_other_databases_are_refused(path: Path, tmp_path: Path) -> None:
    SqliteStore(path).close()
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match=r"newer Cascade.*upgrade"):
        SqliteStore(path)

    with closing(sqlite3.connect(tmp_path / "foreign.db")) as other:
        other.execute("CREATE TABLE x (y)")
    with pytest.raises(StoreError, match="something else"):
        SqliteStore(tmp_path / "foreign.db")

    with pytest.raises(StoreError, match=r"cannot be opened.*folder must be there and writable"):
        SqliteStore(tmp_path / "nowhere" / "traffic.db")

    (tmp_path / "text.db").write_text("not a database " * 100)
    with pytest.raises(StoreError, match="cannot be opened"):
        SqliteStore(tmp_path / "text.db")


def test_open_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    open_store("sqlite:///var/deep/t.db").close()
    open_store(f"sqlite:///{tmp_path}/abs/t.db").close()
    assert (tmp_path / "var/deep/t.db").is_file()
    assert (tmp_path / "abs/t.db").is_file()
    for url in ("mysql://me:secret@host/db", "t.db", "sqlite://", "sqlite:///", "sqlite:///:memory:"):
        with pytest.raises(ConfigError, match="sqlite:///relative") as caught:
            open_store(url)
        assert "secret" not in str(caught.value)
    (tmp_path / "file").touch()
    with pytest.raises(StoreError):
        open_store("sqlite:///file/t.db")
    for url in ("postgresql://me:secret@host/db", "postgres://host/db?user=me&password=secret"):
        with pytest.raises(ConfigError, match="PGPASSWORD") as caught:
            open_store(url)
        assert "secret" not in str(caught.value)


def test_decisions_that_lack_this_and_that_are_written_in_order_among_others(path: Path) -> None:
    bare: dict[str, Any] = {"context": {"session": "s"}}
    shapes: list[dict[str, Any]] = [
        bare, bare, {"request_id": "r"}, {"context": {"tenant": "t"}}, bare | {"confidence": None}, bare,
        bare | {"request_id": "r3"}, bare | {"error": "X: y", "output": None},
        {"text": None, "messages": (("user", "hi"),)}, bare,
        bare | {"text": None, "messages": (("user", "hi"),), "request_id": "r2", "error": "X: y"}, bare,
    ]  # fmt: skip
    written = [decision(f"d{i}", time=1.0, **changes) for i, changes in enumerate(shapes)]
    with SqliteStore(path, Limits(window=30)) as store:
        store.record(*written[:5])
        told = store.report(outcome("o", "d0", right=True))
        store.record(written[5], decision("bad", output={"x": float("nan")}), *written[6:])
        assert store.flush(60)
        assert told.result(0) == "o"
        assert list(store.decisions("n")) == written
        assert store.stats().failed == 1
    assert rows(path, "SELECT tenant FROM decisions WHERE tenant IS NOT NULL") == ["t"] * 3
