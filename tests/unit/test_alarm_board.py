"""Alarms told to everybody: since when, by how many processes, and not for longer than they are raised."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cascade.policy.guard import Action, Raised
from cascade.rollout.alarm_board import STALE, TELL_EVERY, AlarmBoard, ShownAlarm, shown_alarms
from cascade.traffic import SqliteStore

STORM = Raised("storm", "300 of 400 requests escalated", Action.ROLL_BACK)
DRIFT = Raised("drift of scores", "90 of 100 requests got a low confidence", Action.HOLD)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with SqliteStore(tmp_path / "t.db") as opened:
        yield opened


def test_an_alarm_keeps_its_beginning_while_it_is_raised(store: SqliteStore) -> None:
    clock = Clock()
    board = AlarmBoard(store, "a", clock)
    board.tell("n", {"0001": [DRIFT]})
    clock.now += 30
    board.tell("n", {"0001": [DRIFT, STORM]})
    assert shown_alarms(store, "n", clock.now) == [
        ShownAlarm("0001", "drift of scores", "hold", 1000.0, 1, DRIFT.reason),
        ShownAlarm("0001", "storm", "roll back", 1030.0, 1, STORM.reason),
    ]
    assert shown_alarms(store, "another", clock.now) == []
    board.tell("n", {})
    assert shown_alarms(store, "n", clock.now) == []
    clock.now += 5
    board.tell("n", {"0001": [DRIFT]})
    assert shown_alarms(store, "n", clock.now)[0].since == 1035.0


def test_what_several_processes_raised_is_one_alarm_from_the_first_of_them_on(store: SqliteStore) -> None:
    clock = Clock()
    boards = [AlarmBoard(store, owner, clock) for owner in "ab"]
    for board in boards:
        board.tell("n", {"0001": [STORM]})
        clock.now += 7
    (shown,) = shown_alarms(store, "n", clock.now)
    assert (shown.processes, shown.since) == (2, 1000.0)
    boards[0].tell("n", {})
    (shown,) = shown_alarms(store, "n", clock.now)
    assert (shown.processes, shown.since) == (1, 1007.0)


def test_the_alarm_of_a_process_that_died_is_believed_for_a_while_only(store: SqliteStore) -> None:
    clock = Clock()
    dead, alive = AlarmBoard(store, "dead", clock), AlarmBoard(store, "alive", clock)
    dead.tell("n", {"0001": [STORM]})
    alive.tell("n", {"0001": [DRIFT]})
    for _ in range(int(STALE / TELL_EVERY) + 1):
        clock.now += TELL_EVERY
        alive.tell("n", {"0001": [DRIFT]})
    assert [alarm.name for alarm in shown_alarms(store, "n", clock.now)] == ["drift of scores"]


def test_nothing_is_written_while_there_is_no_news(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    board = AlarmBoard(store, "a", clock)
    board.tell("n", {"0001": [STORM]})
    monkeypatch.setattr(type(store), "database", property(lambda _: pytest.fail("it was asked")))
    board.tell("n", {"0001": [STORM]})
    board.tell("m", {})
