"""The soak's judgement: filling up is not growth, and what goes up and down with the faults is neither."""

import math
import random
from collections.abc import Callable

from benchmarks.memory_growth import Sample, growth, growth_beyond_age, growth_of_parent

CYCLE = 120.0


def _run(mb_at: list[float]) -> list[Sample]:
    return [Sample(10.0 * (i + 1), {1: round(mb * 1024)}, 0, 0) for i, mb in enumerate(mb_at)]


def test_a_service_that_warms_up_and_then_stays_does_not_grow() -> None:
    held = []
    for seed in range(200):
        rng = random.Random(seed)
        up = [300 - 100 * math.exp(-i / 6) + 20 * (i % 12 == 5) + rng.gauss(0, 3) for i in range(180)]
        found = growth(_run(up), CYCLE)
        assert found.cycles == 10
        assert found.high < 0.5
        held.append(found.low < 0 < found.high)
    assert 0.9 < sum(held) / len(held) < 0.99, "95 % means 95 %"


def test_a_megabyte_a_minute_is_seen_through_the_ups_and_downs() -> None:
    rng = random.Random(2)
    up = [300 + i / 6 + 40 * (i % 12 > 7) + rng.gauss(0, 3) for i in range(180)]
    found = growth(_run(up), CYCLE)
    assert 0.7 < found.low < 1 < found.high < 1.3


def test_a_short_run_says_nothing() -> None:
    assert math.isnan(growth(_run([300.0] * 40), CYCLE).low)
    assert math.isnan(growth([], CYCLE).slope)


def test_a_worker_more_at_a_slow_reload_or_less_after_a_kill_is_no_growth() -> None:
    samples = []
    for i in range(1, 181):
        workers = {0: 0, 1: 4 if i > 120 else 2, 2: 1 if i < 90 else 2}.get(i % 12, 2)
        samples.append(Sample(10.0 * i, {1: 70_000} | {1 + n: 90_000 for n in range(1, 1 + workers)}, 0, 0))
    assert abs(growth(samples, CYCLE).slope) < 1e-9
    assert growth(samples, CYCLE).cycles == 10


def _of_workers(mb_at: Callable[[float, float], float], seed: int) -> list[Sample]:
    """Thirty minutes of two workers, of which a random one is killed each minute; MB by birth and age.

    Now and then, at the end more often, a reload is slow, so that a sample has two generations.
    """
    rng = random.Random(seed)
    born = {2: 10.0, 3: 10.0}
    samples = []
    for turn in range(1, 181):
        now = 10.0 * turn
        if turn % 6 == 3:
            born.pop(rng.choice(list(born)))
            born[1000 + turn] = now
        own = {pid: round(1024 * (mb_at(at, now - at) + rng.gauss(0, 2))) for pid, at in born.items()}
        if turn % 12 == 7 and rng.random() < turn / 180:
            own |= {n + turn: round(1024 * mb_at(now, 0.0)) for n in (5000, 6000)}
        samples.append(Sample(now, {1: 72 * 1024} | own, 72 * 1024, 0))
    return samples


def test_workers_that_are_killed_and_warm_up_again_do_not_grow_however_slow_reloads_get() -> None:
    found = [
        growth_beyond_age(_of_workers(lambda _, age: 115 - 30 * math.exp(-age / 40), seed), CYCLE)
        for seed in range(200)
    ]
    assert {each.cycles for each in found} == {10}
    assert max(each.high for each in found) < 0.4
    assert 0.9 < sum(each.low < 0 < each.high for each in found) / len(found) < 0.99, "95 % means 95 %"


def test_that_each_worker_begins_larger_than_the_last_is_seen_through_their_ages() -> None:
    found = [
        growth_beyond_age(_of_workers(lambda at, age: 115 - 30 * math.exp(-age / 40) + at / 120, seed), CYCLE)
        for seed in range(50)
    ]
    assert min(each.low for each in found) > 0.2
    assert 0.45 < sum(each.slope for each in found) / len(found) < 0.52


def test_the_parent_is_looked_at_alone_and_its_part_in_what_workers_share_is_not_its_growth() -> None:
    steady = [Sample(10.0 * i, {1: 70_000 + 50 * i, 2: 90_000}, 130_000, 0) for i in range(1, 181)]
    assert abs(growth_of_parent(steady, CYCLE).slope) < 1e-9
    grows = [Sample(10.0 * i, {1: 70_000, 2: 90_000}, 130_000 + 50 * i, 0) for i in range(1, 181)]
    assert growth_of_parent(grows, CYCLE).low > 0.2


def test_a_run_without_workers_says_nothing() -> None:
    assert math.isnan(growth_beyond_age(_run([300.0] * 180), CYCLE).slope)
