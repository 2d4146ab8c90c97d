"""Workers that hang: noticed by their silence, asked where they are, killed, and so replaced."""

from __future__ import annotations

import logging
import os
import re
import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from cascade.server.heart import SIGNAL
from cascade.server.worker_process import Worker

_log = logging.getLogger(__name__)

_ASK_SECONDS = 1.0
"""How long a worker may take to write down where its threads are."""

_MOST_SHOWN = 16_000
_FRAME = re.compile(r'  File "(.*)", line (\d+) in (.*)')
_THREAD = re.compile(r"(?:Current thread|Thread) (0x[0-9a-f]+)[^\n]*:\n((?:  .*\n?)*)")
_ASKER = ("cascade/server/checks.py", "_refused")
"""The function that asks the users' validators (`cascade.server.checks`)."""

_AROUND = ("/contextlib.py", "/server/watchdog.py")
"""What it calls besides."""

_STATES = {
    "T": "it is stopped, by SIGSTOP or a terminal",
    "t": "a debugger holds it",
    "D": "it waits in the kernel",
}
"""By the letters of proc(5)."""


class Stacks(Exception):
    """Where the threads of a worker were: for the log, which knows stack traces as those of errors."""


class HangWatch:
    """Kills workers whose event loop does not come round.

    Parameters
    ----------
    seconds : float
        How long a worker may be silent; 0 for ever.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def look(self, workers: Iterable[Worker], now: float) -> None:
        """Look after workers that serve, and neither start nor drain; every second."""
        if not self.seconds:
            return
        for worker in workers:
            silent = worker.pulse.look(worker.heart.beats, now)
            if worker.hung:
                continue
            if worker.asked is None:
                if silent >= self.seconds:
                    worker.asked = now
                    worker.heart.forget_stacks()  # of an earlier time, when it came round again
                    _send(worker, SIGNAL)
            elif silent < self.seconds:
                worker.asked = None
                self._tell(logging.WARNING, worker, "hung, and came round again before it was killed")
            elif now - worker.asked >= _ASK_SECONDS:
                worker.hung = True
                self._tell(logging.ERROR, worker, f"hangs: silent for {silent:.0f} s; it is killed")
                _send(worker, signal.SIGKILL)

    def _tell(self, level: int, worker: Worker, what: str) -> None:
        stacks = worker.heart.read_stacks()
        where = where_it_is(stacks, worker.heart.thread) if stacks else why_silent(worker.pid)
        shown = Stacks("\n" + without_repetitions(stacks)) if stacks else None
        _log.log(level, "worker %d (pid %d) %s: %s", worker.index, worker.pid, what, where, exc_info=shown)


def _send(worker: Worker, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(worker.pid, number)


def where_it_is(stacks: str, loop: int) -> str:
    """Say in a line where a process hangs.

    Parameters
    ----------
    stacks : str
        Of all threads, as `faulthandler` writes them.
    loop : int
        The thread of the event loop that does not come round.
    """
    said = "its event loop has no stack"
    validators = []
    for thread, lines in _THREAD.findall(stacks):
        frames = _FRAME.findall(lines)
        if int(thread, 16) == loop:
            # What is no Python has no frame: there is uvloop, below the frames of the thread itself.
            inside = [frame for frame in frames if not frame[0].endswith("/threading.py")]
            said = "its event loop waits, for the interpreter's lock if another thread is at work"
            if inside:
                said = f"its event loop is in {_named(inside[0])}"
        called = [i for i, frame in enumerate(frames) if _asks_validator(frame)]
        if called and called[0] > 0 and not frames[called[0] - 1][0].endswith(_AROUND):
            validators.append(_named(frames[called[0] - 1]))
    if validators:
        names = sorted(set(validators))
        said += f"; in a validator: {', '.join(names[:5])}"
    return said


def _named(frame: tuple[str, str, str]) -> str:
    file, line, function = frame
    return f"{function} ({file}, line {line})"


def _asks_validator(frame: tuple[str, str, str]) -> bool:
    return frame[0].endswith(_ASKER[0]) and frame[2] == _ASKER[1]


def without_repetitions(stacks: str) -> str:
    """Give stacks, each once: most threads of a pool wait at the same place."""
    found: dict[str, int] = {}
    for _, lines in _THREAD.findall(stacks):
        found[lines] = found.get(lines, 0) + 1
    head = "%d thread(s), most recent call first:\n"
    return "".join(head % many + lines for lines, many in found.items())[:_MOST_SHOWN]


def why_silent(pid: int) -> str:
    """Say why a process does not even say where it is."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1]
    except OSError:
        state = ""
    return _STATES.get(state, "and does not say where")
