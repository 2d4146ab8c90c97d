"""The alarms of one process: what live requests met, bundle by bundle."""

import random
from types import SimpleNamespace
from typing import Any

import pytest

from cascade.ask import Attempt
from cascade.config.rollout import AlarmsConfig
from cascade.policy.guard import Action
from cascade.rollout.alarm_book import AlarmBook

BUNDLE: Any = SimpleNamespace(
    version="0002-a",
    manifest={"certificate": {"n_settled": 80, "n_held_out": 100}},
    policy=SimpleNamespace(too_dear=""),
    fences=SimpleNamespace(reason=""),
)


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
            book.count("n", BUNDLE, [[attempt]], rng.random() < settled)
        found = {each.name: each for each in book.look("n").get(BUNDLE.version, [])}
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
        book.count("n", BUNDLE, [[Attempt("linear", confidence_after=0.1)]], False)
    assert book.look("other") == {}
    assert "storm" in {each.name for each in book.look("n")[BUNDLE.version]}


@pytest.mark.parametrize("why", ["fenced", "too dear"])
def test_a_bundle_that_leaves_everything_to_the_teacher_on_purpose_is_no_storm(why: str) -> None:
    aside = SimpleNamespace(**vars(BUNDLE))
    if why == "fenced":
        aside.fences = SimpleNamespace(reason="the teacher changed")
    else:
        aside.policy = SimpleNamespace(too_dear="it costs more than it saves")
    book = AlarmBook(AlarmsConfig())
    for _ in range(200):
        book.count("n", aside, [[Attempt("linear", reason="uncertified")]], False)
    assert book.look("n") == {}


def test_callers_who_left_no_time_are_no_storm_and_hide_none() -> None:
    late = [Attempt("linear", reason="deadline: too little time is left for this rung")]
    failing = [Attempt("linear", reason="error: broken")]
    book = AlarmBook(AlarmsConfig())
    for _ in range(20):
        book.count("n", BUNDLE, [late, failing] * 25, False, [False] * 50)
        assert fill(book, 50) == {}
    book.count("n", BUNDLE, [late] * 5_000, True, [False] * 5_000)
    assert fill(book, 500, settled=0.1)["storm"].action is Action.ROLL_BACK


def test_a_rung_that_is_too_slow_for_callers_who_were_in_time_is_a_storm() -> None:
    cut = [Attempt("linear"), Attempt("encoder", reason="deadline: too little time is left for this rung")]
    book = AlarmBook(AlarmsConfig())
    for _ in range(20):
        book.count("n", BUNDLE, [[Attempt("linear")]] * 10, True, [True] * 10)
        book.count("n", BUNDLE, [cut] * 40, False, [True] * 40)
        found = book.look("n").get(BUNDLE.version, [])
    assert "storm" in {each.name for each in found}


@pytest.mark.parametrize("slow", ["settled", "escalated"])
def test_slow_is_only_what_a_local_rung_settled_slowly(slow: str) -> None:
    book = AlarmBook(AlarmsConfig(latency_ms=10.0))
    found: dict[str, Any] = {}
    for _ in range(20):
        for kind, n in (("settled", 40), ("escalated", 10)):
            took = 50.0 if kind == slow else 1.0
            attempts = [Attempt("linear", latency_ms=took / 2), Attempt("encoder", latency_ms=took / 2)]
            book.count("n", BUNDLE, [attempts] * n, kind == "settled")
        found = {each.name: each for each in book.look("n").get(BUNDLE.version, [])}
    assert set(found) == ({"latency"} if slow == "settled" else set())
