"""Questions that are decided together hear their answers one by one, each as soon as it is there."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cascade.ask import Ask, Decided
from cascade.config import Config
from cascade.errors import CascadeError, UnknownNode
from cascade.rungs.encoder import EncoderRung
from cascade.server.engine import Engine
from cascade.server.status import Internal
from cascade.traffic import open_store
from tests.conftest import NODE


@pytest.fixture
def engine(models: Path, configure: Callable[..., Config], tmp_path: Path) -> Iterator[Engine]:
    store = open_store(f"sqlite:///{tmp_path}/traffic.db")
    made = Engine(configure(), store, refresh_seconds=0)
    yield made
    made.close()
    store.close()


@pytest.fixture
def by_rung(engine: Engine, unseen: list[dict[str, Any]]) -> dict[str, str]:
    """A text that each rung settles."""
    texts: dict[str, str] = {}
    for record in unseen[:120]:
        texts.setdefault(engine.decide(Ask(NODE, record["text"])).rung, record["text"])
    assert set(texts) == {"linear", "encoder", "frontier"}
    return texts


def test_what_the_linear_rung_settles_is_told_before_a_slower_one_runs(
    engine: Engine, by_rung: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []
    answer = EncoderRung.answer

    def slowly(self: EncoderRung, batch: Any) -> Any:
        happened.append("encoder runs")
        return answer(self, batch)

    monkeypatch.setattr(EncoderRung, "answer", slowly)
    waits: list[Callable[[], None]] = []

    def tell(i: int, result: Decided | CascadeError) -> None:
        assert isinstance(result, Decided)
        happened.append(f"{i} {result.rung}")

    asks = [Ask(NODE, by_rung[rung]) for rung in ("frontier", "encoder", "linear")]
    engine.decide_each(asks, tell, waits.append, lambda: happened.append("slow"))
    assert happened == ["2 linear", "slow", "encoder runs", "1 encoder"]
    [wait] = waits
    wait()
    assert happened[-1] == "0 frontier"


def test_one_request_id_twice_in_a_batch_is_decided_once(engine: Engine, by_rung: dict[str, str]) -> None:
    for rung, text in by_rung.items():
        first, second = engine.decide_many([Ask(NODE, text, request_id=f"r-{rung}")] * 2)
        assert isinstance(first, Decided)
        assert first == second
        assert first.rung == rung


def test_what_goes_wrong_for_all_is_told_to_all_and_followers_are_let_go(
    engine: Engine, by_rung: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise MemoryError("unforeseen")

    monkeypatch.setattr("cascade.server.together.walk_local", broken)
    ask = Ask(NODE, by_rung["linear"], request_id="r-1")
    results = engine.decide_many([ask, ask, Ask(NODE, "x"), Ask("no such node", "x")])
    assert [type(result) for result in results] == [Internal, Internal, Internal, UnknownNode]
    monkeypatch.undo()
    assert isinstance(engine.decide(ask), Decided)


def test_nodes_with_a_slow_first_step_are_decided_alone(
    engine: Engine, models: Path, configure: Callable[..., Config], tmp_path: Path
) -> None:
    assert not engine.alone(NODE)
    assert not engine.alone("no such node")
    engine.nodes[NODE].validators = (lambda ask, value: None,)
    assert engine.alone(NODE)
