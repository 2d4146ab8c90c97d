"""What every traffic store promises of what it is told, on SQLite and on a real PostgreSQL alike."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from traffic_records import BASE, decision, outcome

from cascade.errors import StoreError, UnknownDecision
from cascade.traffic import Limits
from cascade.traffic.sql_store import SqlStore
from tests.service.store_places import Place

TESTS = Path(__file__).parents[1]


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


def test_reasons_and_contexts_come_back_whatever_is_in_them(store: SqlStore) -> None:
    said = ["", "hé 漢 🙂", "half a pair: \ud83d", '\x00 \x01p \n "\\', "NaN, -Infinity"]
    numbers = [0.1, 1e-7, 1e16, 1e300, 5e-324, -0.0, 2**63, True, None]
    of = [
        decision(f"d{n}", context={"user": text}, attempts=[{"reason": text, "more": numbers}])
        for n, text in enumerate(said)
    ]
    store.record(*of)
    assert store.flush()
    assert [store.get(each.decision_id) for each in of] == of


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
        store.record(decision("nan within", attempts=[{"x": float("nan")}]))
        store.record(decision("infinite within", attempts=[{"x": float("-inf")}]))
        store.record(BASE)
        bad = store.report(outcome("o1", "d0", output=float("inf")))
        good = store.report(outcome("o2", "d0", output="a"))
    assert good.result(60) == "o2"
    with pytest.raises(StoreError):
        bad.result(60)
    assert store.flush()
    assert place.rows("SELECT decision_id FROM decisions") == ["d0"]
    stats = store.stats()
    assert (stats.written, stats.failed, stats.dropped, stats.waiting) == (2, 8, 0, 0)


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
