"""The elastic pool: few threads run, waiting ones lend their places, none is lost."""

from __future__ import annotations

import threading
from concurrent.futures import wait

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.server.pool import ElasticPool
from cascade.waiting import waiting
from tests.soon import comes

LONG = 30.0


@pytest.fixture
def pool():
    pool = ElasticPool(threads=2, max_threads=10, idle_seconds=0.05, stall_seconds=LONG)
    yield pool
    pool.shutdown(wait=False)


def test_gives_results_and_errors(pool):
    assert pool.submit(lambda a, b: a + b, 1, b=2).result(LONG) == 3
    with pytest.raises(ZeroDivisionError):
        pool.submit(lambda: 1 / 0).result(LONG)


def test_runs_no_more_than_threads_at_once(pool):
    lock, now, most = threading.Lock(), 0, 0

    def task():
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        threading.Event().wait(0.002)
        with lock:
            now -= 1

    wait([pool.submit(task) for _ in range(50)], LONG)
    assert most == 2
    assert pool.size == 2


def test_queue_is_first_in_first_out():
    pool = ElasticPool(threads=1, max_threads=2, stall_seconds=LONG)
    go, order = threading.Event(), []
    pool.submit(go.wait, LONG)
    futures = [pool.submit(order.append, number) for number in range(20)]
    assert pool.waiting == 20
    go.set()
    wait(futures, LONG)
    assert order == list(range(20))
    pool.shutdown()


def test_fast_tasks_go_on_while_all_but_threads_wait(pool):
    go = threading.Event()

    def slow():
        with waiting():
            return go.wait(LONG)

    slow_ones = [pool.submit(slow) for _ in range(8)]
    assert comes(lambda: pool.lent == 8)
    assert [pool.submit(int, number).result(LONG) for number in range(20)] == list(range(20))
    assert not any(future.done() for future in slow_ones)
    go.set()
    assert all(future.result(LONG) for future in slow_ones)
    assert comes(lambda: pool.lent == 0)


def test_with_all_threads_waiting_tasks_queue_and_run_later(pool):
    go = threading.Event()

    def slow():
        with pool.blocking():
            return go.wait(LONG)

    slow_ones = [pool.submit(slow) for _ in range(14)]
    assert comes(lambda: pool.lent == 10)
    assert pool.size == 10
    assert pool.waiting == 4
    go.set()
    assert all(future.result(LONG) for future in slow_ones)


def test_threads_above_the_base_retire(pool):
    go = threading.Event()

    def slow():
        with waiting():
            return go.wait(LONG)

    slow_ones = [pool.submit(slow) for _ in range(6)]
    assert comes(lambda: pool.size == 6)
    go.set()
    wait(slow_ones, LONG)
    assert comes(lambda: pool.size == 2)
    assert pool.submit(int, 3).result(LONG) == 3


def test_a_task_that_stalls_without_saying_so_loses_its_place():
    pool = ElasticPool(threads=2, max_threads=10, stall_seconds=0.01)
    go = threading.Event()
    stalled = [pool.submit(go.wait, LONG) for _ in range(6)]
    assert pool.submit(int, 7).result(LONG) == 7
    go.set()
    assert all(future.result(LONG) for future in stalled)
    assert comes(lambda: pool.lent == 0)
    pool.shutdown()


def test_what_is_called_and_fails_ends_neither_the_looking_nor_what_else_is_called(caplog):
    pool = ElasticPool(threads=1, max_threads=10, stall_seconds=0.01)
    failed, others = [], []

    def fails():
        failed.append(1)
        raise OSError("no file descriptor is left")

    pool.on_watch(fails)
    pool.on_watch(lambda: others.append(1))
    assert comes(lambda: len(failed) > 3 and len(others) > 3)
    go = threading.Event()
    stalled = pool.submit(go.wait, LONG)
    assert pool.submit(int, 7).result(LONG) == 7, "a thread that hangs is still noticed"
    go.set()
    assert stalled.result(LONG)
    assert caplog.text.count("looking after what hangs failed") == 1
    pool.shutdown()


def test_nested_waiting_returns_the_place_once(pool):
    def task():
        with waiting(), waiting():
            pass
        with waiting():
            pass

    wait([pool.submit(task) for _ in range(200)], LONG)
    assert comes(lambda: pool.lent == 0)
    assert pool._running == 0


def test_waiting_outside_a_pool_does_nothing():
    with waiting():
        pass


def test_shutdown_runs_what_queues_and_refuses_more():
    pool = ElasticPool(threads=2, max_threads=4, stall_seconds=LONG)
    futures = [pool.submit(int, number) for number in range(100)]
    pool.shutdown(wait=True)
    assert [future.result(0) for future in futures] == list(range(100))
    assert pool.size == 0
    with pytest.raises(RuntimeError):
        pool.submit(int)


def test_shutdown_can_cancel_what_queues():
    pool = ElasticPool(threads=1, max_threads=2, stall_seconds=LONG)
    go = threading.Event()
    pool.submit(go.wait, LONG)
    queued = pool.submit(int)
    pool.shutdown(wait=False, cancel_futures=True)
    assert queued.cancelled()
    go.set()


def test_refuses_more_threads_than_its_maximum():
    with pytest.raises(ValueError, match="max_threads"):
        ElasticPool(threads=8, max_threads=8)


@settings(max_examples=40)
@given(
    threads=st.integers(1, 4),
    extra=st.integers(1, 6),
    kinds=st.lists(st.sampled_from(["fast", "waits", "stalls", "fails"]), max_size=60),
)
def test_every_task_ends_and_no_place_is_lost(threads, extra, kinds):
    pool = ElasticPool(threads, threads + extra, idle_seconds=0.01, stall_seconds=0.002)

    def task(kind):
        if kind == "waits":
            with waiting():
                threading.Event().wait(0.001)
        elif kind == "stalls":
            threading.Event().wait(0.003)
        elif kind == "fails":
            raise KeyError(kind)

    futures = [pool.submit(task, kind) for kind in kinds]
    done, late = wait(futures, LONG)
    assert not late
    assert sum(future.exception() is not None for future in done) == kinds.count("fails")
    assert comes(lambda: pool._running == 0 and pool.lent == 0 and pool.waiting == 0)
    pool.shutdown()
    assert pool.size == 0


def test_threads_that_all_hang_tell_no_pace_so_that_nobody_is_refused_for_them() -> None:
    pool = ElasticPool(threads=2, stall_seconds=0.02, max_waiting_seconds=0.5)
    go = threading.Event()
    futures = [pool.submit(go.wait, 10) for _ in range(60)]
    assert comes(lambda: pool.waiting < 40)
    assert pool.expected_seconds == 0
    assert not pool.overfull
    go.set()
    assert all(future.result(10) for future in futures)
    pool.shutdown()
