"""The core is given to gRPC's threads, and not to programs that keep it."""

import time

import pytest

from cascade.server.yielding import Yielding

pytestmark = pytest.mark.alone


def test_who_takes_long_is_not_let_in_again_for_a_while() -> None:
    given = []

    def give() -> None:
        given.append(time.monotonic())
        time.sleep(0.005 if len(given) == 3 else 0)

    yielding = Yielding(give, longest=0.004, rest=0.05)
    end = time.monotonic() + 5
    while len(given) < 5 and time.monotonic() < end:
        yielding()
    assert len(given) == 5
    assert given[3] - given[2] >= 0.055


def test_a_thread_of_the_same_process_may_take_longer() -> None:
    given = []

    def give() -> None:
        given.append(1)
        end = time.process_time() + 0.01
        while time.process_time() < end:
            pass

    def rests() -> bool:
        given.clear()
        yielding = Yielding(give, longest=0.005, rest=60.0)
        yielding()
        yielding()
        return len(given) == 1

    assert not all(rests() for _ in range(50))  # some times, nobody else takes the core meanwhile
