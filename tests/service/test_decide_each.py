"""Questions that are decided together hear their answers one by one, each as soon as it is there."""

import gc
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cascade.ask import Ask, Decided
from cascade.client import Client, DecisionError
from cascade.config import Config
from cascade.config.security import TenantConfig
from cascade.demo.frontier import SimulatedFrontier
from cascade.errors import (
    CascadeError,
    DeadlineExceeded,
    UnusableAnswer,
)
from cascade.rungs.encoder import EncoderRung
from cascade.rungs.protocol import Answer, Query
from cascade.server import together
from cascade.server.alone import Alone
from cascade.server.call import Call
from cascade.server.engine import Engine
from cascade.server.gone import CallerGone, Gone
from cascade.server.pool import ElasticPool
from cascade.server.quotas import Quotas
from cascade.server.serve import CascadeServer
from cascade.server.status import Internal
from cascade.traffic import open_store
from tests.conftest import NODE
from tests.service.fake_engine import LONG
from tests.soon import comes


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
    assert comes(lambda: waits), "and what the teacher settles once that has answered"
    [wait] = waits
    wait()
    assert happened[-1] == "0 frontier"


@pytest.mark.parametrize(
    ("rung", "breaking"),
    [("linear", "log"), ("frontier", "log"), ("linear", "audit"), ("frontier", "audit"), ("frontier", "ask")],
)
def test_what_goes_wrong_for_one_costs_no_other_the_answer(
    engine: Engine, by_rung: dict[str, str], monkeypatch: pytest.MonkeyPatch, rung: str, breaking: str
) -> None:
    places: dict[str, tuple[Any, str]] = {
        "log": (together, "to_log"),
        "audit": (engine.rollouts.afterwards, "take"),
        "ask": (engine.nodes[NODE].teacher, "submit"),
    }
    where, name = places[breaking]
    works = getattr(where, name)

    def breaks(given: Any, *more: Any) -> Any:
        if given.text == by_rung[rung]:
            raise MemoryError("unforeseen")
        return works(given, *more)

    monkeypatch.setattr(where, name, breaks)
    others = [text for key, text in by_rung.items() if key != rung] + ["a text that nobody knows"]
    results = engine.decide_many([Ask(NODE, text) for text in (by_rung[rung], *others)])
    assert isinstance(results[0], Internal)
    assert comes(lambda: not engine.nodes[NODE].teacher_queue._asked), "each gave its place back"
    assert not any(isinstance(result, Internal) for result in results[1:])


def test_nodes_with_a_slow_first_step_are_decided_alone(
    engine: Engine, models: Path, configure: Callable[..., Config], tmp_path: Path
) -> None:
    assert not engine.alone(NODE)
    assert not engine.alone("no such node")
    engine.nodes[NODE].validators = (lambda ask, value: None,)
    assert engine.alone(NODE)


def test_whether_a_node_is_decided_alone_follows_the_bundles_it_serves(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not engine.alone(NODE)
    node = engine.nodes[NODE]
    ladder = node.bundle.ladder
    monkeypatch.setattr(ladder, "rungs", ladder.rungs[::-1])
    node.serving.adopt(node.serving.plan)
    assert engine.alone(NODE), "its first rung is the encoder now"


def test_flags_of_a_vendor_are_not_asked_for_one_caller_after_the_other(
    models: Path, configure: Callable[..., Config], tmp_path: Path
) -> None:
    store = open_store(f"sqlite:///{tmp_path}/traffic.db")
    asking = Engine(
        configure(flags_provider="openfeature.provider.no_op_provider:NoOpProvider"), store, refresh_seconds=0
    )
    assert asking.alone(NODE)
    asking.close()
    store.close()


@pytest.mark.parametrize("who", ["one left", "one ran out of time", "all left"])
def test_the_encoder_is_not_run_for_whom_nobody_waits_once_it_is_their_turn(
    engine: Engine, by_rung: dict[str, str], monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    node = engine.nodes[NODE]
    assert node.bundle is not None
    embed = node.bundle.ladder.rungs[1]._embed  # type: ignore[attr-defined]
    run, ran = embed._run, list[str]()
    monkeypatch.setattr(embed, "_run", lambda texts: [ran.extend(texts), run(texts)][1])
    others = [by_rung["encoder"], by_rung["frontier"]]
    alone = [result.output for result in engine.decide_many([Ask(NODE, text) for text in others])]  # type: ignore[union-attr]
    ran.clear()
    call, text = Call(SimpleNamespace(invocation_metadata=tuple, time_remaining=lambda: None)), "nobody waits"
    left = Ask(NODE, text, gone=Gone(call))
    if who == "one ran out of time":
        left = Ask(NODE, text, deadline=time.monotonic() + 1.0)
    asks = [left] if who == "all left" else [left, *(Ask(NODE, text) for text in others)]
    counted: list[tuple[int, bool]] = []

    def count(_: str, __: Any, ___: Any, texts: Sequence[str], settled: bool, in_time: Sequence[bool]) -> Any:
        assert set(texts) <= {by_rung["encoder"], by_rung["frontier"]}
        counted.append((sum(in_time), settled))
        return ()

    monkeypatch.setattr(engine.rollouts.alarms, "count", count)
    with ThreadPoolExecutor(1) as pool:
        with embed._running:  # the encoder runs for others
            result = pool.submit(engine.decide_many, asks)
            assert comes(lambda: embed._queue)
            call.end()
            assert comes(lambda: left.deadline is None or left.deadline < time.monotonic())
        first, *rest = result.result(LONG)
    assert isinstance(first, DeadlineExceeded if who == "one ran out of time" else CallerGone)
    assert ran == ([] if who == "all left" else others)
    assert [each.output for each in rest if isinstance(each, Decided)] == alone[: len(asks) - 1]
    assert counted == ([] if who == "all left" else [(1, True), (1, False)]), "it says nothing of the bundle"
    assert engine._store.flush(LONG)
    assert [d.text for d in engine._store.decisions(NODE) if d.error] == [text]


def test_an_answer_that_cannot_be_sent_costs_the_others_of_its_batch_nothing(
    models: Path, configure: Callable[..., Config], by_rung: dict[str, str], tmp_path: Path
) -> None:
    text = by_rung["frontier"]
    store = open_store(f"sqlite:///{tmp_path}/other.db")
    with SimulatedFrontier({text: "card\ud83d", "zzqx wvut": "card_arrival"}) as frontier:
        asking = Engine(configure(chat={"base_url": frontier.url}), store, refresh_seconds=0)
        server = CascadeServer(asking, "127.0.0.1:0")
        with Client(f"127.0.0.1:{server.start()}", timeout=LONG) as client:
            broken, other = client.batch_decide(node=NODE, texts=[text, "zzqx wvut"])
        assert isinstance(broken, DecisionError)
        assert "TEACHER_BROKE_CONTRACT" in repr(broken) or "surrogate" in str(broken)
        assert not isinstance(other, DecisionError)
        assert other.label == "card_arrival"
        server.stop(0)
        asking.close()
    store.close()


def test_what_the_teacher_was_paid_for_no_answer_is_the_tenants_too(
    engine: Engine, by_rung: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    node = engine.nodes[NODE]
    node.quotas = Quotas({"acme": TenantConfig(usd_per_day=1.0)}, tmp_path / "state")
    paid: Future[Answer] = Future()
    paid.set_result(Answer(error=UnusableAnswer("cut at its length limit"), usd=0.25))
    monkeypatch.setattr(node.teacher, "submit", lambda _: paid)
    [result] = engine.decide_many([Ask(NODE, by_rung["frontier"], context={"tenant": "acme"})])
    assert isinstance(result, CascadeError)
    assert node.quotas.spent("acme") == 0.25
    node.quotas.close()


def test_whoever_brings_an_answer_does_its_own_work_first(
    engine: Engine, by_rung: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []
    asked, told = threading.Event(), threading.Event()
    by_teacher: Future[Answer] = Future()

    def submit(_: Query) -> Future[Answer]:
        asked.set()
        return by_teacher

    monkeypatch.setattr(engine.nodes[NODE].teacher, "submit", submit)
    pool = ElasticPool(threads=1, max_threads=2)

    def tell(_: object) -> None:
        happened.append("told")
        told.set()

    def bring() -> None:  # in the thread that asked
        by_teacher.set_result(Answer("card_arrival"))
        happened.append("brought")

    Alone(engine, pool).put(Ask(NODE, by_rung["frontier"]), tell)
    assert asked.wait(LONG)
    pool.submit(bring)
    assert told.wait(LONG)
    assert happened == ["brought", "told"]
    pool.shutdown()


def test_a_stream_keeps_nothing_of_questions_that_the_teacher_has_answered(
    engine: Engine, by_rung: dict[str, str]
) -> None:
    gone = Gone()  # one for all questions of a stream, which may last for days
    results = engine.decide_many([Ask(NODE, by_rung["frontier"], gone=gone)] * 3)
    assert [result.rung for result in results if isinstance(result, Decided)] == ["frontier"] * 3
    assert not gone._tell


def test_an_earlier_decision_that_cannot_be_read_costs_nobody_the_answer(
    engine: Engine, by_rung: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise ValueError("no JSON")

    monkeypatch.setattr(engine._store, "find", broken)
    ask = Ask(NODE, by_rung["linear"], request_id="r-1")
    for _ in range(2):  # a claim that was never released would hang the second
        results = engine.decide_many([Ask(NODE, by_rung["linear"], request_id="r-2"), ask])
        assert [type(result) for result in results] == [Decided, Decided]


@pytest.mark.parametrize("fails", [False, True])
def test_what_waited_for_the_teacher_is_let_go_of_without_the_garbage_collector(
    engine: Engine, by_rung: dict[str, str], fails: bool
) -> None:
    ask = Ask(NODE, "a text that nobody knows" if fails else by_rung["frontier"])
    gc.collect()
    gc.disable()
    try:
        assert isinstance(engine.decide_many([ask])[0], CascadeError) == fails
        assert comes(lambda: not any(isinstance(each, together.Together) for each in gc.get_objects()))
    finally:
        gc.enable()
