"""A worker that cannot live does not take the machine: pauses double to a bound, for each index by itself."""

from types import SimpleNamespace
from typing import Any

import pytest

from cascade.server import supervisor as supervisor_module
from cascade.server.heart import Heart
from cascade.server.pauses import STABLE_SECONDS, Pauses
from cascade.server.supervisor import Supervisor
from cascade.server.worker_process import Worker


def test_pauses_double_to_the_longest() -> None:
    pauses = Pauses(first=0.1, longest=10.0)
    given = [pauses.after_death(0, lived=1.0) for _ in range(9)]
    assert given == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0])


def test_each_index_has_its_own_and_whoever_lived_for_long_begins_anew() -> None:
    pauses = Pauses(first=0.5, longest=10.0)
    assert [pauses.after_death(0, 0.0) for _ in range(3)] == [0.5, 1.0, 2.0]
    assert pauses.after_death(1, 0.0) == 0.5
    assert pauses.after_death(0, STABLE_SECONDS - 0.1) == 4.0
    assert pauses.after_death(0, STABLE_SECONDS) == 0.5
    assert pauses.after_death(0, 0.0) == 1.0


def test_the_supervisor_starts_a_worker_that_dies_again_and_again_ever_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = 1000.0
    monkeypatch.setattr(supervisor_module, "time", SimpleNamespace(monotonic=lambda: now))
    run: Any = None
    supervisor = Supervisor(run, 1, first_pause=0.1, longest_pause=0.5)
    waited = []
    heart = Heart()
    for lived in (1.0, 1.0, 1.0, 1.0, 60.0):
        worker = Worker(0, 0, 4242, -1, heart, began=now)
        now += lived
        supervisor._ended(worker, -9)
        waited.append(supervisor._due.pop(0) - now)
    heart.close()
    assert waited == pytest.approx([0.1, 0.2, 0.4, 0.5, 0.1])
    assert "worker 0 (pid 4242) ended by SIGKILL; it is started again in 0.4 s" in caplog.text
