"""The threads of a worker that keeps its core busy are scheduled as a batch, and as usual when it rests."""

import subprocess
import sys

import pytest

from cascade.server.scheduling import BusyScheduling, can_be_set

pytestmark = pytest.mark.alone

needs_policies = pytest.mark.skipif(
    not can_be_set(), reason="this system has no batch scheduling, or the tests run under another policy"
)


class Process:
    """A process of which each second takes a share of a core."""

    def __init__(self) -> None:
        self.now = self.used = 0.0
        self.cores = 1
        self.forbidden = False
        self.set: list[bool] = []
        self.scheduling = BusyScheduling(
            begin=0.4,
            end=0.25,
            every_seconds=0.5,
            set_policy=self.set_policy,
            one_core=lambda: self.cores == 1,
            clock=lambda: self.now,
            used=lambda: self.used,
        )

    def set_policy(self, batch: bool) -> None:
        self.set.append(batch)
        if self.forbidden:
            raise PermissionError("not here")

    def takes(self, share: float, seconds: float = 1.0) -> None:
        self.now += seconds
        self.used += share * seconds
        self.scheduling.look()


def test_a_busy_process_is_scheduled_as_a_batch_until_it_rests() -> None:
    process = Process()
    as_batch = []
    for share in (0.1, 0.39, 0.41, 0.9, 0.3, 0.26, 0.24, 0.3):
        process.takes(share)
        as_batch.append(process.set[-1:] == [True])
    assert as_batch == [False, False, True, True, True, True, False, False]
    assert process.set == [True, False]


def test_a_short_moment_says_nothing() -> None:
    process = Process()
    process.takes(1.0, 0.4)
    assert process.set == []
    process.takes(0.0, 0.4)  # 0.4 s of 0.8
    assert process.set == [True]


def test_a_process_with_several_cores_is_left_alone() -> None:
    process = Process()
    process.cores = 2
    process.takes(1.8)
    assert process.set == []
    process.cores = 1
    process.takes(0.9)
    process.cores = 2  # an engineer gave it another meanwhile
    process.takes(0.9)
    assert process.set == [True, False]


def test_where_it_is_forbidden_it_is_said_and_not_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    process = Process()
    process.forbidden = True
    with caplog.at_level("INFO"):
        for share in (0.9, 0.1, 0.9):
            process.takes(share)
    assert process.set == [True]
    assert "batch scheduling is refused here: not here" in caplog.text


@needs_policies
def test_all_threads_of_a_process_are_and_those_to_come() -> None:
    done = subprocess.run(
        [sys.executable, "-c", """
import os, threading, time
from cascade.server.scheduling import BusyScheduling
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
def policies():
    return {os.sched_getscheduler(int(thread)) for thread in os.listdir("/proc/self/task")}
end = threading.Event()
threading.Thread(target=end.wait).start()
scheduling = BusyScheduling(begin=0.05, end=0.04)
assert policies() == {os.SCHED_OTHER}
while policies() == {os.SCHED_OTHER}:
    scheduling.look()
threading.Thread(target=end.wait).start()
assert policies() == {os.SCHED_BATCH}, policies()
while policies() != {os.SCHED_OTHER}:
    time.sleep(0.5)
    scheduling.look()
end.set()
"""],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@needs_policies
def test_a_policy_that_somebody_chose_is_left_alone() -> None:
    done = subprocess.run(
        [sys.executable, "-c", """
import os
from cascade.server.scheduling import BusyScheduling
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
now, used = [0.0], [0.0]
scheduling = BusyScheduling(clock=lambda: now[0], used=lambda: used[0])
for share in (1.0, 0.0):
    now[0] += 1.0
    used[0] += share
    scheduling.look()
assert os.sched_getscheduler(0) == os.SCHED_BATCH
"""],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
