"""What only a database shared by several replicas meets: restarts, rights, other tenants of the server."""

import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from traffic_records import decision, outcome

from cascade.errors import StoreError
from cascade.traffic import Limits, open_store, postgres
from cascade.traffic.migrations import STEPS, VERSION, Step
from cascade.traffic.postgres import PostgresStore, name_of

NewPostgres = Callable[[], str]


def ask(url: str, query: str) -> Any:
    with psycopg.connect(url) as other:
        return other.execute(query).fetchone()[0]  # type: ignore[call-overload, index]


def test_replicas_that_start_together_make_the_tables_once(new_postgres: NewPostgres) -> None:
    url = new_postgres()
    failures: list[BaseException] = []

    def start(name: int) -> None:
        try:
            with PostgresStore(url) as store:
                for number in range(50):
                    store.record(decision(f"d{name}-{number}", request_id=str(number)))
                assert store.flush(60)
                assert store.stats().failed == 0
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=start, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert ask(url, "SELECT version FROM cascade_schema") == VERSION
    assert ask(url, "SELECT count(*) FROM decisions") == 200
    with open_store(url) as store:  # type: ignore[attr-defined]
        first = store.find("n", "7")
        assert first.decision_id == ask(
            url, "SELECT decision_id FROM decisions WHERE request_id = '7' ORDER BY seq"
        )


def test_an_older_schema_is_migrated_with_its_data(
    new_postgres: NewPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = new_postgres()
    with monkeypatch.context() as old:
        old.setattr(postgres, "STEPS", STEPS[:1])
        old.setattr(postgres, "VERSION", 1)
        with PostgresStore(url) as store:
            store._database.connect_writer().close()
    assert ask(url, "SELECT version FROM cascade_schema") == 1
    psycopg.connect(url, autocommit=True).execute(
        "INSERT INTO labelled (node, id, text, output, imported_at) VALUES ('n', '1', 'hello', '\"a\"', 1)"
    )
    with PostgresStore(url) as store:
        assert [(r.text, r.output) for r in store.training_records("n")] == [("hello", "a")]
        assert list(store.calls()) == []
    assert ask(url, "SELECT version FROM cascade_schema") == VERSION


def test_a_step_that_fails_leaves_the_database_as_it_was(
    new_postgres: NewPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = new_postgres()
    monkeypatch.setattr(
        postgres, "STEPS", (*STEPS, Step("bad", ("CREATE TABLE good (x TEXT)", "CREATE NONSENSE")))
    )
    monkeypatch.setattr(postgres, "VERSION", VERSION + 1)
    with pytest.raises(StoreError, match="NONSENSE"):
        PostgresStore(url)
    tables = "SELECT count(*) FROM information_schema.tables WHERE table_schema = current_schema()"
    assert ask(url, tables) == 0


def test_a_newer_schema_and_someone_elses_tables_are_refused(new_postgres: NewPostgres) -> None:
    newer, foreign = new_postgres(), new_postgres()
    PostgresStore(newer).close()
    psycopg.connect(newer, autocommit=True).execute("UPDATE cascade_schema SET version = 99")
    with pytest.raises(StoreError, match=r"newer Cascade.*upgrade"):
        PostgresStore(newer)
    psycopg.connect(foreign, autocommit=True).execute("CREATE TABLE decisions (x TEXT)")
    with pytest.raises(StoreError, match="something else"):
        PostgresStore(foreign)


def test_a_server_that_drops_connections_loses_no_record(new_postgres: NewPostgres) -> None:
    url = new_postgres()
    with PostgresStore(url, Limits(backoff=0.01)) as store:
        store.record(decision("d1", request_id="r"))
        assert store.flush(60)
        assert store.find("n", "r") is not None
        drop = (
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'cascade'"
        )
        assert ask(url, drop) >= 2  # the writer's and an idle reader's
        store.record(decision("d2"))
        assert store.report(outcome("o", "d2", output="a")).result(60) == "o"
        with pytest.raises(StoreError, match="cannot be read"):
            store.get("d1")  # the one read that finds out
        assert store.get("d1") is not None
        assert store.stats().failed == 0


def test_a_server_that_is_not_there_is_named_without_its_password(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", "hunter2-secret")
    with pytest.raises(StoreError, match="cannot be opened") as caught:
        PostgresStore(f"postgresql://me@/traffic?host={tmp_path}")
    assert "hunter2" not in str(caught.value)
    assert f"me@{tmp_path}/traffic" in str(caught.value)
    assert name_of("postgresql://u:p@h:5433/db?password=x&sslmode=require") == "postgresql://u@h:5433/db"


def test_a_server_that_is_down_keeps_no_store_from_being_opened_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    url = "postgresql://nobody@127.0.0.1:1/none"
    with pytest.raises(StoreError, match="cannot be opened"):
        open_store(url)
    with PostgresStore(url, later=True) as store:
        assert "until it can be, nothing is recorded, and the teacher answers" in caplog.text
        with pytest.raises(StoreError):
            store.get("d1")
        store.record(decision("d1"))
        assert store.flush(30)
        assert store.stats().failed == 1
