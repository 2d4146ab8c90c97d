"""Those who bring many questions at once take turns, and nobody waits for long."""

import threading
from concurrent.futures import Future
from typing import Any

import pytest

from cascade.ask import Ask, Decided
from cascade.first_pass import FirstPass
from cascade.rungs.encoder import EncoderRung
from cascade.server.engine import Engine
from tests.conftest import NODE
from tests.service.fake_engine import LONG

pytestmark = pytest.mark.alone


def texts_of(engine: Engine, unseen: list[dict[str, Any]], rung: str) -> list[str]:
    found = [r["text"] for r in unseen[:100] if engine.decide(Ask(NODE, r["text"])).rung == rung]
    assert len(found) >= 2
    return found[:2]


def deciding(engine: Engine, texts: list[str]) -> "Future[list[Any]]":
    """Decide texts in a thread of their own."""
    future: Future[list[Any]] = Future()
    asks = [Ask(NODE, text) for text in texts]
    threading.Thread(target=lambda: future.set_result(engine.decide_many(asks)), daemon=True).start()
    return future


def rungs(results: list[Any]) -> list[str]:
    assert all(isinstance(result, Decided) for result in results)
    return [result.rung for result in results]


class Held:
    """Stands in for a method and holds its first caller until told to go on."""

    def __init__(self, owner: type, name: str, patch: pytest.MonkeyPatch) -> None:
        self.came, self.go_on = threading.Event(), threading.Event()
        inner, first = getattr(owner, name), threading.Lock()

        def held(this: Any, *args: Any) -> Any:
            if first.acquire(blocking=False):
                self.came.set()
                assert self.go_on.wait(LONG)
            return inner(this, *args)

        patch.setattr(owner, name, held)


def test_one_at_a_time_works_out_what_is_quick(
    engine: Engine, unseen: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = texts_of(engine, unseen, "linear")
    monkeypatch.setattr("cascade.server.engine._TURN_SECONDS", LONG)
    held = Held(FirstPass, "__call__", monkeypatch)
    monkeypatch.setattr(
        engine.nodes[NODE].bundle.ladder, "first", engine.nodes[NODE].bundle.ladder.first._run
    )
    first = deciding(engine, texts)
    assert held.came.wait(LONG)
    second = deciding(engine, texts)
    with pytest.raises(TimeoutError):
        second.result(0.3)
    assert rungs([engine.decide(Ask(NODE, texts[0]))]) == ["linear"], "who asks once does not queue"
    held.go_on.set()
    assert rungs(first.result(LONG)) == rungs(second.result(LONG)) == ["linear", "linear"]


def test_nobody_waits_for_anothers_slow_rung(
    engine: Engine, unseen: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    hard, easy = texts_of(engine, unseen, "encoder"), texts_of(engine, unseen, "linear")
    monkeypatch.setattr("cascade.server.engine._TURN_SECONDS", LONG)
    held = Held(EncoderRung, "answer", monkeypatch)
    first = deciding(engine, hard)
    assert held.came.wait(LONG)
    assert rungs(deciding(engine, easy).result(LONG)) == ["linear", "linear"]
    held.go_on.set()
    assert rungs(first.result(LONG)) == ["encoder", "encoder"]


def test_a_turn_that_lasts_is_not_waited_for(
    engine: Engine, unseen: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = texts_of(engine, unseen, "linear")
    held = Held(FirstPass, "__call__", monkeypatch)
    monkeypatch.setattr(
        engine.nodes[NODE].bundle.ladder, "first", engine.nodes[NODE].bundle.ladder.first._run
    )
    first = deciding(engine, texts)
    assert held.came.wait(LONG)
    assert rungs(deciding(engine, texts).result(10)) == ["linear", "linear"]
    held.go_on.set()
    assert rungs(first.result(LONG)) == ["linear", "linear"]
