"""The soak's judgement: filling up is not growth, and what goes up and down with the faults is neither."""

import math
import random

from benchmarks.memory_growth import Sample, growth

CYCLE = 120.0


def _run(mb_at: list[float]) -> list[Sample]:
    return [Sample(10.0 * (i + 1), {1: round(mb * 1024)}, 0) for i, mb in enumerate(mb_at)]


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
