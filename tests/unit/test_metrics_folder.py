"""The workers' folder of metrics goes with its service; that of a killed service with the next one."""

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cascade.server.metrics_folder import VARIABLE, metrics_folder, remove_of_the_dead

HOLDS = (
    "import os, sys, time\n"
    "from cascade.server.metrics_folder import metrics_folder, VARIABLE\n"
    "with metrics_folder():\n"
    "    if os.fork() == 0:\n"  # a worker, which has the lock as well
    "        sys.stdin.read(); os._exit(0)\n"
    "    print(os.environ[VARIABLE], flush=True)\n"
    "    time.sleep(600)\n"
)


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.delenv(VARIABLE, raising=False)
    return tmp_path


@pytest.fixture
def service() -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A service in a process of its own, with one worker; and its folder."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process, Path(process.stdout.readline().strip())
        process.kill()


def test_it_is_there_while_the_service_is_and_gauges_of_an_ended_worker_go(temporary: Path) -> None:
    with metrics_folder() as forget:
        folder = Path(os.environ[VARIABLE])
        assert folder.parent == temporary
        for name in ("gauge_livesum_7.db", "gauge_livesum_77.db", "counter_7.db"):
            (folder / name).touch()
        forget(7)
        assert {path.name for path in folder.glob("*.db")} == {"gauge_livesum_77.db", "counter_7.db"}
    assert VARIABLE not in os.environ
    assert list(temporary.iterdir()) == []


def test_one_that_the_environment_names_is_the_operators(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(temporary))
    with metrics_folder():
        assert list(temporary.iterdir()) == []
    assert os.environ[VARIABLE] == str(temporary)


def test_that_of_a_killed_service_goes_with_the_next_once_its_workers_are_gone(
    service: tuple[subprocess.Popen[str], Path], temporary: Path
) -> None:
    process, folder = service
    (folder / "counter_7.db").touch()
    remove_of_the_dead()
    assert folder.is_dir()
    assert process.stdin is not None
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    remove_of_the_dead()
    assert folder.is_dir()  # its worker lives still, and counts there
    process.stdin.close()
    assert process.stdout is not None
    assert process.stdout.read() == ""  # the worker has ended
    with metrics_folder():
        assert not folder.exists()
        assert list(temporary.iterdir()) == [Path(os.environ[VARIABLE])]


def test_what_may_be_somebody_elses_is_left_alone(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without = temporary / "cascade-metrics-without"  # of an earlier version, which may run
    without.mkdir()
    theirs = temporary / "cascade-metrics-theirs"
    theirs.mkdir()
    (theirs / "service.lock").touch()
    behind = temporary / "behind"
    behind.mkdir()
    (behind / "service.lock").touch()
    (temporary / "cascade-metrics-link").symlink_to(behind)
    with monkeypatch.context() as patched:
        patched.setattr(os, "getuid", lambda: theirs.stat().st_uid + 1)
        remove_of_the_dead()
    assert theirs.is_dir()
    remove_of_the_dead()
    assert not theirs.exists()  # so it was the owner that saved it
    assert without.is_dir()
    assert (behind / "service.lock").is_file()


def test_it_is_locked_before_another_that_begins_can_take_it_for_one_of_the_dead(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, others = fcntl.flock, [remove_of_the_dead]

    def a_moment_late(descriptor: int, operation: int) -> None:
        while others:
            others.pop()()
        lock(descriptor, operation)

    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "flock", a_moment_late)
        with metrics_folder():
            remove_of_the_dead()
            assert Path(os.environ[VARIABLE]).is_dir()
