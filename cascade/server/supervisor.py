"""Worker processes: one parent starts, watches, restarts and replaces them, and itself serves nothing.

Workers are forked from a parent that has loaded the models, so the weights are in memory once, for as long as
nobody writes to their pages. The parent starts no thread and no gRPC before a fork. All workers listen on
the same port (SO_REUSEPORT); the kernel spreads connections over them.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress

from cascade.errors import ConfigError
from cascade.heap import trim
from cascade.server import sd_notify
from cascade.server.heart import Heart
from cascade.server.hung import HangWatch
from cascade.server.pauses import Pauses
from cascade.server.worker_process import EXIT_CONFIG, Facts, RunWorker, Worker, be_worker

_log = logging.getLogger(__name__)

_KILL_AFTER = 5.0


class Supervisor:
    """Keeps a number of workers running.

    Parameters
    ----------
    run : callable
        What a worker does; called in the child. See `RunWorker`.
    workers : int
        How many there are.
    drain_seconds : float
        How long workers may take to finish their calls once told to stop.
    reload : callable, optional
        Called in the parent at SIGHUP. Gives what new workers run; the old ones are drained once all new ones
        serve. Raises ConfigError to keep everything as it is.
    on_exit : callable, optional
        Told the process id of every worker that ended.
    first_pause, longest_pause : float
        Seconds before a worker that died is started again; doubles with each death of its index until one
        lives for 30 s.
    hang_seconds : float
        How long the event loop of a worker may not come round before it is killed and replaced; 0 for ever.
        What the workers run has to begin its heart.
    ready_seconds : float
        How long a worker of a reload may take to serve before the reload is given up.
    """

    def __init__(
        self,
        run: RunWorker,
        workers: int,
        drain_seconds: float = 10.0,
        reload: Callable[[], RunWorker] | None = None,
        on_exit: Callable[[int], None] | None = None,
        first_pause: float = 0.1,
        longest_pause: float = 10.0,
        hang_seconds: float = 0.0,
        ready_seconds: float = 120.0,
    ) -> None:
        self._run, self._reload, self._on_exit = run, reload, on_exit
        self._count = workers
        self._drain_seconds = drain_seconds
        self._ready_seconds = ready_seconds
        self._hangs = HangWatch(hang_seconds)
        self._workers: dict[int, Worker] = {}
        self._pauses = Pauses(first_pause, longest_pause)
        self._due: dict[int, float] = {}  # index: when it is started again
        self._after: dict[int, str] = {}  # index: after what
        self._generation = 0
        self._stopping = self._failed = False
        self._told = False
        self._kill_at: float | None = None
        self._reload_until: float | None = None
        self._previous: RunWorker | None = None

    def serve(self, on_ready: Callable[[Facts], None] | None = None) -> int:
        """Run until SIGTERM or SIGINT, then drain. Gives the exit code. For the main thread.

        Parameters
        ----------
        on_ready : callable, optional
            Called once when all workers serve for the first time, with what one of them says.
        """
        wake_read, wake_write = os.pipe()
        for end in (wake_read, wake_write):
            os.set_blocking(end, False)
        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
        self._handlers = {number: signal.signal(number, lambda *_: None) for number in numbers}
        self._wake = (wake_read, wake_write)
        before_fd = signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        _settle_memory()
        try:
            for index in range(self._count):
                self._start(index, "start")
            while self._workers or not self._stopping:
                self._turn(wake_read, on_ready)
        finally:
            for worker in self._workers.values():
                with suppress(ProcessLookupError):
                    os.kill(worker.pid, signal.SIGKILL)
            gc.unfreeze()
            signal.set_wakeup_fd(before_fd)
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            os.close(wake_read)
            os.close(wake_write)
        return EXIT_CONFIG if self._failed else 0

    def _turn(self, wake_read: int, on_ready: Callable[[Facts], None] | None) -> None:
        pipes = {worker.pipe: worker for worker in self._workers.values() if not worker.ready}
        readable, _, _ = select.select([wake_read, *pipes], [], [], self._patience())
        for pipe in readable:
            if pipe in pipes:
                pipes[pipe].said += os.read(pipe, 65536)
        if wake_read in readable:
            for number in os.read(wake_read, 4096):
                self._signal(signal.Signals(number))
        self._reap()
        now = time.monotonic()
        for index in [index for index, due in self._due.items() if due <= now and not self._stopping]:
            del self._due[index]
            self._start(index, self._after.pop(index, "death"))
        if not self._told and not self._stopping and self._all_ready():
            self._told = True
            if on_ready:
                on_ready(json.loads(next(iter(self._workers.values())).said))
            sd_notify.ready(f"{self._count} workers serve")
        if not self._stopping:
            serving = [w for w in self._workers.values() if w.ready and w.generation == self._generation]
            self._hangs.look(serving, now)
        self._finish_reload(now)
        if self._kill_at is not None and now >= self._kill_at:
            _log.error("%d workers did not drain in time and are killed", len(self._workers))
            self._send(signal.SIGKILL)
            self._kill_at = None

    def _patience(self) -> float | None:
        times = [*self._due.values(), *(t for t in (self._kill_at, self._reload_until) if t is not None)]
        if not times:
            often = self._hangs.seconds or any(not worker.ready for worker in self._workers.values())
            return 1.0 if often else 5.0
        return min(1.0, max(0.0, min(times) - time.monotonic()))

    def _all_ready(self) -> bool:
        mine = [w for w in self._workers.values() if w.generation == self._generation]
        return len(mine) == self._count and all(worker.ready for worker in mine)

    def _signal(self, number: signal.Signals) -> None:
        if number in (signal.SIGTERM, signal.SIGINT):
            if not self._stopping:
                _log.info("%s: draining %d workers", number.name, len(self._workers))
                sd_notify.stopping(f"draining {len(self._workers)} workers")
                self._kill_at = time.monotonic() + self._drain_seconds + _KILL_AFTER
            self._stopping = True
            self._reload_until = None  # whoever waits for it hears of the stop, not of an end after it
            self._due.clear()
            self._send(signal.SIGTERM)  # a second one makes workers end at once
        elif number == signal.SIGHUP and not self._stopping:
            self._begin_reload()

    def _send(self, number: signal.Signals, generation: int | None = None) -> None:
        for worker in self._workers.values():
            if generation is None or worker.generation == generation:
                with suppress(ProcessLookupError):
                    os.kill(worker.pid, number)

    def _begin_reload(self) -> None:
        if self._reload is None or self._reload_until is not None:
            _log.warning(
                "SIGHUP is ignored: %s", "a reload is under way" if self._reload else "not reloadable"
            )
            return
        sd_notify.reloading("reads the new configuration")
        try:
            run = self._reload()
        except ConfigError as error:
            why = "; ".join(str(error).splitlines())
            _log.error("the new configuration is refused, the old one keeps serving: %s", why)
            sd_notify.ready(f"the new configuration is refused, the old one keeps serving: {why}")
            return
        self._previous, self._run = self._run, run
        self._generation += 1
        self._due.clear()
        self._reload_until = time.monotonic() + self._ready_seconds
        _settle_memory()
        for index in range(self._count):
            self._start(index, "reload")

    def _finish_reload(self, now: float) -> None:
        if self._reload_until is None:
            return
        if self._all_ready():
            _log.info("the new configuration is served by %d workers; the old ones drain", self._count)
            sd_notify.ready(f"{self._count} workers serve the new configuration")
            self._reload_until = self._previous = None
            trim()  # no more: a collection would write to the pages that the new workers share
            for worker in self._workers.values():
                if worker.generation < self._generation:
                    with suppress(ProcessLookupError):
                        os.kill(worker.pid, signal.SIGTERM)
        elif now >= self._reload_until:
            self._give_up_reload("its workers did not serve in time")

    def _give_up_reload(self, why: str) -> None:
        _log.error("the new configuration is given up, the old one keeps serving: %s", why)
        sd_notify.ready(f"the new configuration is given up, the old one keeps serving: {why}")
        assert self._previous is not None
        self._send(signal.SIGKILL, self._generation)
        self._run, self._previous, self._reload_until = self._previous, None, None
        self._due.clear()
        # The old workers are the current generation again; the killed ones must not be replaced.
        self._generation += 1
        for worker in self._workers.values():
            if worker.generation == self._generation - 2:
                worker.generation = self._generation
        missing = set(range(self._count)) - {
            w.index for w in self._workers.values() if w.generation == self._generation
        }
        for index in missing:  # one that died in the middle of it
            self._due[index] = time.monotonic()

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            worker = self._workers.pop(pid, None)
            if worker is not None:
                with suppress(BlockingIOError):
                    worker.said += os.read(worker.pipe, 65536)
                os.close(worker.pipe)
                worker.heart.close()
                if self._on_exit:
                    self._on_exit(pid)
                self._ended(worker, os.waitstatus_to_exitcode(status))

    def _ended(self, worker: Worker, code: int) -> None:
        if self._stopping or worker.generation != self._generation:
            return
        if self._reload_until is not None:
            how = f"cannot serve: {worker.complaint}" if worker.complaint else f"ended with code {code}"
            self._give_up_reload(f"worker {worker.index} {how} before all served")
            return
        if worker.complaint:
            _log.error("worker %d cannot serve: %s", worker.index, worker.complaint)
        if code == EXIT_CONFIG and not self._told:
            self._failed = self._stopping = True
            self._kill_at = time.monotonic() + self._drain_seconds + _KILL_AFTER
            self._send(signal.SIGTERM)
            return
        now = time.monotonic()
        pause = self._pauses.after_death(worker.index, now - worker.began)
        self._due[worker.index] = now + pause
        self._after[worker.index] = "hang" if worker.hung else "death"
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with code {code}"
        _log.error(
            "worker %d (pid %d) ended %s; it is started again in %.1f s", worker.index, worker.pid, how, pause
        )

    def _start(self, index: int, after: str) -> None:
        heart = Heart()
        ours, theirs = os.pipe()
        os.set_blocking(ours, False)
        # A signal that came before the child has its own handlers would be lost.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, self._handlers)
        pid = os.fork()
        if pid == 0:
            others = [fd for worker in self._workers.values() for fd in (worker.pipe, worker.heart.stacks)]
            not_mine = (*self._wake, ours, *others)
            be_worker(self._work, index, theirs, heart, after, not_mine, self._handlers, before)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(theirs)
        self._workers[pid] = Worker(index, self._generation, pid, ours, heart)

    def _work(self, index: int, tell_ready: Callable[[Facts], None], heart: Heart) -> int:
        """Do what a worker does. In the child."""
        if self._previous is not None:  # of a reload: the old workers' models, which this one never needs
            self._previous = None
            trim()
        return self._run(index, tell_ready, heart)


def _settle_memory() -> None:
    """Collect what is not needed, and put the rest where no collection writes to the pages workers share."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    trim()
