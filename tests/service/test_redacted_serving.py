"""With redaction on: the teacher reads what was said, the log and the rungs below read what is left of it."""

import json
import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cascade.ask import Ask
from cascade.config import Config
from cascade.demo.frontier import SimulatedFrontier
from cascade.errors import ConfigError
from cascade.manifest import MANIFEST, content_hash
from cascade.pointer import POINTER
from cascade.redaction import PLACEHOLDER, open_redactor, redaction_fingerprint
from cascade.server import run as server_process
from cascade.server.engine import Engine
from cascade.server.kept import Kept
from cascade.traffic import Call, Labelled, TrafficStore, open_traffic
from tests.conftest import NODE

TEXT = "where is my order? write to eve@x.example or call +49 30 1234567"
CONTEXT = {"tenant": "t1", "user": "eve@x.example"}


@pytest.fixture(scope="module")
def teacher() -> Iterator[SimulatedFrontier]:
    answers: dict[str, Any] = {
        TEXT: "track_order",
        "copy a@b.example": {"to": "a@b.example"},
    }
    with SimulatedFrontier(answers) as server:
        yield server


@pytest.fixture
def configured(
    configure: Callable[..., Config], teacher: SimulatedFrontier, tmp_path: Path
) -> Callable[..., Config]:
    def make(**more: Any) -> Config:
        return configure(chat={"base_url": teacher.url}, **more)

    return make


def everything(path: Path) -> str:
    """All that the database's files hold, as far as it can be read as text."""
    return "".join(p.read_bytes().decode("latin-1") for p in path.parent.glob(path.name + "*") if p.is_file())


def run(config: Config, asks: list[Ask]) -> tuple[list[Any], TrafficStore]:
    store = open_traffic(config)
    engine = Engine(config, store, refresh_seconds=0)
    answers = [engine.decide(ask) for ask in asks]
    store.flush()
    engine.close()
    return answers, store


def test_the_teacher_reads_what_was_said_and_nothing_of_it_is_stored(
    configured: Callable[..., Config], teacher: SimulatedFrontier, tmp_path: Path
) -> None:
    config = configured()
    answers, store = run(config, [Ask(NODE, TEXT, context=CONTEXT, request_id="r1")])
    assert answers[0].output == "track_order"
    kept = store.get(answers[0].decision_id)
    assert kept is not None
    assert kept.text is not None
    assert PLACEHOLDER.sub(r"<\1>", kept.text) == "where is my order? write to <EMAIL> or call <PHONE>"
    assert kept.context["tenant"] == "t1"
    assert kept.context["user"] in kept.text  # the same value, the same placeholder
    assert kept.output == "track_order"
    store.import_labelled([Labelled(NODE, "i", "for eve@x.example", None, "track_order", tenant="t1")])
    store.record_call(
        Call("c", 1.0, "t1", None, "m", [{"role": "user", "content": TEXT}], None, None, {"content": TEXT})
    )
    store.close()
    content = everything(tmp_path / "var/traffic.db")
    assert "track_order" in content
    assert "eve@x" not in content
    assert "1234567" not in content


def test_rungs_are_trained_on_what_they_are_served(configured: Callable[..., Config], models: Path) -> None:
    config = configured()
    seen: list[str] = []
    store = open_traffic(config)
    engine = Engine(config, store, refresh_seconds=0)
    bundle = engine.nodes[NODE].bundle
    assert bundle is not None
    prepare = bundle.ladder.prepare

    def watched(queries: Any, texts: Any) -> Any:
        seen.extend(texts)
        assert [query.text for query in queries] == texts
        return prepare(queries, texts)

    bundle.ladder.prepare = watched  # type: ignore[method-assign]
    engine.decide(Ask(NODE, TEXT, context=CONTEXT))
    store.flush()
    trained = [record.text for record in store.training_records(NODE)]
    assert seen == ["where is my order? write to <EMAIL> or call <PHONE>"]
    assert all(text in seen for text in trained)
    engine.close()
    store.close()


def test_a_process_reads_and_logs_by_one_redactor_which_knows_what_it_found(
    configured: Callable[..., Config], models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Any] = []

    def watched(config: Config, **named: Any) -> TrafficStore:
        opened.append(open_traffic(config, **named))
        return opened[0]  # type: ignore[no-any-return]

    class Opened(Exception):
        pass

    def server(engine: Engine, *args: Any, **named: Any) -> None:
        opened.append(engine)
        engine.close()
        raise Opened

    monkeypatch.setattr(server_process, "open_traffic", watched)
    monkeypatch.setattr(server_process, "CascadeServer", server)
    with pytest.raises(Opened):
        server_process._serve_process(configured(), "127.0.0.1:0", None, lambda _: None, None, None, Kept())
    store, engine = opened
    assert store.rows.redactor is engine.nodes[NODE].redactor is not None


def test_a_bundle_that_learned_from_other_texts_is_refused(
    configured: Callable[..., Config], models: Path, shipped: Path
) -> None:
    config = configured(redaction={"patterns": {"ORDER": r"#\d+"}})
    store = open_traffic(config)
    engine = Engine(config, store, refresh_seconds=0)
    assert engine.nodes[NODE].bundle is None
    assert "redacted otherwise" in engine.nodes[NODE].problem
    engine.close()
    off = configured(redaction={"enabled": False})
    engine = Engine(off, store, refresh_seconds=0)
    assert engine.nodes[NODE].bundle is None
    engine.close()
    manifest = json.loads((models / NODE / shipped.name / MANIFEST).read_text())
    assert manifest["redaction"] == redaction_fingerprint(configured())
    del manifest["redaction"], manifest["version"]
    manifest["version"] = f"0001-{content_hash(manifest)[:8]}"
    (models / NODE / shipped.name).rename(models / NODE / manifest["version"])
    (models / NODE / manifest["version"] / MANIFEST).write_text(json.dumps(manifest))
    (models / NODE / POINTER).write_text(manifest["version"])
    engine = Engine(configured(), store, refresh_seconds=0)
    assert "not recorded" in engine.nodes[NODE].problem
    engine.close()
    store.close()


def test_a_repeated_request_never_gets_a_redacted_answer(
    configured: Callable[..., Config], tmp_path: Path
) -> None:
    (tmp_path / "copy.json").write_text('{"type": "object", "required": ["to"]}')
    config = configured(node={"contract": {"schema": "copy.json"}})
    asks = [Ask(NODE, "copy a@b.example", request_id="r") for _ in range(2)]
    answers, store = run(config, asks[:1])
    kept = store.find(NODE, "r")
    assert kept is not None
    assert kept.output != {"to": "a@b.example"}
    store.close()
    again, store = run(config, asks[1:])
    store.close()
    assert answers[0].output == again[0].output == {"to": "a@b.example"}


def test_switched_off_by_an_explicit_setting_only(configured: Callable[..., Config], tmp_path: Path) -> None:
    assert open_redactor(configured()) is not None
    config = configured(redaction={"enabled": False})
    assert open_redactor(config) is None
    answers, store = run(config, [Ask(NODE, TEXT, context=CONTEXT)])
    kept = store.get(answers[0].decision_id)
    assert kept is not None
    assert kept.text == TEXT
    store.close()


def test_the_secret_of_the_placeholders(
    configured: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = open_redactor(configured()), open_redactor(configured())
    assert first is not None
    assert second is not None
    assert first.text("a@b.example") == second.text("a@b.example")
    path = tmp_path / "var/redaction.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_bytes(b"short")
    with pytest.raises(ConfigError, match="damaged"):
        open_redactor(configured())
    monkeypatch.setenv("MY_KEY", "0123456789abcdef")
    third = open_redactor(configured(redaction={"key_env": "MY_KEY"}))
    assert third is not None
    assert third.text("a@b.example") != first.text("a@b.example")
    monkeypatch.setenv("MY_KEY", "short")
    with pytest.raises(ConfigError, match="MY_KEY") as caught:
        open_redactor(configured(redaction={"key_env": "MY_KEY"}))
    assert "short" not in caught.value.message.replace("too short", "")
    with pytest.raises(ConfigError, match="CASCADE_REDACTION_KEY"):
        open_redactor(configured(store="postgresql://me@host/db"))


def test_traffic_from_before_redaction_is_trained_on_as_it_is_served(
    configured: Callable[..., Config], tmp_path: Path
) -> None:
    open_traffic(configured(redaction={"enabled": False})).close()
    with closing(sqlite3.connect(tmp_path / "var/traffic.db")) as raw:
        raw.execute(
            "INSERT INTO labelled (node, id, text, output, imported_at) "
            "VALUES (?, 'i', 'to a@b.example', '\"x\"', 1)",
            (NODE,),
        )
        raw.commit()
    store = open_traffic(configured())
    assert [record.text for record in store.training_records(NODE)] == ["to <EMAIL>"]
    store.close()


def test_presidio_is_an_engine_where_it_is_installed(configured: Callable[..., Config]) -> None:
    if not os.environ.get("CASCADE_REQUIRE_DATA"):
        pytest.importorskip("presidio_analyzer", reason="the extra `presidio` is not installed")
    config = configured(redaction={"engine": "presidio"})
    redactor = open_redactor(config)
    assert redactor is not None
    assert redactor.kinds("mail eve@shop.com, card 4111 1111 1111 1111") == "mail <EMAIL>, card <CARD>"
    assert redaction_fingerprint(config) != redaction_fingerprint(configured())
