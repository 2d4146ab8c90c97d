"""PostgreSQL: what a killed replica had taken and not written is a row that every replica can see."""

import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from traffic_records import decision

from cascade.traffic import Limits, postgres_tally
from cascade.traffic.postgres import _LOCK, PostgresStore

TESTS = Path(__file__).parents[1]
NewPostgres = Callable[[], str]

# Writes two decisions, takes five more that it cannot write because of a lock, and waits to be killed.
WRITER = """
import sys, time
from pathlib import Path
import psycopg
from cascade.traffic import Limits
from cascade.traffic.postgres import _LOCK, PostgresStore
sys.path.insert(0, sys.argv[2])
from traffic_records import decision

store = PostgresStore(sys.argv[1], Limits(queue=77), busy_timeout=60, state=Path(sys.argv[3]))
for name in ("d1", "d2"):
    store.record(decision(name))
assert store.flush(60)
with psycopg.connect(sys.argv[1]) as other:
    other.execute(_LOCK)
    for number in range(5):
        store.record(decision(f"lost{number}"))
    print("ready", flush=True)
    time.sleep(600)
"""


def rows(url: str, query: str) -> list[Any]:
    with psycopg.connect(url) as other:
        return other.execute(query).fetchall()  # type: ignore[call-overload, no-any-return]


def killed(url: str, state: Path) -> int:
    """Let a writer be killed while five records wait, and give its process id."""
    command = [sys.executable, "-c", WRITER, url, str(TESTS), str(state)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=TESTS.parent)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    # Its backends notice at once; those that wait for a lock do once they have it.
    with psycopg.connect(url) as other:
        other.execute(_LOCK)
    return process.pid


def test_the_gap_of_a_killed_writer_is_exact_on_its_own_machine(
    new_postgres: NewPostgres, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = new_postgres()
    pid = killed(url, tmp_path)
    with PostgresStore(url, state=tmp_path) as store:
        assert [(gap.pid, gap.at_most) for gap in store.gaps] == [(pid, 5)]
        assert f"process {pid}" in caplog.text
        assert "at most 5 records are missing" in caplog.text
        assert store.counts("n")["decisions"] == 2
    assert rows(url, "SELECT pid, at_most, exact FROM gaps") == [(pid, 5, 1)]
    with PostgresStore(url, state=tmp_path) as store:
        assert store.gaps == []  # told once
    assert rows(url, "SELECT writer FROM writers") == []
    assert [list(folder.iterdir()) for folder in tmp_path.iterdir()] == [[]]


def test_another_machine_sees_the_gap_too_and_the_exact_number_follows(
    new_postgres: NewPostgres, tmp_path: Path
) -> None:
    url = new_postgres()
    pid = killed(url, tmp_path / "own")
    with PostgresStore(url, state=tmp_path / "other") as store:
        assert [(gap.pid, gap.at_most) for gap in store.gaps] == [(pid, 77)], "as many as may have waited"
    with PostgresStore(url):
        assert rows(url, "SELECT pid, at_most, exact FROM gaps") == [(pid, 77, 0)]
    PostgresStore(url, state=tmp_path / "own").close()
    assert rows(url, "SELECT pid, at_most, exact FROM gaps") == [(pid, 5, 1)]


def test_a_living_writer_finds_the_gap_of_another_while_it_writes(
    new_postgres: NewPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_tally, "_LOOK_EVERY", 0.0)
    url = new_postgres()
    with PostgresStore(url, state=tmp_path / "living") as store:
        shutil.rmtree(tmp_path / "living")
        pid = killed(url, tmp_path / "dead")
        assert store.gaps == []
        store.record(decision("d3"))
        assert store.flush(60)
        assert [gap.pid for gap in store.gaps] == [pid]


def test_writers_that_close_or_only_read_leave_nothing(
    new_postgres: NewPostgres, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    url = new_postgres()
    with PostgresStore(url, state=tmp_path) as reader, PostgresStore(url, state=tmp_path) as writer:
        assert reader.counts("n")["decisions"] == 0
        assert rows(url, "SELECT 1 FROM writers") == [], "who writes nothing can lose nothing"
        writer.record(decision("d1"))
        assert writer.flush(60)
        assert len(rows(url, "SELECT 1 FROM writers")) == 1
        with PostgresStore(url, state=tmp_path) as third:
            assert third.gaps == [], "a living writer is no gap"
    assert rows(url, "SELECT 1 FROM writers") == rows(url, "SELECT 1 FROM gaps") == []
    assert caplog.text == ""


def test_a_writer_that_was_cut_off_and_comes_back_withdraws_its_gap(
    new_postgres: NewPostgres, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = new_postgres()
    with PostgresStore(url, Limits(backoff=0.01), state=tmp_path) as store:
        store.record(decision("d1"))
        assert store.flush(60)
        rows(url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'cascade'")
        with PostgresStore(url, state=tmp_path):
            assert rows(url, "SELECT 1 FROM gaps") == [], "its own machine sees that it lives"
        with PostgresStore(url, state=tmp_path / "other"):
            assert len(rows(url, "SELECT 1 FROM gaps")) == 1
        store.record(decision("d2"))
        assert store.flush(60)
        assert store.stats().failed == 0
        assert rows(url, "SELECT 1 FROM gaps") == []
        assert "its gap is withdrawn" in caplog.text
    assert rows(url, "SELECT 1 FROM writers") == []


def test_a_database_that_turns_read_only_costs_records_and_heals(
    new_postgres: NewPostgres, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = new_postgres()
    with PostgresStore(url, Limits(tries=1), state=tmp_path) as store:
        # As on a server that became a standby: whatever this connection begins, it cannot write.
        assert store._writer._connection is not None
        store._writer._connection.execute("SET default_transaction_read_only = on")
        store.record(decision("lost"))
        assert store.flush(60)
        assert store.stats().failed == 1
        assert "read-only transaction" in caplog.text
        store.record(decision("kept"))
        assert store.flush(60)
    assert rows(url, "SELECT decision_id FROM decisions") == [("kept",)]
