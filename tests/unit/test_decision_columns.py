"""Decisions that are written together are each written as if alone, and cost far less."""

import itertools
import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from traffic_records import decision

from cascade.redaction.redactor import Redactor
from cascade.traffic import Decision, Limits, SqliteStore
from cascade.traffic import sqlite as sqlite_module
from cascade.traffic.schema import connect_writer

BATCH: dict[str, Any] = {"context": {}, "choices": (), "output": "label", "time": 7.0, "latency_ms": 2.0}
MAIL, NAN, MARK = "anna@example.com", float("nan"), "\x1e"
# Each makes a decision differ from those of the batch. The first seven cannot be written.
ODD: list[dict[str, Any]] = [
    {"text": "\ud800"}, {"output": NAN}, {"attempts": [{"p": NAN}]}, {"usd": NAN}, {"input_tokens": 2**70},
    {"time": NAN}, {"bundle_version": None},
    {"text": "\x01 marked"}, {"text": f"a\x00{MAIL} 1"}, {"text": "٣ digits"}, {"messages": ()},
    {"text": None, "messages": (("user", f"ask {MAIL}"),)}, {"output": None, "error": f"Timeout: {MAIL}"},
    {"output": {"to": MAIL}}, {"output": 1}, {"output": True}, {"output": [MARK, MARK]},
    {"node": "free", "output": f"to {MAIL}"},
    {"attempts": []}, {"attempts": [{"reason": MARK, "x": [MARK] * 3}]}, {"attempts": [{"reason": "NaN"}]},
    {"attempts": [{"reason": "\ud800"}]}, {"attempts": [{"reason": MAIL}]},
    {"context": {"traceparent": f"00-{'4b' * 16}-{'1' * 16}-03"}}, {"context": {"traceparent": MAIL}},
    {"context": {"tenant": "t", "user": MAIL}}, {"context": {"tenant": "u", "k": MARK}, "text": MAIL},
    {"request_id": "r"}, {"confidence": None}, {"choices": ("a", "b")}, {"time": 8.0}, {"latency_ms": 3.0},
    {"rung": "frontier", "by_teacher": True},
]  # fmt: skip


def stored(path: Path) -> list[Any]:
    with closing(sqlite3.connect(path)) as database:
        names = [row[1] for row in database.execute("PRAGMA table_info(decisions)") if row[1] != "seq"]
        exactly = ", ".join(f"CAST({name} AS BLOB), typeof({name})" for name in names)
        return database.execute(f"SELECT {exactly} FROM decisions ORDER BY seq").fetchall()


@pytest.mark.parametrize("redactor", [None, Redactor(b"sixteen bytes or more", label_nodes="n".__eq__)])
def test_what_is_written_together_is_written_as_if_alone(tmp_path: Path, redactor: Redactor | None) -> None:
    random.seed(5)
    numbers = itertools.count()

    def some(odd: list[dict[str, Any]], bare: int) -> list[Decision]:
        changes = [*odd, *[{"text": f"parcel {n}"} for n in range(bare)]]
        return [
            decision(f"d{next(numbers)}", **BATCH | each) for each in random.sample(changes, len(changes))
        ]

    groups = [some([], 40), some(ODD, 0), some(ODD, 200), *(some([each], 17) for each in ODD)]
    with SqliteStore(tmp_path / "together.db", Limits(window=30), redactor=redactor) as together:
        for group in groups:
            together.record(*group)
            assert together.flush(60)
        counts = together.stats()
    with SqliteStore(tmp_path / "alone.db", Limits(group=1), redactor=redactor) as alone:
        alone.record(*itertools.chain(*groups))
        assert alone.flush(60)
        assert (alone.stats().written, alone.stats().failed) == (counts.written, counts.failed)
    assert counts.failed == 3 * 7
    assert stored(tmp_path / "together.db") == stored(tmp_path / "alone.db")


def test_one_statement_adds_many_decisions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    statements: list[str] = []

    def traced(*args: Any) -> sqlite3.Connection:
        connection = connect_writer(*args)
        connection.set_trace_callback(statements.append)
        return connection

    monkeypatch.setattr(sqlite_module, "connect_writer", traced)
    with SqliteStore(tmp_path / "t.db", Limits(window=30)) as store:
        store.record(*(decision(f"d{number}", **BATCH) for number in range(250)))
        assert store.flush(60)
    assert sum("INTO decisions" in each for each in statements) == 250 // 16 + 250 % 16
