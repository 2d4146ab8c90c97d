"""A worker that hangs is known by its parent's own ticks, and says where, whoever holds the lock."""

import faulthandler
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cascade.server import checks, hung
from cascade.server.heart import Heart, Pulse
from cascade.server.hung import HangWatch, where_it_is, why_silent, without_repetitions
from cascade.server.worker_process import Worker
from tests.soon import comes

LONG = 30.0


def silence(*looks: tuple[int, float]) -> list[float]:
    pulse = Pulse()
    return [pulse.look(beats, now) for beats, now in looks]


def test_silence_is_counted_from_look_to_look_until_the_next_beat() -> None:
    assert silence((1, 100.0), (1, 101.0), (1, 102.5), (2, 103.0), (2, 104.0)) == [0, 1, 2.5, 0, 1]


def test_time_in_which_nobody_looked_is_no_silence() -> None:
    """The machine was suspended, or parent and workers were stopped together."""
    assert silence((1, 100.0), (1, 101.0), (1, 5000.0), (2, 5001.0)) == [0, 1, 3, 0]


class Watched:
    """A watch over a worker, a clock, and what was sent to the worker."""

    def __init__(self, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
        self.watch, self.now, self.sent = HangWatch(seconds), 1000.0, list[signal.Signals]()
        self.heart = Heart()
        self.worker = Worker(0, 0, os.getpid(), -1, self.heart)
        monkeypatch.setattr(hung, "_send", lambda _, number: self.sent.append(number))

    def pass_by(self, seconds: int, *, beating: bool, step: float = 1.0) -> None:
        for _ in range(seconds):
            self.now += step
            if beating:
                self.heart.beat()
            self.watch.look([self.worker], self.now)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], Watched]]:
    made: list[Watched] = []

    def make(seconds: float) -> Watched:
        made.append(Watched(seconds, monkeypatch))
        return made[-1]

    yield make
    for each in made:
        each.heart.close()


def test_a_silent_worker_is_asked_where_it_is_and_then_killed_once(
    watched: Callable[[float], Watched], caplog: pytest.LogCaptureFixture
) -> None:
    over = watched(30)
    over.pass_by(100, beating=True)
    over.pass_by(29, beating=False)
    assert over.sent == []
    over.pass_by(1, beating=False)
    assert over.sent == [signal.SIGUSR2]
    over.pass_by(10, beating=False)
    assert over.sent == [signal.SIGUSR2, signal.SIGKILL]
    assert over.worker.hung
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert f"worker 0 (pid {os.getpid()}) hangs: silent for 31 s" in caplog.text


def test_one_that_beats_again_is_not_killed(
    watched: Callable[[float], Watched], caplog: pytest.LogCaptureFixture
) -> None:
    over = watched(30)
    over.pass_by(31, beating=False)
    over.pass_by(60, beating=True)
    assert over.sent == [signal.SIGUSR2]
    assert "came round again before it was killed" in caplog.text


def test_where_it_was_an_earlier_time_is_not_where_it_hangs_now(
    watched: Callable[[float], Watched], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = watched(30)
    said = iter(["slow_disk", "endless_loop"])

    def answer(_: Worker, number: signal.Signals) -> None:
        if number == signal.SIGUSR2:
            frame = f'  File "app.py", line 1 in {next(said)}\n'
            os.write(over.heart.stacks, f"Thread 0x1 (most recent call first):\n{frame}".encode())

    monkeypatch.setattr(hung, "_send", answer)
    over.pass_by(31, beating=False)
    over.pass_by(2, beating=True)
    over.pass_by(40, beating=False)
    first, second = (str(record.exc_info) for record in caplog.records)
    assert "slow_disk" in first
    assert "endless_loop" in second
    assert "slow_disk" not in second


def test_whoever_slept_for_an_hour_himself_kills_nobody_for_it(watched: Callable[[float], Watched]) -> None:
    over = watched(30)
    over.pass_by(5, beating=True)
    over.pass_by(3, beating=False, step=3600.0)
    over.pass_by(5, beating=True)
    assert over.sent == []


def test_zero_means_never(watched: Callable[[float], Watched]) -> None:
    over = watched(0)
    over.pass_by(10_000, beating=False)
    assert over.sent == []


def test_the_stacks_name_the_event_loop_s_place_and_the_validator(tmp_path: Path) -> None:
    """As `faulthandler` writes them of this very process."""
    entered, go = threading.Semaphore(0), threading.Event()

    def hungry(ask: Any, value: Any) -> Any:
        return entered.release() or go.wait(LONG)  # in one line, which is then where it is

    def busy_loop() -> None:
        hungry(None, None)

    ask: Any = SimpleNamespace()
    loop = threading.Thread(target=busy_loop)
    threads = [loop, *(threading.Thread(target=checks._refused, args=(hungry, ask, "x", "n")) for _ in "ab")]
    for thread in threads:
        thread.start()
    try:
        for _ in threads:
            assert entered.acquire(timeout=LONG)
        with (tmp_path / "stacks").open("w+") as file:
            faulthandler.dump_traceback(file)
            file.seek(0)
            stacks = file.read()
    finally:
        go.set()
    here = f"hungry ({__file__}, line {hungry.__code__.co_firstlineno + 1})"
    assert where_it_is(stacks, loop.ident or 0) == f"its event loop is in {here}; in a validator: {here}"
    assert "2 thread(s)" in without_repetitions(stacks)


def test_an_event_loop_that_has_no_frame_of_its_own_waits() -> None:
    stacks = """Current thread 0x00007f0000000010 (most recent call first):
  File "/lib/python3.11/selectors.py", line 468 in select
Thread 0x00007f0000000020 (most recent call first):
  File "/lib/python3.11/threading.py", line 982 in run
  File "/lib/python3.11/threading.py", line 1002 in _bootstrap
"""
    assert where_it_is(stacks, 0x7F0000000020).startswith("its event loop waits, for the interpreter's lock")
    assert where_it_is(stacks, 0x7F0000000010) == (
        "its event loop is in select (/lib/python3.11/selectors.py, line 468)"
    )
    assert where_it_is(stacks, 0x30) == "its event loop has no stack"


HOLDS_THE_LOCK = """
import re, sys
from types import SimpleNamespace
from cascade.server.heart import Heart

heart = Heart()
heart.begin(SimpleNamespace(call_soon_threadsafe=lambda call: None))
heart.beat()

def greedy():
    re.match("^(a+)+$", "a" * 40 + "b")  # holds the interpreter's lock for longer than anybody waits

if __name__ == "__main__":
    print(f"/proc/{__import__('os').getpid()}/fd/{heart.stacks}", flush=True)
    greedy()
"""


def test_a_process_whose_interpreter_s_lock_is_held_says_where_it_is(tmp_path: Path) -> None:
    script = tmp_path / "greedy.py"
    script.write_text(HOLDS_THE_LOCK)
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        stacks = Path(process.stdout.readline().strip())

        def said() -> str:
            process.send_signal(signal.SIGUSR2)
            return stacks.read_text()

        try:
            assert comes(lambda: f'File "{script}", line 11 in greedy' in said())
        finally:
            process.kill()


def test_of_one_that_is_stopped_the_kernel_says_why_it_is_silent() -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        try:
            process.send_signal(signal.SIGSTOP)
            assert comes(lambda: "stopped" in why_silent(process.pid))
        finally:
            process.kill()
    assert why_silent(process.pid) == "and does not say where"
