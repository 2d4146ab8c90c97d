"""How long an HTTP call may take, where one thread looks after all calls."""

import threading

import pytest

from cascade.observe.time_limit import LimitedAdapter
from tests.soon import comes

pytestmark = pytest.mark.alone

LONG = 20.0


def cut_within(adapter: LimitedAdapter, seconds: float) -> bool:
    with adapter.limit(seconds):
        return comes(lambda: adapter.cut)


def test_a_call_with_less_time_than_the_one_before_is_cut_off_in_its_own() -> None:
    adapter = LimitedAdapter()
    with adapter.limit(10 * LONG):
        assert comes(lambda: adapter._looks_at is not None)  # it sleeps until this call has to end
    assert cut_within(adapter, 0.05)
    assert cut_within(adapter, 0.05)  # also after the thread has waited to be told
    adapter.close()


def test_one_thread_looks_after_all_calls_and_ends_with_the_adapter() -> None:
    def looking() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name == "http-time-limit"}

    before, adapter = looking(), LimitedAdapter()
    for _ in range(5):
        with adapter.limit(LONG):
            pass
        assert not adapter.cut
    (ours,) = looking() - before
    adapter.close()
    ours.join(LONG)
    assert not ours.is_alive()
