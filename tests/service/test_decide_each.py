"""Questions that are decided together hear their answers one by one, each as soon as it is there."""

import gc
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest

from cascade.ask import Ask, Decided
from cascade.client import Client, DecisionError
from cascade.config import Config
from cascade.config.security import TenantConfig
from cascade.demo.frontier import Faults, SimulatedFrontier
from cascade.errors import (
    CascadeError,
    DeadlineExceeded,
    Overloaded,
    TeacherUnavailable,
    UnknownNode,
    UnusableAnswer,
)
from cascade.event_loop import BackgroundLoop
from cascade.rungs.encoder import EncoderRung
from cascade.rungs.protocol import Answer, Query
from cascade.server import engine as engine_module
from cascade.server import together
from cascade.server.alone import Alone
from cascade.server.batches import Batches
from cascade.server.call import Call
from cascade.server.engine import Engine
from cascade.server.gone import CallerGone, Gone
from cascade.server.pool import ElasticPool
from cascade.server.quotas import Quotas
from cascade.server.serve import CascadeServer
from cascade.server.status import Internal
from cascade.server.teacher_queue import TeacherQueue
from cascade.server.together import Together
from cascade.traffic import open_store
from tests.conftest import NODE
from tests.service.fake_engine import LONG, comes


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
    assert comes(lambda: waits), "and what the teacher settles once that has answered"
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


def test_those_who_follow_leave_a_thread_to_the_one_they_follow(
    engine: Engine, by_rung: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, go = threading.Event(), threading.Event()
    answer = EncoderRung.answer

    def slowly(self: EncoderRung, batch: Any) -> Any:
        entered.set()
        assert go.wait(LONG)
        return answer(self, batch)

    monkeypatch.setattr(EncoderRung, "answer", slowly)
    pool, loop = ElasticPool(threads=2, max_threads=4, stall_seconds=0.01), BackgroundLoop("test-follow")
    batches = Batches(engine, pool, loop.running)
    told: SimpleQueue[Decided | CascadeError] = SimpleQueue()

    async def put(n: int) -> None:
        for _ in range(n):
            batches.put(Ask(NODE, by_rung["frontier"], request_id="r-storm"), told.put)

    loop.start(put(1)).result(LONG)
    assert entered.wait(LONG)
    loop.start(put(12)).result(LONG)
    assert comes(lambda: not batches.waiting)
    go.set()
    results = [told.get(timeout=LONG) for _ in range(13)]
    assert {r.rung for r in results if isinstance(r, Decided)} == {"frontier"}
    assert len({r.decision_id for r in results if isinstance(r, Decided)}) == 1
    pool.shutdown()


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
    monkeypatch.setattr(
        engine.rollouts.alarms, "count", lambda _, __, some, settled: counted.append((len(some), settled))
    )
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


@pytest.mark.parametrize("many", [False, True])
def test_who_follows_one_that_left_is_decided(
    engine: Engine, by_rung: dict[str, str], many: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, ask = Gone(), Ask(NODE, by_rung["frontier"], request_id="r-left")
    leaves = replace(ask, gone=gone)

    def leave(query: Query) -> Future[Answer]:
        monkeypatch.undo()
        gone.fire()
        return Future()  # an answer that does not come before the call is cancelled

    monkeypatch.setattr(engine.nodes[NODE].teacher, "submit", leave)
    results = engine.decide_many([leaves, *[ask] * (3 if many else 1)])
    assert isinstance(results[0], CallerGone)
    assert [r.rung for r in results[1:] if isinstance(r, Decided)] == ["frontier"] * (len(results) - 1)


def test_who_follows_one_that_had_too_little_time_is_decided_where_it_has_enough(
    engine: Engine, by_rung: dict[str, str]
) -> None:
    ask, now = Ask(NODE, by_rung["frontier"], request_id="r-hurry"), time.monotonic()
    hurried = replace(ask, deadline=now)
    results = engine.decide_many([hurried, ask, replace(ask, deadline=now + LONG), hurried])
    assert [type(result) for result in results] == [DeadlineExceeded, Decided, Decided, DeadlineExceeded]
    assert len({result.decision_id for result in results if isinstance(result, Decided)}) == 1


def test_who_follows_one_that_could_not_wait_for_a_place_waits_for_it(
    engine: Engine, by_rung: dict[str, str]
) -> None:
    queue = engine.nodes[NODE].teacher_queue = TeacherQueue(NODE, 1, patience=LONG)
    queue.leave(queue.enter())
    queue._usual = 5.0  # seconds that a place is kept
    busy = queue.enter()
    ask = Ask(NODE, by_rung["frontier"], request_id="r-place")
    results = engine.decide_many([replace(ask, deadline=time.monotonic() + 1.0), ask])
    assert [type(result) for result in results] == [Overloaded, Decided]
    queue.leave(busy)


@pytest.mark.parametrize("attempts", [1, 2])
def test_who_follows_one_that_could_not_wait_for_another_try_has_it_made(
    models: Path, configure: Callable[..., Config], by_rung: dict[str, str], tmp_path: Path, attempts: int
) -> None:
    busy = Faults(fail_next=1, error_status=429, retry_after=1.0)
    store = open_store(f"sqlite:///{tmp_path}/other.db")
    text = by_rung["frontier"]
    with SimulatedFrontier({text: "card_arrival"}, faults=busy) as frontier:
        chat = {"base_url": frontier.url, "attempts": attempts}
        asking = Engine(configure(chat=chat), store, refresh_seconds=0)
        ask = Ask(NODE, text, request_id="r-again")
        results = asking.decide_many([replace(ask, deadline=time.monotonic() + 0.9), ask])
        other = Decided if attempts > 1 else TeacherUnavailable  # where there is no other try for anybody
        assert [type(result) for result in results] == [TeacherUnavailable, other]
        assert frontier.requests == attempts
        asking.close()
    store.close()


@pytest.mark.parametrize("n", [10, 100])
def test_those_who_follow_one_that_had_too_little_time_are_not_all_decided(
    engine: Engine, by_rung: dict[str, str], monkeypatch: pytest.MonkeyPatch, n: int
) -> None:
    node, decided = engine.nodes[NODE], 0
    for _ in range(1000):
        node.latency["frontier"].add(LONG)  # nobody has as much time

    def count(*given: Any) -> Together:
        nonlocal decided
        decided += 1
        return Together(*given)

    monkeypatch.setattr(engine_module, "Together", count)
    ask, now = Ask(NODE, by_rung["frontier"], request_id="r-all-hurried"), time.monotonic()
    results = engine.decide_many([replace(ask, deadline=now + 10 + i / 100) for i in range(n)])
    assert [type(result) for result in results] == [DeadlineExceeded] * n
    assert decided == 2, "the first, and the one with most time"


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
