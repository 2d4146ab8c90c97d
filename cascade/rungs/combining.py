"""Adaptive batching: whoever waits for the same model is served together, and nobody waits when idle."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, Self, TypeVar

from cascade.waiting import waiting


class Results(Protocol):
    """What a model says of n texts; a slice of it is what it says of some of them. NumPy arrays are such."""

    def __getitem__(self, part: slice, /) -> Self: ...


R = TypeVar("R", bound=Results)


class _Waiting(Generic[R]):
    __slots__ = ("error", "results", "texts")

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        self.results: R | None = None
        self.error: Exception | None = None


class Combining(Generic[R]):
    """Lets one thread at a time run a model, for itself and for all who wait.

    A caller who finds the model idle runs it at once in its own thread. Those who come meanwhile queue;
    the first of them to get the model takes everything that waits, up to `max_batch` texts, in one call
    (flat combining). So batches grow with the load, and there is neither a delay nor a hop between threads.

    Parameters
    ----------
    run : callable
        Texts in, results out; what is said of a text does not depend on its batch.
    max_batch : int
        Largest number of texts in a call, unless one caller alone brings more.

    References
    ----------
    Hendler, Incze, Shavit, Tzafrir, "Flat Combining and the Synchronization-Parallelism Tradeoff", SPAA 2010.
    """

    def __init__(self, run: Callable[[Sequence[str]], R], max_batch: int = 32) -> None:
        self._run = run
        self._max_batch = max_batch
        self._queue: deque[_Waiting[R]] = deque()
        self._running = threading.Lock()

    def __call__(self, texts: Sequence[str]) -> R:
        """Give what the model says of texts."""
        mine: _Waiting[R] = _Waiting(texts)
        self._queue.append(mine)
        if not self._running.acquire(blocking=False):
            with waiting():
                self._running.acquire()
        try:
            while mine.results is None and mine.error is None:
                self._run_next()
        finally:
            self._running.release()
        if mine.error is not None:
            raise mine.error
        assert mine.results is not None
        return mine.results

    def _run_next(self) -> None:
        batch = [self._queue.popleft()]
        size = len(batch[0].texts)
        while self._queue and size + len(self._queue[0].texts) <= self._max_batch:
            batch.append(self._queue.popleft())
            size += len(batch[-1].texts)
        texts = batch[0].texts if len(batch) == 1 else [text for item in batch for text in item.texts]
        try:
            results = self._run(texts)
        except Exception as error:
            for item in batch:
                item.error = error
            return
        if len(batch) == 1:
            batch[0].results = results
            return
        start = 0
        for item in batch:
            item.results = results[start : start + len(item.texts)]
            start += len(item.texts)
