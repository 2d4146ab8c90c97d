"""The Delta export: whole, incremental, and readable by whoever reads Delta tables."""

from collections.abc import Callable
from pathlib import Path

import pytest
from deltalake import DeltaTable, QueryBuilder, write_deltalake
from traffic_records import decision

from cascade.errors import InvalidInput
from cascade.traffic import delta as delta_module
from cascade.traffic import open_store
from cascade.traffic.aes import AesCipher
from cascade.traffic.delta import erase_from_delta, export_delta
from cascade.traffic.rows import Rows

DAY = 86400.0


def read(folder: Path, query: str) -> list[tuple[object, ...]]:
    table = QueryBuilder().register("t", DeltaTable(folder)).execute(query).read_all()
    columns = [column.to_pylist() for column in table.columns]
    return list(zip(*columns, strict=True))


def cut(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_each_decision_is_exported_once(
    backend: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delta_module, "_BATCH", 4)
    make: Callable[[], str] | None = (
        request.getfixturevalue("new_postgres") if backend == "postgresql" else None
    )
    cipher = AesCipher({"k": b"k" * 32})
    store = open_store(make() if make else f"sqlite:///{tmp_path}/t.db", cipher)
    folder = tmp_path / "out" / "decisions"
    for number in range(10):
        node = "n" if number % 2 else "m"
        store.record(decision(f"d{number}", node=node, time=number * DAY / 4, text=f"text {number}"))
    store.flush(60)
    assert export_delta(store.database, Rows(cipher), folder) == 10
    assert export_delta(store.database, Rows(cipher), folder) == 0
    store.record(decision("late", time=1.0, text=None, messages=(("user", "hé"),), confidence=None))
    store.flush(60)
    assert export_delta(store.database, Rows(cipher), folder) == 1
    assert read(folder, "SELECT count(*), count(DISTINCT decision_id) FROM t") == [(11, 11)]
    assert read(folder, "SELECT node, day, text FROM t WHERE decision_id = 'd9'") == [
        ("n", "1970-01-03", "text 9")
    ]
    assert read(folder, "SELECT messages, by_teacher, usd FROM t WHERE decision_id = 'late'") == [
        ('[["user","h\\u00e9"]]', False, 0.25)
    ]
    assert (folder / "node=m" / "day=1970-01-02").is_dir()
    with monkeypatch.context() as cut_short:
        cut_short.setattr(DeltaTable, "vacuum", cut)
        with pytest.raises(KeyboardInterrupt):
            erase_from_delta(folder, ["d9", "it's none"])
    assert read(folder, "SELECT count(*) FROM t") == [(10,)]
    assert b"text 9" in b"".join(p.read_bytes() for p in folder.rglob("*.parquet"))
    assert erase_from_delta(folder, ["d9", "it's none"]) == 0
    assert read(folder, "SELECT count(*) FROM t") == [(10,)]
    assert b"text 9" not in b"".join(p.read_bytes() for p in folder.rglob("*.parquet"))
    assert export_delta(store.database, Rows(cipher), folder) == 0
    store.close()


def test_other_folders_and_tables_are_refused(tmp_path: Path) -> None:
    store, other = (open_store(f"sqlite:///{tmp_path}/{name}.db") for name in ("a", "b"))
    store.record(decision("d"))
    store.flush(60)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(InvalidInput, match="no Delta table"):
        export_delta(store.database, Rows(), tmp_path / "full")
    export_delta(store.database, Rows(), tmp_path / "mine")
    with pytest.raises(InvalidInput, match="another store"):
        export_delta(other.database, Rows(), tmp_path / "mine")
    source = (
        QueryBuilder().register("t", DeltaTable(tmp_path / "mine")).execute("SELECT 1 AS x FROM t").read_all()
    )
    write_deltalake(tmp_path / "theirs", source)
    with pytest.raises(InvalidInput, match="something else"):
        export_delta(store.database, Rows(), tmp_path / "theirs")
    with pytest.raises(InvalidInput, match="erased"):
        erase_from_delta(tmp_path / "full", ["d"])
    store.close()
    other.close()
