"""The alarms of one process: what live requests met, bundle by bundle."""

import random
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest

from cascade.ask import Attempt
from cascade.config.rollout import AlarmsConfig
from cascade.policy.alarms import Place
from cascade.policy.guard import Action
from cascade.policy.lasting import APART
from cascade.rollout.alarm_book import AlarmBook
from cascade.rollout.alarm_counts import PATIENCE
from cascade.rollout.lately import SECONDS

BUNDLE: Any = SimpleNamespace(
    version="0002-a",
    manifest={"certificate": {"n_settled": 80, "n_held_out": 100}},
    policy=SimpleNamespace(too_dear=""),
    fences=SimpleNamespace(reason=""),
)


_texts = count()


def tell(
    book: AlarmBook, attempts: list[list[Attempt]], settled: bool, in_time: list[bool] | None = None,
    bundle: Any = BUNDLE, texts: list[str] | None = None, answered: bool = True,
) -> None:  # fmt: skip
    """Count requests, by default of texts that are all new; the teacher answers at once what escalates."""
    texts = texts or [f"text {next(_texts)}" for _ in attempts]
    for escalation in book.count("n", bundle, attempts, texts, settled, in_time):
        escalation.ended(answered)


def look(book: AlarmBook, place: Place = Place.CANDIDATE) -> dict[str, Any]:
    return {each.name: each for each in book.look("n", {BUNDLE.version: place}).get(BUNDLE.version, [])}


def fill(
    book: AlarmBook, n: int, settled: float = 0.8, shift: float = 0.0, reason: str = ""
) -> dict[str, Any]:
    """Count requests in batches of 50; give the alarms that are raised at the end, by name."""
    rng = random.Random(0)
    found: dict[str, Any] = {}
    for _ in range(n // 50):
        for _ in range(50):
            score = rng.random() * (1 - shift)
            attempt = Attempt("linear", p_right_before=rng.random(), confidence_after=score, reason=reason)
            tell(book, [[attempt]], rng.random() < settled)
        found = look(book)
    return found


def test_usual_traffic_raises_nothing() -> None:
    assert fill(AlarmBook(AlarmsConfig()), 5_000) == {}


def test_a_storm_of_escalations_rolls_back() -> None:
    book = AlarmBook(AlarmsConfig())
    assert fill(book, 1_000) == {}
    assert fill(book, 500, settled=0.1)["storm"].action is Action.ROLL_BACK


def test_failing_rungs_roll_back() -> None:
    assert "errors" in fill(AlarmBook(AlarmsConfig()), 200, reason="error: broken")


def test_scores_that_move_hold_and_the_sentence_says_which() -> None:
    book = AlarmBook(AlarmsConfig())
    assert fill(book, 3_000) == {}
    found = fill(book, 1_000, shift=0.6)
    assert set(found) == {"drift of scores"}
    assert found["drift of scores"].action is Action.HOLD
    assert "got a confidence of the first rung" in found["drift of scores"].reason


def test_a_bundle_that_is_started_again_begins_with_a_clean_sheet() -> None:
    book = AlarmBook(AlarmsConfig())
    assert fill(book, 500, settled=0.1)
    book.forget("n", BUNDLE.version)
    assert fill(book, 500) == {}


def test_another_nodes_look_leaves_the_counts_alone() -> None:
    book = AlarmBook(AlarmsConfig())
    for _ in range(60):
        tell(book, [[Attempt("linear", confidence_after=0.1)]], False)
    assert book.look("other") == {}
    assert "storm" in look(book)


@pytest.mark.parametrize("why", ["fenced", "too dear"])
def test_a_bundle_that_leaves_everything_to_the_teacher_on_purpose_is_no_storm(why: str) -> None:
    aside = SimpleNamespace(**vars(BUNDLE))
    if why == "fenced":
        aside.fences = SimpleNamespace(reason="the teacher changed")
    else:
        aside.policy = SimpleNamespace(too_dear="it costs more than it saves")
    book = AlarmBook(AlarmsConfig())
    for _ in range(200):
        tell(book, [[Attempt("linear", reason="uncertified")]], False, bundle=aside)
    assert book.look("n") == {}


def test_callers_who_left_no_time_are_no_storm_and_hide_none() -> None:
    late = [Attempt("linear", reason="deadline: too little time is left for this rung")]
    failing = [Attempt("linear", reason="error: broken")]
    book = AlarmBook(AlarmsConfig())
    for _ in range(20):
        tell(book, [late, failing] * 25, False, [False] * 50)
        assert fill(book, 50) == {}
    tell(book, [late] * 5_000, True, [False] * 5_000)
    assert fill(book, 500, settled=0.1)["storm"].action is Action.ROLL_BACK


def test_a_rung_that_is_too_slow_for_callers_who_were_in_time_is_a_storm() -> None:
    cut = [Attempt("linear"), Attempt("encoder", reason="deadline: too little time is left for this rung")]
    book = AlarmBook(AlarmsConfig())
    for _ in range(20):
        tell(book, [[Attempt("linear")]] * 10, True, [True] * 10)
        tell(book, [cut] * 40, False, [True] * 40)
        found = look(book)
    assert "storm" in found


@pytest.mark.parametrize("slow", ["settled", "escalated"])
def test_slow_is_only_what_a_local_rung_settled_slowly(slow: str) -> None:
    book = AlarmBook(AlarmsConfig(latency_ms=10.0))
    found: dict[str, Any] = {}
    for _ in range(20):
        for kind, n in (("settled", 40), ("escalated", 10)):
            took = 50.0 if kind == slow else 1.0
            attempts = [Attempt("linear", latency_ms=took / 2), Attempt("encoder", latency_ms=took / 2)]
            tell(book, [attempts] * n, kind == "settled")
        found = look(book)
    assert set(found) == ({"latency"} if slow == "settled" else set())


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


USUAL, BROKEN = [Attempt("linear", confidence_after=0.5)], [Attempt("encoder", reason="error: MemoryError")]


@pytest.mark.parametrize("place", [Place.ALONE, Place.REPLACEABLE])
def test_a_storm_or_slowness_of_what_is_no_candidate_is_raised_and_pulls_nothing_back(place: Place) -> None:
    book = AlarmBook(AlarmsConfig(latency_ms=10.0))
    for _ in range(40):
        tell(book, [USUAL] * 40, False)
        tell(book, [[Attempt("linear", latency_ms=50.0)]] * 10, True)
        found = look(book, place)
    assert {name: each.action for name, each in found.items()} == {
        "storm": Action.HOLD, "latency": Action.HOLD,
    }  # fmt: skip
    assert look(book)["storm"].action is Action.ROLL_BACK


def test_of_a_bundle_that_is_not_named_nothing_is_pulled_back() -> None:
    book = AlarmBook(AlarmsConfig())
    fill(book, 500, settled=0.1)
    assert [each.action for each in book.look("n")[BUNDLE.version]] == [Action.HOLD]


def test_what_the_teacher_did_not_answer_is_no_storm_however_often_it_is_asked_again() -> None:
    rng, clock = random.Random(0), Clock()
    book = AlarmBook(AlarmsConfig(), clock)
    for i in range(600):
        for k in range(10):
            text = [f"{i} {k}"]
            if rng.random() < 0.84:
                tell(book, [USUAL], True, texts=text)
                continue
            for _ in range(3):
                tell(book, [USUAL], False, texts=text, answered=False)
        clock.now += 0.5
        assert look(book) == {}
    for _ in range(600):  # nor did the outage hide what comes after it
        tell(book, [USUAL] * 2, True)
        tell(book, [USUAL] * 8, False)
        clock.now += 0.5
        found = look(book)
    assert "storm" in found


def test_an_outage_does_not_make_few_seem_to_escalate() -> None:
    """What is settled meanwhile would lower the alarm, since what escalates is left out."""
    clock = Clock()
    book = AlarmBook(AlarmsConfig(), clock)
    assert "storm" in fill(book, 500, settled=0.1)
    for _ in range(600):
        tell(book, [USUAL], False, answered=False)
        tell(book, [USUAL], True)
        clock.now += 0.5
        assert "storm" in look(book)
    for _ in range(600):
        tell(book, [USUAL], True)
        clock.now += 0.5
        assert "storm" in look(book)
    assert "storm" not in fill(book, 2_000)


def test_a_text_that_was_counted_within_the_minute_counts_once() -> None:
    clock = Clock()
    book = AlarmBook(AlarmsConfig(), clock)
    for i in range(400):
        tell(book, [USUAL] * 4, True)
        tell(book, [USUAL] * 3, False, texts=[f"asked again {i}"] * 3)  # 3 of 7, or 1 of 5
        clock.now += 0.01
        assert look(book) == {}
    for _ in range(60):  # but what is asked every few minutes counts each time
        tell(book, [USUAL], False, texts=["the same"])
        clock.now += 2 * SECONDS
        found = look(book)
    assert "storm" in found


def test_what_is_asked_again_after_a_failure_counts_once_it_is_answered() -> None:
    book = AlarmBook(AlarmsConfig())
    for i in range(100):
        tell(book, [USUAL], False, texts=[f"{i}"], answered=False)
        tell(book, [USUAL], False, texts=[f"{i}"])
        found = look(book)
    assert "storm" in found


def test_a_storm_waits_for_the_teacher_in_order_and_not_for_ever() -> None:
    clock = Clock()
    book = AlarmBook(AlarmsConfig(), clock)
    slow = book.count("n", BUNDLE, [USUAL], ["slow"], False)
    assert look(book) == {}
    tell(book, [USUAL] * 100, False)
    clock.now += 1.0
    assert look(book) == {}, "what was before is not complete"
    slow[0].ended(True)
    assert "101 of 101" in look(book)["storm"].reason
    book = AlarmBook(AlarmsConfig(), clock)
    never = book.count("n", BUNDLE, [USUAL], ["never"], False)
    assert look(book) == {}
    tell(book, [USUAL] * 100, False)
    assert look(book) == {}
    clock.now += PATIENCE
    assert "100 of 100" in look(book)["storm"].reason
    never[0].ended(True)  # too late to count
    assert look(book)


def burst(seconds: float, per_second: int, place: Place, rest: float = 600.0) -> list[Any]:
    """An hour without a failure, a time in which all fail, a rest; give what `errors` said at each look."""
    clock = Clock()
    book = AlarmBook(AlarmsConfig(), clock)
    said = []
    for many, step, attempts in ((3_600.0, 60.0, USUAL), (seconds, 0.5, BROKEN), (rest, 10.0, USUAL)):
        for _ in range(int(many / step)):
            tell(book, [attempts] * int(per_second * step), attempts is USUAL)
            clock.now += step
            said.append(look(book, place).get("errors"))
    return said


@pytest.mark.parametrize("place", list(Place))
def test_eight_failing_requests_in_a_row_pull_nothing_back(place: Place) -> None:
    assert not any(burst(0.5, 16, place, rest=60.0))


@pytest.mark.parametrize("place", [Place.REPLACEABLE, Place.ALONE])
@pytest.mark.parametrize("seconds", [1.0, 10.0, APART])
def test_a_burst_of_failures_is_shown_and_pulls_back_no_bundle_that_serves(
    seconds: float, place: Place
) -> None:
    said = [each for each in burst(seconds, 20, place) if each]
    assert said
    assert {each.action for each in said} == {Action.HOLD}


def test_failures_that_go_on_pull_back_what_another_bundle_can_take_the_place_of() -> None:
    said = burst(APART + 10, 20, Place.REPLACEABLE, rest=0.0)
    assert said[-1].action is Action.ROLL_BACK
    assert burst(APART + 600, 20, Place.ALONE, rest=0.0)[-1].action is Action.HOLD


def test_a_candidate_whose_rung_fails_is_pulled_back_within_seconds() -> None:
    said = burst(2.0, 20, Place.CANDIDATE, rest=0.0)
    assert said[-1].action is Action.ROLL_BACK
