"""How fast a rung lately was, and when that is forgotten."""

from cascade.server.latency import LatencyRecord, records


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_who_seems_too_slow_is_tried_again_once_that_is_long_ago() -> None:
    clock = Clock()
    record = LatencyRecord(size=4, good_for=5.0, clock=clock)
    for _ in range(4):
        record.add(3.1)
    assert record.too_late(clock.now + 3.0, clock.now)
    clock.now += 5.0
    assert record.too_late(clock.now + 3.0, clock.now)
    clock.now += 0.1
    assert not record.too_late(clock.now + 3.0, clock.now)
    assert record.too_late(clock.now, clock.now), "it is over"
    record.add(3.1)  # one run says nothing yet, as at the beginning
    assert not record.too_late(clock.now + 3.0, clock.now)


def test_what_is_known_of_the_teacher_is_kept() -> None:
    kept = records(["linear", "encoder", "frontier"])
    for record in kept.values():
        for _ in range(32):
            record.add(2.0)
    later = 10.0**9
    assert {name for name, record in kept.items() if record.too_late(later + 1.0, later)} == {"frontier"}
