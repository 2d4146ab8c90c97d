"""The invariants of DESIGN.md that the engine keeps, on the shipped bundle and a real HTTP teacher."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cascade.ask import Ask, Decided
from cascade.config import Config
from cascade.demo.frontier import SimulatedFrontier
from cascade.errors import (
    ContractViolation,
    DeadlineExceeded,
    StoreError,
    TeacherUnavailable,
    UnknownDecision,
    UnknownNode,
)
from cascade.rungs.breaker import CircuitBreaker
from cascade.server.engine import Engine
from cascade.traffic import TrafficStore, open_store
from tests.conftest import NODE

Configure = Callable[..., Config]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TrafficStore]:
    opened = open_store(f"sqlite:///{tmp_path}/traffic.db")
    yield opened
    opened.close()


@pytest.fixture
def start(models: Path, configure: Configure, store: TrafficStore) -> Iterator[Callable[..., Engine]]:
    engines: list[Engine] = []

    def make(**overrides: Any) -> Engine:
        engine = Engine(configure(**overrides), store, refresh_seconds=0)
        for node in engine.nodes.values():
            node.teacher.breaker = CircuitBreaker()
        engines.append(engine)
        return engine

    yield make
    for engine in engines:
        engine.close()


def ask(text: str, **more: Any) -> Ask:
    return Ask(NODE, text, **more)


def decide_all(engine: Engine, unseen: list[dict[str, Any]], n: int = 120) -> list[Decided]:
    return [engine.decide(ask(record["text"])) for record in unseen[:n]]


def test_the_ladder_settles_most_and_escalates_the_rest_with_reasons(
    start: Callable[..., Engine], unseen: list[dict[str, Any]]
) -> None:
    engine = start()
    decided = decide_all(engine, unseen)
    local = [d for d in decided if d.rung != "frontier"]
    assert len(local) > len(decided) * 0.5
    assert {d.rung for d in decided} == {"linear", "encoder", "frontier"}
    for d in decided:
        assert d.mode == "live"
        assert d.bundle_version
        assert d.attempts[-1].reason == ""
        assert d.attempts[-1].rung == d.rung
        assert all(a.reason for a in d.attempts[:-1])
        assert (d.confidence is None) == (d.rung == "frontier")
        assert (d.usd > 0) == (d.rung == "frontier")


def test_one_bundle_gives_the_same_decision_alone_in_any_batch_and_in_any_thread(
    start: Callable[..., Engine], unseen: list[dict[str, Any]]
) -> None:
    engine = start()

    def essence(d: Decided) -> tuple[Any, ...]:
        return (
            d.output,
            d.rung,
            d.confidence,
            [(a.rung, a.p_right_before, a.confidence_after) for a in d.attempts],
        )

    asks = [ask(record["text"]) for record in unseen[:90]]
    alone = [essence(engine.decide(a)) for a in asks]
    together = [essence(d) for d in engine.decide_many(asks) if isinstance(d, Decided)]
    backwards = [essence(d) for d in engine.decide_many(asks[::-1]) if isinstance(d, Decided)][::-1]
    with ThreadPoolExecutor(8) as pool:
        threads = [essence(d) for d in pool.map(engine.decide, asks)]
    assert alone == together == backwards == threads


def test_a_teachers_answer_outside_the_contract_is_an_error_that_says_so(
    start: Callable[..., Engine], unseen: list[dict[str, Any]], models: Path
) -> None:
    engine = start(node={"contract": {"labels": ["only", "these"]}})
    with pytest.raises(ContractViolation, match="even the teacher's answer breaks the contract"):
        engine.decide(ask(unseen[0]["text"]))


def test_a_local_answer_outside_the_choices_escalates(
    start: Callable[..., Engine], unseen: list[dict[str, Any]]
) -> None:
    engine = start()
    record = next(r for r in unseen if engine.decide(ask(r["text"])).rung == "linear")
    other = next(r["label"] for r in unseen if r["label"] != record["label"])
    with pytest.raises(ContractViolation):  # the replayed teacher does not know of choices
        engine.decide(ask(record["text"], choices=(other,)))
    allowed = engine.decide(ask(record["text"], choices=(record["label"], other)))
    assert allowed.output == record["label"]


def test_without_a_valid_certificate_nothing_is_settled_locally(
    start: Callable[..., Engine], unseen: list[dict[str, Any]]
) -> None:
    engine = start(node={"bar": {"agreement": 0.999, "confidence": 0.95}})
    assert "certified for an agreement of" in engine.nodes[NODE].problem
    decided = decide_all(engine, unseen, 20)
    assert {(d.rung, d.mode, d.bundle_version) for d in decided} == {("frontier", "passthrough", "")}


def test_a_failing_rung_escalates_instead_of_failing(
    start: Callable[..., Engine], unseen: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = start()
    bundle = engine.nodes[NODE].bundle
    assert bundle is not None

    def broken(*_: Any) -> Any:
        raise RuntimeError("secret detail")

    for rung in bundle.ladder.rungs:
        monkeypatch.setattr(rung, "answer", broken)
    decided = engine.decide(ask(unseen[0]["text"]))
    assert decided.rung == "frontier"
    assert {a.reason for a in decided.attempts if a.rung == "linear"} <= {"error: RuntimeError"} | {
        a.reason for a in decided.attempts if a.reason.startswith("skipped")
    }
    monkeypatch.setattr(bundle.ladder, "prepare", broken)
    assert engine.decide(ask(unseen[1]["text"])).rung == "frontier"


def test_a_store_that_cannot_be_read_costs_no_answer(
    start: Callable[..., Engine],
    unseen: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    store: TrafficStore,
) -> None:
    engine = start()

    def broken(*_: Any) -> Any:
        raise StoreError("the disk is gone")

    monkeypatch.setattr(store, "find", broken)
    assert engine.decide(ask(unseen[0]["text"], request_id="r")).output


def test_with_the_teacher_down_settled_requests_go_on_and_the_others_get_a_retry_hint(
    start: Callable[..., Engine], unseen: list[dict[str, Any]], frontier: SimulatedFrontier
) -> None:
    engine = start()
    rungs = [d.rung for d in decide_all(engine, unseen, 60)]
    frontier.faults.refuse_all = True
    try:
        results = engine.decide_many([ask(record["text"]) for record in unseen[:60]])
    finally:
        frontier.faults.refuse_all = False
    for rung, result in zip(rungs, results, strict=True):
        if rung == "frontier":
            assert isinstance(result, TeacherUnavailable)
        else:
            assert isinstance(result, Decided)
            assert result.rung == rung
    last = [r for r in results if isinstance(r, TeacherUnavailable)][-1]
    assert "frontier" in str(last)


def test_that_a_rung_was_slow_is_forgotten_and_that_the_teacher_was_is_not(engine: Engine) -> None:
    node = engine.nodes[NODE]
    later = time.monotonic() + 60.0
    for rung, record in node.latency.items():
        for _ in range(32):
            record.add(9.0)
        assert record.too_late(time.monotonic() + 1.0, time.monotonic())
        assert record.too_late(later + 1.0, later) == (rung == node.teacher.name)


def test_a_deadline_that_leaves_no_time_names_the_rung(
    start: Callable[..., Engine], unseen: list[dict[str, Any]]
) -> None:
    engine = start()
    decide_all(engine, unseen, 40)
    with pytest.raises(DeadlineExceeded, match="frontier"):
        engine.decide(ask(unseen[0]["text"], deadline=time.monotonic()))


def test_a_validator_sends_an_answer_up_with_its_words(
    start: Callable[..., Engine], unseen: list[dict[str, Any]]
) -> None:
    engine = start()

    def not_today(_: Ask, value: Any) -> str:
        return f"{value} is closed today"

    def broken(_: Ask, value: Any) -> bool:
        raise KeyError(value)

    for validator, expected in ((not_today, "is closed today"), (broken, "broken raised KeyError")):
        engine.nodes[NODE].validators = (validator,)
        decided = decide_all(engine, unseen, 20)
        assert {d.rung for d in decided} == {"frontier"}
        assert any(expected in a.reason for d in decided for a in d.attempts)


def test_a_repeated_request_id_gets_the_first_answer_even_while_it_is_being_found(
    start: Callable[..., Engine], unseen: list[dict[str, Any]], frontier: SimulatedFrontier
) -> None:
    engine = start()
    hard = next(r["text"] for r in unseen if engine.decide(ask(r["text"])).rung == "frontier")
    before = frontier.requests
    barrier = threading.Barrier(6)

    def one(_: int) -> str:
        barrier.wait()
        return engine.decide(ask(hard, request_id="same")).decision_id

    with ThreadPoolExecutor(6) as pool:
        ids = set(pool.map(one, range(6)))
    assert len(ids) == 1
    assert frontier.requests == before + 1
    assert engine.decide(ask(hard, request_id="same")).decision_id in ids


def test_outcomes_reach_the_store_and_unknown_things_are_named(
    start: Callable[..., Engine], unseen: list[dict[str, Any]], store: TrafficStore
) -> None:
    engine = start()
    asked = (engine.decide(ask(r["text"])) for r in unseen)
    decided = next(each for each in asked if each.rung == "frontier")
    engine.report(decided.decision_id, "refund_request", None, None)
    assert [r.output for r in store.training_records(NODE) if r.source == "outcome"] == ["refund_request"]
    with pytest.raises(UnknownDecision):
        engine.report("nope", None, True, None)
    with pytest.raises(UnknownNode, match=NODE):
        engine.decide(Ask("elsewhere", "hello"))
