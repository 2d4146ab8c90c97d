"""Connections for reading take little memory, however many read at once and however long the log is."""

import _sqlite3
import ctypes
import gc
import sqlite3
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from cascade.traffic import SqliteStore
from tests.traffic_records import decision

KEPT = 8


def connections() -> int:
    """How many connections there are; descriptors say nothing, as SQLite keeps those for the next one."""
    gc.collect()
    return sum(isinstance(each, sqlite3.Connection) for each in gc.get_objects())


@pytest.fixture
def memory_used() -> Callable[[], int]:
    """Bytes that SQLite holds in this process."""
    try:
        used = ctypes.CDLL(_sqlite3.__file__).sqlite3_memory_used
    except AttributeError:
        pytest.skip("this Python's SQLite does not say what it holds")
    used.restype = ctypes.c_int64
    return lambda: int(used())


def test_of_many_that_read_at_once_a_few_connections_stay(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "traffic.db") as store:
        before = connections()
        with ExitStack() as reading:
            for _ in range(40):
                reading.enter_context(store.database.reading()).execute("SELECT count(*) FROM decisions")
            assert connections() == before + 40
        assert connections() == before + KEPT
        with ExitStack() as reading:  # those that stayed are used again
            for _ in range(KEPT):
                reading.enter_context(store.database.reading())
            assert connections() == before + KEPT


def test_a_connection_that_comes_back_after_the_end_is_closed(tmp_path: Path) -> None:
    before = connections()
    store = SqliteStore(tmp_path / "traffic.db")
    with store.database.reading():
        store.close()
    assert connections() == before


def test_each_that_read_a_long_log_keeps_little_of_it(tmp_path: Path, memory_used: Callable[[], int]) -> None:
    with SqliteStore(tmp_path / "traffic.db") as store:
        store.record(*(decision(f"d{i}", text="x" * 1000) for i in range(4000)))  # 6 MB
        assert store.flush(60)
        before = memory_used()
        with ExitStack() as reading:
            for _ in range(KEPT):
                connection = reading.enter_context(store.database.reading())
                assert connection.execute("SELECT sum(length(text)) FROM decisions").fetchone() == (
                    4_000_000,
                )
        assert memory_used() - before < KEPT * 500_000  # 256 kB of pages each; by default it was 2 MB
