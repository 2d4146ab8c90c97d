"""Encryption, retention, erasure and lineage, on SQLite and on a real PostgreSQL."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from traffic_records import decision, outcome, row_of
from typer.testing import CliRunner

from cascade.cli.app import app
from cascade.errors import ConfigError, StoreError
from cascade.lineage import FILE, bundles_that_learned, write_lineage
from cascade.redaction import Redactor
from cascade.traffic import Call, Labelled, SqliteStore, TrafficStore, open_store, retention
from cascade.traffic.aes import AesCipher, cipher_from_environment, new_key
from cascade.traffic.erasure import erase
from cascade.traffic.reseal import reseal
from cascade.traffic.retention import Pruner, prune
from cascade.traffic.rows import Rows

OLD, NEW = AesCipher({"old": b"o" * 32}), AesCipher({"new": b"n" * 32, "old": b"o" * 32})
REDACTOR = Redactor(b"a-secret-of-the-tests")
SECRET = "where is the parcel of Zyxwvut"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/t.db"
    make: Callable[[], str] = request.getfixturevalue("new_postgres")
    return make()


def dump(store: TrafficStore) -> str:
    """All that the tables hold, as another program would read it."""
    tables = ("decisions", "outcomes", "labelled", "calls")
    with store.database.reading() as connection:
        return repr([[tuple(row) for row in connection.execute(f"SELECT * FROM {t}")] for t in tables])


def fill(store: TrafficStore, said: str = SECRET) -> None:
    store.record(
        decision(
            "d1", text=said, context={"user": said}, error=said, attempts=[{"rung": "r", "reason": said}]
        )
    )
    store.record(decision("d2", text=None, messages=(("user", said),), by_teacher=True, output={"a": said}))
    store.report(outcome("o1", "d2", output=said)).result(60)
    store.record_call(
        Call("c1", 1.0, "t", None, "m", [{"role": "user", "content": said}], None, None, {"content": said})
    )
    store.import_labelled(
        [
            Labelled("n", "i1", said, None, said, None, 1.0, context={"user": said}),
            Labelled("n", "i2", "other", None, "x"),
        ]
    )
    assert store.flush(60)


def test_what_was_said_is_stored_encrypted_and_read_with_the_key_only(url: str) -> None:
    store = open_store(url, OLD)
    fill(store)
    assert "Zyxwvut" not in dump(store)
    found = store.get("d1")
    assert found is not None
    assert (found.text, found.context, found.error) == (SECRET, {"user": SECRET}, SECRET)
    assert next(store.calls()).output == {"content": SECRET}
    assert {r.id for r in store.training_records("n")} == {"d2", "i1", "i2"}
    store.close()
    blind = open_store(url)
    assert blind.counts("n")["decisions"] == 2
    with pytest.raises(StoreError, match="no key is configured"):
        blind.get("d1")
    blind.close()
    wrong = open_store(url, AesCipher({"old": b"x" * 32}))
    with pytest.raises(StoreError, match="cannot be decrypted"):
        wrong.get("d1")
    wrong.close()


def cut(*_: Any) -> None:
    raise KeyboardInterrupt


def held(folder: Path) -> bool:
    return b"Zyxwvut" in b"".join(path.read_bytes() for path in folder.iterdir() if path.is_file())


def test_keys_are_rotated_and_plain_traffic_is_encrypted_later(url: str) -> None:
    plain = open_store(url)
    fill(plain)
    assert "Zyxwvut" in dump(plain)
    assert reseal(plain.database, OLD) == 6
    assert "Zyxwvut" not in dump(plain)
    assert reseal(plain.database, OLD) == 0
    assert reseal(plain.database, NEW) == 6
    plain.close()
    only_new = open_store(url, AesCipher({"new": b"n" * 32}))
    assert {r.text for r in only_new.training_records("n")} == {SECRET, f"user: {SECRET}", "other"}
    only_new.close()


def test_what_was_plain_is_in_no_file_of_the_database_once_a_reseal_was_not_cut_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SqliteStore(tmp_path / "t.db") as store:
        fill(store)
        with monkeypatch.context() as cut_short:
            cut_short.setattr(store.database, "reclaim", cut)
            with pytest.raises(KeyboardInterrupt):
                reseal(store.database, OLD)
        assert held(tmp_path)
        assert reseal(store.database, OLD) == 0
        assert not held(tmp_path)


def test_an_encrypted_value_cannot_be_moved_to_another_row(url: str) -> None:
    store = open_store(url, OLD)
    fill(store)
    with store.database.writing() as connection:
        moved = connection.execute("SELECT text FROM decisions WHERE decision_id = ?", ("d1",)).fetchone()[0]
        connection.execute("UPDATE labelled SET text = ? WHERE id = ?", (moved, "i2"))
    with pytest.raises(StoreError, match="altered or moved"):
        store.training_records("n")
    store.close()


def test_a_text_that_looks_encrypted_is_a_text() -> None:
    for said in ("\x01sold:AAAA", "\x01p", "\x01"):
        row = row_of(Rows(), decision("d", text=said))
        assert Rows(OLD).decision_of(row).text == said


def test_keys_come_from_the_environment_and_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K", f"{new_key('b')}, {new_key('a')}")
    assert cipher_from_environment("K").current == "b"
    for wrong in ("", "hunter2", "a:hunter2", f"{new_key('a')},{new_key('a')}", ":" + "A" * 43 + "="):
        monkeypatch.setenv("K", wrong)
        with pytest.raises(ConfigError) as caught:
            cipher_from_environment("K")
        assert "hunter2" not in str(caught.value)


def test_traffic_is_kept_as_long_as_its_tenant_wants(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 3)
    store = open_store(url)
    for number in range(10):
        store.record(decision(f"a{number}", time=float(number), context={"tenant": "a"}))
        store.record(decision(f"b{number}", time=float(number), context={"tenant": "b"}))
        store.record(decision(f"c{number}", time=float(number), context={}))
    store.report(outcome("o-old", "b0"))
    store.report(outcome("o-new", "b9")).result(60)
    store.record_call(Call("call", 1.0, "b", None, "m", [], None, None, None))
    store.flush(60)
    dry = prune(store.database, 5.0, {"a": 2.0}, now=10.0, dry_run=True)
    assert dry.rows == {"decisions": 8 + 5 + 5, "calls": 1}
    assert store.counts("n")["decisions"] == 30
    assert prune(store.database, 5.0, {"a": 2.0}, now=10.0).rows == {
        "decisions": 18,
        "calls": 1,
        "outcomes": 1,
    }
    assert {d.decision_id for d in store.decisions("n")} == {
        *("a8", "a9"), *(f"{t}{n}" for t in "bc" for n in range(5, 10)),
    }  # fmt: skip
    assert store.counts("n")["outcomes"] == 1
    assert prune(store.database, None, {}, now=1e12).rows == {}
    assert prune(store.database, None, {"b": 1.0}, now=1e12).rows == {"decisions": 5, "outcomes": 1}
    assert prune(store.database, 1.0, {"a": 1e13}, now=1e12).rows == {"decisions": 5}
    store.close()


def test_a_server_prunes_by_itself(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/t.db")
    store.record(decision("old", time=1.0))
    store.flush(60)
    pruner = Pruner.of(store.database, 3600.0, {})
    assert pruner is not None
    for _ in range(600):
        if not list(store.decisions("n")):
            break
        threading.Event().wait(0.01)
    pruner.close()
    assert list(store.decisions("n")) == []
    assert Pruner.of(store.database, None, {}) is None
    store.close()


@pytest.mark.parametrize("cipher", [None, OLD])
def test_a_person_is_erased_from_everything_and_nobody_else(url: str, cipher: Any, tmp_path: Path) -> None:
    store = open_store(url, cipher, REDACTOR)
    eve, ida = "Eve@x.example", "customer-42"
    store.record(decision("by text", text=f"mail {eve}", context={"tenant": "t1"}))
    store.record(decision("other tenant", text=f"mail {eve.lower()}", context={"tenant": "t2"}))
    store.record(decision("by chat", text=None, messages=(("user", f"it's {eve}"),)))
    store.record(decision("by context", context={"user": ida}))
    store.record(decision("by secret", context={"tenant": "t1", "access_token": ida}))
    store.record(decision("by outcome"))
    store.record(decision("longer", text="customer-421 and xcustomer-42", context={"user": "customer-4"}))
    store.record(decision("nobody", text="mail bob@x.example"))
    store.report(outcome("o1", "by outcome", output={"to": eve}))
    store.report(outcome("o2", "by text", right=True)).result(60)
    store.record_call(Call("c1", 1.0, "t1", None, "m", [{"role": "user", "content": eve}], None, None, None))
    store.record_call(Call("c2", 1.0, "t1", None, "m", [{"role": "user", "content": "hi"}], None, None, None))
    store.import_labelled([
        Labelled("n", "import", f'say "{eve}"', None, "x", tenant="t3"),
            Labelled("n", "session", "q", None, "x", ida),
        Labelled("n", "with", "q", None, "x", context={"user": ida}),
        Labelled("n", "kept", "q", None, "x"),
    ])  # fmt: skip
    assert store.flush(60)
    with store.database.writing() as connection:
        connection.execute("CREATE TABLE mine (decision_id TEXT, content TEXT)")
        connection.execute("INSERT INTO mine VALUES (?, ?)", ("by text", "Unerased"))
    dry = erase(store.database, eve, REDACTOR, cipher, dry_run=True)
    assert set(dry.record_ids) == {"by text", "other tenant", "by chat", "by outcome", "import"}
    assert store.counts("n")["decisions"] == 8
    gone = erase(store.database, eve, REDACTOR, cipher)
    assert gone.rows == {"decisions": 4, "outcomes": 2, "calls": 1, "labelled": 1, "mine": 1}
    assert set(erase(store.database, ida, REDACTOR, cipher).record_ids) == {
        "by context", "by secret", "session", "with",
    }  # fmt: skip
    assert {d.decision_id for d in store.decisions("n")} == {"longer", "nobody"}
    assert [c.call_id for c in store.calls()] == ["c2"]
    assert [r.id for r in store.training_records("n")] == ["kept"]
    assert erase(store.database, eve, REDACTOR, cipher).rows == {}
    with pytest.raises(ValueError, match="empty"):
        erase(store.database, " ", REDACTOR, cipher)
    store.close()


def test_what_is_erased_is_in_no_file_of_the_database_once_a_run_was_not_cut_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(f"sqlite:///{tmp_path}/t.db")
    for number in range(50):
        store.record(decision(f"f{number}", text="filler " * 20))
    fill(store)
    assert held(tmp_path)
    with monkeypatch.context() as cut_short:
        cut_short.setattr(store.database, "reclaim", cut)
        with pytest.raises(KeyboardInterrupt):
            erase(store.database, "Zyxwvut", None, None)
    assert held(tmp_path), "in the log"
    assert erase(store.database, "Zyxwvut", None, None).rows == {}
    assert not held(tmp_path)
    assert store.counts("n")["decisions"] == 50
    store.close()


def test_bundles_tell_what_they_learned_from(tmp_path: Path) -> None:
    for version, ids in (("0001-aaaaaaaa", ["a", "b"]), ("0002-bbbbbbbb", ["b", "c"])):
        folder = tmp_path / "n" / version
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text("{}")
        write_lineage(folder, ids)
    (tmp_path / "n" / "serving").write_text("0002-bbbbbbbb\n")
    before = tmp_path / "m" / "0001-cccccccc"
    before.mkdir(parents=True)
    (before / "manifest.json").write_text("{}")
    found, unknown = bundles_that_learned(tmp_path, ["b", "c", "zzz"])
    assert found == [
        {"node": "n", "version": "0001-aaaaaaaa", "serving": False, "records": 1},
        {"node": "n", "version": "0002-bbbbbbbb", "serving": True, "records": 2},
    ]
    assert unknown == ["m/0001-cccccccc"]
    assert bundles_that_learned(tmp_path, ["zzz"])[0] == []
    assert np.load(tmp_path / "n" / "0001-aaaaaaaa" / FILE).dtype == np.uint64


CONFIG = """
encryption: {key_env: TEST_KEYS}
retention: {default: 1h, tenants: {acme: 30d}}
rungs: {frontier: {kind: chat, base_url: "http://127.0.0.1:9/v1", model: m, price: {input: 1, output: 1}}}
nodes:
  n: {prompt: "Answer: {{ text }}", contract: {labels: [a, b]}, ladder: [linear, frontier]}
"""


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cascade.yaml").write_text(CONFIG)
    run = CliRunner()

    def command(*words: str, code: int = 0) -> str:
        result = run.invoke(app, ["traffic", *words, "--config", str(tmp_path / "cascade.yaml")])
        assert result.exit_code == code, result.output
        return result.output

    made = run.invoke(app, ["traffic", "key", "--id", "k1"]).stdout.strip()
    monkeypatch.setenv("TEST_KEYS", made)
    log = tmp_path / "l.jsonl"
    log.write_text(
        '{"id": "1", "text": "I am eve@x.example", "label": "a"}\n{"id": "2", "text": "hi", "label": "b"}\n'
    )
    assert (
        run.invoke(app, ["import", "n", str(log), "--config", str(tmp_path / "cascade.yaml")]).exit_code == 0
    )
    assert "2 imported" in command("counts")
    assert "0 rows" in command("reseal")
    assert "nothing deleted" in command("prune")
    assert "1 labelled would be deleted" in command("erase", "--subject", "EVE@x.example", "--dry-run")
    with monkeypatch.context() as cut_short:
        cut_short.setattr("cascade.traffic.sqlite.SqliteDatabase.reclaim", cut)
        said = command("erase", "--subject", "nobody", code=130)
        assert "not finished, run it again; of what was found at first:\nno bundle with a lineage" in said
    erased = json.loads(command("erase", "--subject", "EVE@x.example", "--json").splitlines()[-1])
    assert (erased["deleted"], erased["records"]) == ({"labelled": 1}, ["1"])
    assert "no bundle" in command("lineage", "--record", "1")
    assert command("show", "n").startswith("n: no decisions yet")
    monkeypatch.delenv("TEST_KEYS")
    assert "1 imported" in command("counts")
    assert "TEST_KEYS is not set" in command("show", "n", code=2)
