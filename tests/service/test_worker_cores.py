"""Workers that keep to a core each, and how they are scheduled there."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from cascade.client import Client
from cascade.server.scheduling import can_be_set
from tests.conftest import NODE
from tests.service.worker_processes import LONG, Service
from tests.soon import comes

pytestmark = pytest.mark.alone


def cores_of(pid: int) -> set[int]:
    """The cores that some thread of a process may run on."""
    cores: set[int] = set()
    with suppress(FileNotFoundError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(ProcessLookupError):
                cores |= os.sched_getaffinity(int(thread))
    return cores


def policies_of(pid: int) -> set[int]:
    """By which policies the threads of a process are scheduled."""
    policies = set()
    for thread in os.listdir(f"/proc/{pid}/task"):
        with suppress(ProcessLookupError):
            policies.add(os.sched_getscheduler(int(thread)))
    return policies


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one core only")
def test_every_thread_of_a_worker_keeps_to_the_workers_core_and_so_does_the_one_in_its_place(
    serve: Callable[[int], Service], document: dict[str, Any]
) -> None:
    document["server"] = {**document.get("server", {}), "pin_workers": True}
    service = serve(2)
    expected = sorted(os.sched_getaffinity(0))[:2]
    assert sorted(cores_of(pid).pop() for pid in service.workers()) == expected
    assert all(len(cores_of(pid)) == 1 for pid in service.workers())
    assert len(cores_of(service.process.pid)) > 1
    killed, left = service.workers()
    core = cores_of(killed)
    os.kill(killed, signal.SIGKILL)
    service.wait_for_log("ended by SIGKILL; it is started again")
    assert comes(lambda: any(cores_of(pid) == core for pid in service.workers() - {killed, left}))


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one core only")
@pytest.mark.skipif(not can_be_set(), reason="this system has no batch scheduling")
def test_one_process_with_a_core_of_its_own_is_scheduled_as_a_batch_while_it_is_busy(
    serve: Callable[[int], Service], document: dict[str, Any], unseen: list[dict[str, Any]]
) -> None:
    document["server"] = {**document.get("server", {}), "pin_workers": True}
    service = serve(1)
    pid = service.process.pid
    assert cores_of(pid) == {min(os.sched_getaffinity(0))}
    assert policies_of(pid) == {os.SCHED_OTHER}
    with Client(service.target) as client:
        many = [record["text"] for record in (unseen * 256)[:256]]
        end = time.monotonic() + LONG
        while policies_of(pid) != {os.SCHED_BATCH}:
            assert time.monotonic() < end
            client.batch_decide(node=NODE, texts=many)
    assert comes(lambda: policies_of(pid) == {os.SCHED_OTHER})
