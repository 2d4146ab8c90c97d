"""Who asks by a request id that is being decided follows who asked first, and leads where that one cannot."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from cascade.ask import Ask, Decided
from cascade.config import Config
from cascade.demo.frontier import Faults, SimulatedFrontier
from cascade.errors import (
    CascadeError,
    DeadlineExceeded,
    InvalidInput,
    Overloaded,
    TeacherUnavailable,
    UnknownNode,
)
from cascade.event_loop import BackgroundLoop
from cascade.rungs.encoder import EncoderRung
from cascade.rungs.protocol import Answer, Query
from cascade.server import engine as engine_module
from cascade.server.batches import Batches
from cascade.server.engine import Engine
from cascade.server.gone import CallerGone, Gone
from cascade.server.pool import ElasticPool
from cascade.server.status import Internal
from cascade.server.teacher_queue import TeacherQueue
from cascade.server.together import Together
from cascade.traffic import open_store
from tests.conftest import NODE
from tests.service.fake_engine import LONG
from tests.soon import comes


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
    leaving = threading.Timer(1.5, queue.leave, [busy])
    leaving.start()
    results = engine.decide_many([replace(ask, deadline=time.monotonic() + 1.0), ask])
    assert [type(result) for result in results] == [Overloaded, Decided]
    leaving.join()


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


def test_a_repeated_id_is_never_answered_with_what_its_choices_forbid(
    engine: Engine, by_rung: dict[str, str]
) -> None:
    first = engine.decide(Ask(NODE, by_rung["linear"], request_id="r-choices"))
    label = str(first.output)
    other = "refund_status" if label != "refund_status" else "track_order"
    assert comes(
        lambda: engine.decide(Ask(NODE, "x", request_id="r-choices")).decision_id == first.decision_id
    )
    again = Ask(NODE, by_rung["linear"], request_id="r-choices", choices=(other, label))
    assert engine.decide(again).decision_id == first.decision_id
    with pytest.raises(InvalidInput, match="none of this one's choices") as refused:
        engine.decide(replace(again, choices=(other,)))
    assert refused.value.field == "request_id"

    ask = Ask(NODE, by_rung["frontier"], request_id="r-follows")
    results = engine.decide_many([ask, replace(ask, choices=("no such label",)), ask])
    assert [type(result) for result in results] == [Decided, InvalidInput, Decided]
