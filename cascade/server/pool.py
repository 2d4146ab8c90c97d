"""The threads that run requests: few at a time, yet never held up by those that only wait."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, TypeVar

from cascade.waiting import set_hooks, waiting

T = TypeVar("T")

_log = logging.getLogger(__name__)

_Task = tuple["Future[Any]", Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class _Worker:
    """One thread: its next task, its alarm clock, and whether it holds one of the places."""

    __slots__ = ("holds", "seen", "task", "turn", "wake")

    def __init__(self) -> None:
        self.wake = threading.Lock()
        self.wake.acquire()
        self.task: _Task | None = None
        self.holds = True
        self.turn = 0
        self.seen = -1


class ElasticPool(Executor):
    """A thread pool in which a thread that waits lends its place to another.

    At most `threads` threads run at a time, because throughput falls with more. A task that is about to wait
    says so with `cascade.waiting.waiting()`; then another thread, woken or started, runs the next task. One
    that comes back from waiting goes on at once; whoever finishes next makes room for it. Threads that are
    not needed any more end by themselves.

    Not all that waits says so: a validator of the user's own may hang. Where a queue stands still, a thread
    that has been at the same task for `stall_seconds` is therefore taken to be waiting.

    The queue is bounded by time: no task should wait for longer than `max_waiting_seconds` at the pace at
    which tasks were lately taken. Whoever submits asks `overfull` first: when a task comes, not when its turn
    has come. Under lasting overload the queue is full by then, and who looked at it then would serve nobody.

    Parameters
    ----------
    threads : int
        How many run at a time.
    max_threads : int
        How many there may be, waiting ones included.
    idle_seconds : float
        After how long an unneeded thread above `threads` ends.
    stall_seconds : float
        After how long in one task a thread loses its place to those that queue.
    max_waiting : int
        How many may queue at most, whatever the pace. While no pace is known, this alone is the bound.
    max_waiting_seconds : float
        How long a task may queue at the present pace.
    """

    def __init__(
        self,
        threads: int = 8,
        max_threads: int = 512,
        idle_seconds: float = 10.0,
        stall_seconds: float = 0.1,
        max_waiting: int = 4096,
        max_waiting_seconds: float = 2.0,
    ) -> None:
        if not 1 <= threads < max_threads:
            raise ValueError(f"threads must be from 1 to below max_threads, {max_threads}; found {threads}")
        self.threads, self.max_threads = threads, max_threads
        self._idle_seconds = idle_seconds
        self.bound = self._most = max_waiting
        """How many may queue now."""
        self._seconds = max_waiting_seconds
        self._pace = 0.0  # tasks taken a second, while some queued
        self._taken = 0
        self._lock = threading.Lock()
        self._queue: deque[_Task] = deque()
        self._idle: list[_Worker] = []
        self._workers: dict[_Worker, threading.Thread] = {}
        self._running = 0  # how many hold a place; above `threads` for as long as some come back from waiting
        self._closed = threading.Event()
        self._on_watch: list[Callable[[], object]] = []
        threading.Thread(
            target=self._watch, args=(stall_seconds,), name="cascade-pool-watch", daemon=True
        ).start()

    @property
    def waiting(self) -> int:
        """How many tasks queue."""
        return len(self._queue)

    @property
    def overfull(self) -> bool:
        """Whether one more task would have to wait too long."""
        return len(self._queue) > self.bound

    @property
    def expected_seconds(self) -> float:
        """How long a task that comes now will queue, at the present pace; 0 where that is not known."""
        return self.waiting / self._pace if self._pace else 0.0

    @property
    def lent(self) -> int:
        """How many threads wait in the middle of a task."""
        return len(self._workers) - len(self._idle) - self._running

    @property
    def mostly_lent(self) -> bool:
        """Whether more than half of all threads that there may be wait in the middle of a task."""
        return self.lent > self.max_threads // 2

    @property
    def size(self) -> int:
        """How many threads there are."""
        return len(self._workers)

    def on_watch(self, look: Callable[[], object]) -> None:
        """Have something called every `stall_seconds`, by the thread that looks after threads that hang."""
        self._on_watch.append(look)

    def blocking(self) -> AbstractContextManager[None]:
        """Lend the current thread's place for a stretch; the same as `cascade.waiting.waiting()`."""
        return waiting()

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Queue a call. Raises RuntimeError after `shutdown`."""
        future: Future[T] = Future()
        started = None
        with self._lock:
            if self._closed.is_set():
                raise RuntimeError("cannot submit to a pool that was shut down")
            self._queue.append((future, fn, args, kwargs))
            if self._running < self.threads:
                started = self._dispatch()
        if started:
            self._start(started)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks, run those that queue unless told to cancel them, and end the threads."""
        with self._lock:
            self._closed.set()
            cancelled = list(self._queue) if cancel_futures else []
            if cancel_futures:
                self._queue.clear()
            for worker in self._idle:
                worker.wake.release()
            self._idle.clear()
            threads = list(self._workers.values())
        for future, *_ in cancelled:
            future.cancel()
            future.set_running_or_notify_cancel()
        if wait:
            for thread in threads:
                if thread is not threading.current_thread():
                    thread.join()

    def _dispatch(self) -> list[_Worker]:
        # Under the lock. Gives the workers whose threads are to be started once the lock is free.
        new = []
        while self._queue and self._running < self.threads:
            if self._idle:
                worker = self._idle.pop()
                worker.task = self._queue.popleft()
                self._taken += 1
                worker.holds = True
                worker.wake.release()
            elif len(self._workers) < self.max_threads:
                worker = _Worker()
                worker.task = self._queue.popleft()
                self._taken += 1
                self._workers[worker] = threading.Thread(
                    target=self._work, args=(worker,), name=f"cascade-{len(self._workers)}", daemon=True
                )
                new.append(worker)
            else:
                break
            self._running += 1
        return new

    def _start(self, workers: list[_Worker]) -> None:
        for worker in workers:
            try:
                self._workers[worker].start()
            except RuntimeError:  # the system has no more threads: those that there are go on
                _log.warning("cannot start thread %d", len(self._workers), exc_info=True)
                with self._lock:
                    del self._workers[worker]
                    self._running -= 1
                    assert worker.task is not None
                    self._queue.appendleft(worker.task)

    def _work(self, worker: _Worker) -> None:
        set_hooks(partial(self._lend, worker), partial(self._take_back, worker))
        lock, queue = self._lock, self._queue
        task = worker.task
        worker.task = None
        while task is not None:
            _run(task)
            # A task must not live on in an idle thread.
            task = None
            with lock:
                worker.turn += 1
                if not worker.holds:
                    worker.holds = True
                    self._running += 1
                if queue and self._running <= self.threads:
                    task = queue.popleft()
                    self._taken += 1
                    continue
                worker.holds = False
                self._running -= 1
                if self._closed.is_set():
                    del self._workers[worker]
                    return
                self._idle.append(worker)
            task = self._sleep(worker)

    def _sleep(self, worker: _Worker) -> _Task | None:
        while not worker.wake.acquire(timeout=self._idle_seconds):
            with self._lock:
                if worker in self._idle and len(self._workers) > self.threads:
                    self._idle.remove(worker)
                    del self._workers[worker]
                    return None
        task, worker.task = worker.task, None
        if task is None:
            with self._lock:
                self._workers.pop(worker, None)
        return task

    def _lend(self, worker: _Worker) -> None:
        with self._lock:
            if not worker.holds:
                return
            worker.holds = False
            self._running -= 1
            new = self._dispatch() if self._queue else None
        if new:
            self._start(new)

    def _take_back(self, worker: _Worker) -> None:
        with self._lock:
            if not worker.holds:
                worker.holds = True
                self._running += 1

    def _watch(self, stall_seconds: float) -> None:
        before, queued = time.monotonic(), False
        told: list[Callable[[], object]] = []
        while not self._closed.wait(stall_seconds):
            for look in self._on_watch:
                try:
                    look()
                except Exception:  # else nothing that hangs would ever be noticed again
                    if look not in told:  # once: this comes ten times a second
                        told.append(look)
                        _log.exception("looking after what hangs failed")
            with self._lock:
                now, taken, self._taken = time.monotonic(), self._taken, 0
                # The threads were busy all the while, so that this is their pace. Where none took a task they
                # all hang; what is taken in their places below is no pace either.
                if queued and self._queue and taken:
                    self._set_pace(taken / max(now - before, 1e-3))
                before, queued = now, bool(self._queue)
                if not queued:
                    continue
                for worker in self._workers:
                    if worker.holds and worker.turn == worker.seen:
                        worker.holds = False
                        self._running -= 1
                    worker.seen = worker.turn
                new = self._dispatch()
                self._taken = 0
            self._start(new)

    def _set_pace(self, pace: float) -> None:
        self._pace = 0.7 * self._pace + 0.3 * pace if self._pace else pace
        # A few for each thread always: a pace that was measured in a bad moment must not close the door.
        self.bound = min(self._most, max(4 * self.threads, round(self._pace * self._seconds)))


def _run(task: _Task) -> None:
    future, fn, args, kwargs = task
    del task
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = fn(*args, **kwargs)
    except BaseException as error:
        future.set_exception(error)
        # The error's traceback leads to this frame: with the future in it, all that a failed call holds, its
        # place on the connection too, would be held until the garbage collector comes.
        del future
    else:
        future.set_result(result)
