"""Which live traffic is read for the test that it is still like the held-out records: on a real store."""

import random
import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cascade.fences import TRAFFIC, Fences
from cascade.rollout.database_store import DatabaseRolloutStore
from cascade.rollout.follow import Follower
from cascade.rollout.state import Event
from cascade.server import exchangeability
from cascade.server.decision_ids import new_decision_ids
from cascade.server.exchangeability import LiveWatch, last_window, sampled
from cascade.traffic import Decision, SqliteStore, sampling
from tests.traffic_records import decision

DAY = 86_400.0
NOW = 1_800_000_000.0  # the beginning of a window
WINDOW = int(NOW // exchangeability.WINDOW_SECONDS)  # its number


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with SqliteStore(tmp_path / "traffic.db") as opened:
        yield opened


def live(at: float, sure: float, version: str = "v1", late: bool = False, fenced: bool = False) -> Decision:
    attempts: list[dict[str, Any]] = [
        {"rung": "linear", "reason": "", "p_right_before": 0.9, "confidence_after": sure}
    ]
    if fenced:
        why = "uncertified: the traffic changed"
        attempts = [{"rung": "linear", "reason": why, "p_right_before": None, "confidence_after": None}]
    if late:
        why = "deadline: too little time is left for this rung"
        attempts.append({"rung": "encoder", "reason": why, "p_right_before": 0.9, "confidence_after": None})
    (id_,) = new_decision_ids(1)
    return decision(id_, time=at, text=id_, attempts=attempts, bundle_version=version)


def put(store: SqliteStore, *decisions: Decision) -> None:
    store.record(*decisions)
    assert store.flush(10)


def whole(window: Sequence[Decision]) -> list[Decision]:
    return list(window)


def times(store: SqliteStore, since: int = 0, until: int = WINDOW) -> list[float]:
    return sampled(store, "n", "v1", since, until, lambda window: [each.time - NOW for each in window])


def test_of_a_busy_window_some_are_read_the_same_whoever_asks(store: SqliteStore) -> None:
    many = [live(NOW - 60 + 0.1 * i, 0.9, "v1" if i % 3 else "v2") for i in range(600)]
    put(store, *many)
    found = sampled(store, "n", "v1", WINDOW - 1, WINDOW, whole)
    assert len(found) == exchangeability.MOST_IN_WINDOW
    assert {each.bundle_version for each in found} == {"v1"}
    assert found == sorted(found, key=lambda each: each.time)
    assert found == sampled(store, "n", "v1", 0, WINDOW, whole)
    halves = [each.time < NOW - 30 for each in found]
    assert 85 < sum(halves) < 171  # drawn from all of the window: 5 standard deviations of a fair coin


def test_who_serves_draws_the_same_in_short_pieces_and_rests_between_them(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, *(live(NOW - 60 + 0.05 * i, 0.9) for i in range(1200)))
    rests: list[float] = []
    monkeypatch.setattr(sampling, "_BUSY", 1e-6)  # as on a much slower machine: the pieces get shorter
    monkeypatch.setattr(sampling.time, "sleep", rests.append)
    found = sampled(store, "n", "v1", WINDOW - 1, WINDOW, whole, share=0.1)
    assert len(rests) > 60
    assert max(rests) <= 0.5
    assert min(rests) > 0
    assert found == sampled(store, "n", "v1", WINDOW - 1, WINDOW, whole)
    assert len(found) == exchangeability.MOST_IN_WINDOW


def test_a_watch_rests_while_it_draws(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, *(live(NOW - 60 + i, 0.9) for i in range(60)))
    rests: list[float] = []
    monkeypatch.setattr(sampling.time, "sleep", rests.append)
    watched = bundle()
    LiveWatch(store, lambda: [(watched, 0.01, 30.0)]).look(NOW + exchangeability.LATE_SECONDS)
    assert rests


def test_a_quiet_window_is_looked_at_in_few_pieces(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, live(NOW - 30, 0.9))
    rests: list[float] = []
    monkeypatch.setattr(sampling, "_BUSY", 1.0)
    monkeypatch.setattr(sampling.time, "sleep", rests.append)
    assert len(sampled(store, "n", "v1", WINDOW - 1, WINDOW, whole, share=0.1)) == 1
    assert len(rests) < 6


def test_a_window_is_read_once_it_is_over_and_what_comes_late_is_on_disk() -> None:
    late = exchangeability.LATE_SECONDS
    assert last_window(NOW + late + 59.9) == last_window(NOW + late) == WINDOW
    assert last_window(NOW + late - 0.1) == WINDOW - 1


def test_pauses_are_passed_over_and_a_week_is_the_longest_memory(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, *(live(NOW - ago, 0.9) for ago in (8 * DAY, 6 * DAY, 6 * DAY - 1, 3600, 30)))
    asked: list[float] = []
    read = store.sampled_decisions

    def counted(*given: Any) -> list[Decision]:
        asked.append(given[2])
        return read(*given)

    monkeypatch.setattr(store, "sampled_decisions", counted)
    assert times(store) == [-6 * DAY, -6 * DAY + 1, -3600, -30]
    assert len(asked) < 10  # not each of 10,080 windows
    assert times(store, since=WINDOW - 61) == [-3600, -30]
    assert times(store, until=WINDOW - 1) == [-6 * DAY, -6 * DAY + 1, -3600]


def test_of_a_long_busy_log_only_the_newest_is_read(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchangeability, "MOST_AT_ONCE", 25)
    put(store, *(live(NOW - 10 * i, 0.9) for i in range(1, 200)))
    found = times(store)
    assert len(found) == 30  # whole windows of six
    assert found == sorted(found)
    assert found[-1] == -10


def bundle(version: str = "v1") -> Any:
    reference = np.linspace(0.5, 1, 300, dtype=np.float32)
    return SimpleNamespace(node="n", version=version, reference=reference, fences=Fences())


def test_watches_that_look_at_other_times_come_to_the_same_verdict(store: SqliteStore) -> None:
    rng = random.Random(0)
    put(store, *(live(NOW - 600 + i, 0.5 + rng.random() / 2) for i in range(600)))
    watched = [bundle(), bundle()]
    often, seldom = (LiveWatch(store, lambda each=each: [(each, 0.01, 30.0)]) for each in watched)
    for at in range(0, 1300, 47):
        often.look(NOW - 600 + at)
    seldom.look(NOW + 300)
    assert not any(each.fences.has(TRAFFIC) for each in watched)
    put(store, *(live(NOW + 300 + i, 0.1) for i in range(300)))
    for at in range(300, 800, 47):
        often.look(NOW + at)
    seldom.look(NOW + 800)
    reasons = [each.fences.reason for each in watched]
    assert reasons[0] == reasons[1]
    assert reasons[0].startswith("the traffic changed: over 900 live requests")


def rush(store: SqliteStore, late: float) -> Any:
    """Ten minutes in which the encoder had no time for so many, the unsurest, and ten minutes after them."""
    rng = random.Random(1)
    for minute in range(20):
        for i in range(128):
            sure = 0.5 + rng.random() / 2
            put_at = NOW + 60 * minute + i / 4
            store.record(live(put_at, sure, late=minute < 10 and sure < 0.5 + late / 2))
    assert store.flush(10)
    watched = bundle()
    LiveWatch(store, lambda: [(watched, 0.01, 30.0)]).look(NOW + 1200 + exchangeability.LATE_SECONDS)
    return watched


def test_a_rush_whose_hard_requests_failed_does_not_make_the_traffic_after_it_look_harder(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not rush(store, late=0.3).fences.has(TRAFFIC)
    monkeypatch.setattr(exchangeability, "MOST_FAILED", 1.0)  # as it was until 2026-11-30
    watched = bundle()
    LiveWatch(store, lambda: [(watched, 0.01, 30.0)]).look(NOW + 1200 + exchangeability.LATE_SECONDS)
    assert watched.fences.has(TRAFFIC)


def test_few_failures_hide_no_change(store: SqliteStore) -> None:
    put(store, *(live(NOW - 300 + i, 0.1, late=i % 30 == 0) for i in range(300)))
    watched = bundle()
    LiveWatch(store, lambda: [(watched, 0.01, 30.0)]).look(NOW + exchangeability.LATE_SECONDS)
    assert watched.fences.has(TRAFFIC)


class Worker:
    """What of a process follows the fences: its bundle, its watch, and what it knows of the shared state."""

    def __init__(self, store: SqliteStore) -> None:
        self.shared = DatabaseRolloutStore(store)
        self.follower = Follower(self.shared, ["n"])
        self.bundle = bundle()
        self.watch = LiveWatch(
            store, lambda: [(self.bundle, 0.01, 30.0)],
            lambda node: self.follower.state(node) if self.follower.known else None, self.append,
        )  # fmt: skip

    def append(self, event: Event) -> bool:
        return self.shared.append(event)

    def look(self, at: float) -> str:
        self.follower.poll()
        self.watch.look(at + exchangeability.LATE_SECONDS)
        return str(self.bundle.fences.reason)


def changed(store: SqliteStore) -> float:
    """Ten minutes like the held-out records, and five that are not; give when they are over."""
    rng = random.Random(0)
    usual = (live(NOW + i, 0.5 + rng.random() / 2) for i in range(600))
    put(store, *usual, *(live(NOW + 600 + i, 0.1) for i in range(300)))
    return NOW + 900


def start_anew(store: SqliteStore, at: float) -> Event:
    shared = DatabaseRolloutStore(store)
    event = Event("n", shared.heads().get("n", 0) + 1, at, "ada", "start", "it is meant", "v1")
    assert shared.append(event)
    return event


def test_a_fence_outlives_what_raised_it_in_all_workers_and_those_that_start_later(
    store: SqliteStore,
) -> None:
    one, two = Worker(store), Worker(store)
    at = changed(store)
    said = one.look(at)
    assert said.startswith("the traffic changed: over 900 live requests")
    # all that a starting process reads is decided while the fence is up, and has no score
    put(store, *(live(at + i / 4, 0.1, fenced=True) for i in range(4 * 60 * 40)))
    later = at + 60 * 40
    restarted = Worker(store)
    assert [each.look(later) for each in (one, two, restarted)] == [said] * 3
    assert [(e.what, e.who, e.bundle, e.why) for e in one.shared.events("n")] == [
        ("fence", "guard", "v1", said)
    ]
    assert Worker(store).look(later + 30 * DAY) == said


def test_two_workers_that_find_it_at_once_write_it_once(store: SqliteStore) -> None:
    at = changed(store)
    one, two = Worker(store), Worker(store)
    one.follower.poll()
    two.follower.poll()
    for each in (one, two):  # neither has read what the other wrote
        each.watch.look(at + exchangeability.LATE_SECONDS)
    assert len(one.shared.events("n")) == 1
    assert two.look(at) == one.look(at) == one.bundle.fences.reason
    assert len(one.shared.events("n")) == 1


def test_a_start_by_a_person_takes_the_fence_down_and_begins_the_test_anew(store: SqliteStore) -> None:
    at = changed(store)
    one, two = Worker(store), Worker(store)
    assert one.look(at)
    assert two.look(at)
    start_anew(store, at + 30)
    rng = random.Random(2)
    put(store, *(live(at + 25 + i, 0.5 + rng.random() / 2) for i in range(300)))
    for each in (one, two, Worker(store)):
        assert each.look(at + 600) == ""
        assert each.watch._tests["n", "v1"].n == 300 - 35  # since the first whole minute after the start
    put(store, *(live(at + 600 + i, 0.1) for i in range(300)))
    assert one.look(at + 900).startswith("the traffic changed")
    assert two.look(at + 900) == one.bundle.fences.reason
    assert [event.what for event in one.shared.events("n")] == ["fence", "start", "fence"]


def test_what_raised_a_fence_does_not_raise_it_again_after_the_start_that_took_it_down(
    store: SqliteStore,
) -> None:
    late = exchangeability.LATE_SECONDS
    at = changed(store)
    put(store, *(live(at + i, 0.1) for i in range(int(late))))  # until the look that finds the change
    one = Worker(store)
    assert one.look(at)
    begun = at + late + 10
    start_anew(store, begun)
    for clock in (begun, begun + 60, begun + 180):  # the first is over before the first window since
        assert one.look(clock - late) == ""
    rng = random.Random(3)
    put(store, *(live(begun + 60 + i, 0.5 + rng.random() / 2) for i in range(240)))
    assert one.look(begun + 300) == ""
    assert one.watch._tests["n", "v1"].n == 240 - 10  # to the end of a whole minute
    assert [event.what for event in one.shared.events("n")] == ["fence", "start"]


def test_a_fence_whose_event_is_gone_with_the_database_comes_down_in_running_workers(
    store: SqliteStore,
) -> None:
    at = changed(store)
    one = Worker(store)
    assert one.look(at)
    assert one.look(at)  # the event is read now, and the test that raised it is over
    states, node = one.follower._states, one.follower.state("n")
    states["n"] = replace(node, fenced={})  # as after a backup of before took the database's place
    one.watch.look(at + exchangeability.LATE_SECONDS)
    assert one.bundle.fences.reason == ""


def test_a_start_by_a_clock_that_is_ahead_puts_the_test_off_for_no_longer_than_it_must(
    store: SqliteStore,
) -> None:
    at = changed(store)
    start_anew(store, at + 365 * DAY)
    one = Worker(store)
    assert one.look(at + 60) == ""
    put(store, *(live(at + 300 + i, 0.1) for i in range(300)))
    assert one.look(at + 600).startswith("the traffic changed")


def test_a_fence_that_cannot_be_written_stands_here_and_is_written_by_a_later_look(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from cascade.errors import StoreError

    at = changed(store)
    one = Worker(store)

    def full(event: Event) -> bool:
        raise StoreError("no disk")

    monkeypatch.setattr(one.watch, "_write", full)
    assert one.look(at)
    assert "cannot be written; a restarted process may not know it" in caplog.text
    assert one.shared.events("n") == []
    monkeypatch.setattr(one.watch, "_write", one.append)
    assert one.look(at)
    assert len(one.shared.events("n")) == 1


def test_a_decision_without_a_score_is_none_of_those_that_are_read_at_a_start(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchangeability, "MOST_AT_ONCE", 500)
    at = changed(store)
    put(store, *(live(at + i, 0.1, fenced=True) for i in range(900)))
    watched = bundle()
    LiveWatch(store, lambda: [(watched, 0.01, 30.0)]).look(at + 900 + exchangeability.LATE_SECONDS)
    assert watched.fences.has(TRAFFIC)
    monkeypatch.setattr(exchangeability, "MOST_READ", 500)  # but not back for ever
    watch = LiveWatch(store, lambda: [(bundle(), 0.01, 30.0)])
    watch.look(at + 900 + exchangeability.LATE_SECONDS)
    assert watch._tests["n", "v1"].n == 0


def test_a_log_that_cannot_be_read_is_read_at_the_next_look(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from cascade.errors import StoreError

    put(store, *(live(NOW - 300 + i, 0.1) for i in range(300)))
    watched = bundle()
    watch = LiveWatch(store, lambda: [(watched, 0.01, 30.0)])

    def broken(*_: Any) -> list[Decision]:
        raise StoreError("no disk")

    late = NOW + exchangeability.LATE_SECONDS
    with monkeypatch.context() as patched:
        patched.setattr(store, "sampled_decisions", broken)
        watch.look(late)
    assert "live traffic cannot be read" in caplog.text
    assert not watched.fences.has(TRAFFIC)
    watch.look(late)
    assert watched.fences.has(TRAFFIC)


def test_a_look_at_a_long_log_holds_one_window_of_it_at_a_time(store: SqliteStore) -> None:
    said = "x" * 20_000
    put(store, *(replace(live(NOW - 0.5 * i, 0.9), text=f"{i} {said}") for i in range(1, 1200)))
    watch = LiveWatch(store, lambda: [(bundle(), 0.01, 30.0)])
    tracemalloc.start()
    try:
        watch.look(NOW + exchangeability.LATE_SECONDS)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert watch._tests["n", "v1"].n == 1199
    assert most < 4 * 120 * len(said)  # of all that was read, 10 windows of 120: a row and its decision each


def test_what_is_remembered_of_a_bundle_goes_with_it(store: SqliteStore) -> None:
    put(store, *(live(NOW - 10 * i, 0.9) for i in range(1, 20)))
    loaded = [(bundle(), 0.01, 30.0), (bundle("v2"), 0.01, 30.0)]
    watch = LiveWatch(store, lambda: loaded)
    watch.look(NOW + exchangeability.LATE_SECONDS)
    assert set(watch._tests) == {("n", "v1"), ("n", "v2")}
    del loaded[0]
    watch.look(NOW + exchangeability.LATE_SECONDS)
    assert set(watch._tests) == set(watch._read_until) == {("n", "v2")}
