"""The test of live traffic keeps its level for ever, and finds traffic that the ladder is less sure of."""

import hashlib

import numpy as np
import pytest

from cascade.policy import exchangeability
from cascade.policy.exchangeability import LiveTest, score_of


def watch(reference: np.ndarray, live: np.ndarray, level: float = 0.05, tag: str = "") -> LiveTest:
    test = LiveTest(reference.tolist(), level)
    for i, score in enumerate(live):
        test.add(f"{tag}{i}", float(score))
    return test


def test_unchanged_traffic_alarms_in_no_more_than_the_level_of_the_runs_however_long_one_watches() -> None:
    runs, level, alarms = 200, 0.05, 0
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        scores = np.round(1 - rng.beta(0.4, 4, 900), 3)  # with ties, as real confidences have
        alarms += watch(scores[:300], scores[300:], level, f"{seed} ").alarm
    assert alarms <= runs * level + 3 * np.sqrt(runs * level * (1 - level))


def test_traffic_that_the_ladder_is_less_sure_of_alarms() -> None:
    rng = np.random.default_rng(1)
    reference = 1 - rng.beta(0.4, 4, 750)
    live = np.where(rng.random(1500) < 0.2, rng.random(1500) * 0.5, 1 - rng.beta(0.4, 4, 1500))
    test = watch(reference, live, 0.01)
    assert test.alarm
    assert test.reason().startswith("the traffic changed: over 1,500 live requests")
    assert test.p_value <= 0.01


def test_repeats_of_easy_requests_are_no_change() -> None:
    rng = np.random.default_rng(2)
    reference = 1 - rng.beta(0.4, 4, 500)
    test = LiveTest(reference.tolist(), 0.01)
    for _ in range(2000):
        test.add("the same hard request", 0.01)
    assert test.n == 1
    for i in range(2000):
        test.add(f"easy {i}", 0.9999)
    assert not test.alarm


def test_level_zero_never_alarms() -> None:
    test = watch(np.linspace(0.5, 1, 300), np.zeros(500), 0.0)
    assert test.most > 1e6
    assert not test.alarm
    assert test.reason() == ""


def test_the_capital_is_that_of_mapies_jumper_on_the_same_ranks() -> None:
    mapie = pytest.importorskip("mapie.exchangeability_testing.martingales")
    rng = np.random.default_rng(3)
    reference, live = rng.random(200), rng.random(300) * 0.9
    ours = LiveTest(reference.tolist(), 0.05, bets=(-1.0, 0.0, 1.0))
    theirs = mapie.OnlineMartingaleTest(task="classification", warn=False)
    seen = np.sort(reference).tolist()
    most = 1.0
    for i, score in enumerate(live):
        ours.add(str(i), float(score))
        name = hashlib.blake2b(str(i).encode(), digest_size=8).digest()
        low = int(np.searchsorted(seen, score))
        p = (low + (int.from_bytes(name, "big") + 0.5) / 2**64) / (len(seen) + 1)
        seen.insert(low, float(score))
        most = max(most, float(theirs.update_simple_jumper_martingale(p)))
    assert ours.most == pytest.approx(0.9 * most)  # the first round's share of the level


def test_it_begins_anew_with_less_of_the_level_and_its_memory_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exchangeability, "ROUND", 100)
    rng = np.random.default_rng(4)
    reference = rng.random(300)
    test = watch(reference, rng.random(350), 0.01)
    assert test.n == 350
    assert (len(test._seen), len(test._sorted)) == (50, 350)
    assert not test.alarm
    test.add("0", 0.5)  # seen in the first round, and new in this one
    assert test.n == 351
    for i in range(100):
        test.add(f"hard {i}", 0.001)
    assert test.alarm
    alone = watch(reference, np.zeros(0))
    shares = []
    for _ in range(4000):
        shares.append(exchangeability._share_of(alone._round))
        alone._begin_round()
    assert 0.9999 < sum(shares) <= 1


def test_unchanged_traffic_alarms_in_no_more_than_the_level_over_many_rounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exchangeability, "ROUND", 50)
    runs, level, alarms = 200, 0.05, 0
    for seed in range(runs):
        scores = np.random.default_rng(seed).random(650)
        alarms += watch(scores[:100], scores[100:], level, f"{seed} ").alarm
    assert alarms <= runs * level + 3 * np.sqrt(runs * level * (1 - level))


def attempt(p: float | None, sure: float | None, reason: str = "") -> dict[str, object]:
    return {"rung": "r", "p_right_before": p, "confidence_after": sure, "reason": reason}


def test_the_score_is_that_of_the_last_local_rung_that_ran() -> None:
    teacher = attempt(None, None)
    assert score_of([attempt(0.9, 0.4, "confidence 0.4 is below 0.9"), attempt(0.8, 0.7), teacher]) == 0.7
    skipped = attempt(0.2, None, "skipped: P(right) 0.2 is below 0.5")
    assert score_of([skipped, skipped, teacher]) == pytest.approx(-0.8)
    assert score_of([attempt(0.9, None, "error: RuntimeError"), attempt(0.9, 0.9), teacher]) is None
    assert score_of([teacher]) is None
