"""Adaptive batching: whoever waits for the same model is served together, and nobody waits when idle."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, Self, TypeVar

from cascade.rungs.protocol import NobodyWaits
from cascade.waiting import waiting


class Results(Protocol):
    """What a model says of n texts; a slice of it is what it says of some of them. NumPy arrays are such."""

    def __getitem__(self, part: slice, /) -> Self: ...


R = TypeVar("R", bound=Results)


class _Waiting(Generic[R]):
    __slots__ = ("choose", "error", "results", "texts")

    def __init__(self, texts: Sequence[str], choose: Callable[[], Sequence[str]] | None) -> None:
        self.texts = texts
        self.choose = choose
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
        return self._wait(_Waiting(texts, None))

    def of_awaited(self, texts: Sequence[str], awaited: Callable[[int], bool]) -> tuple[list[int], R]:
        """Give what the model says of those texts that are still awaited when it is their turn.

        Parameters
        ----------
        texts : sequence of str
        awaited : callable
            Says of a text's place whether anybody waits for it; called once, in any thread.

        Returns
        -------
        places : list of int
            Those texts'.
        results : R
            What is said of them.

        Raises
        ------
        NobodyWaits
            There are none; the model was not run for them.
        """
        places: list[int] = []

        def still() -> Sequence[str]:
            places.extend(place for place in range(len(texts)) if awaited(place))
            return texts if len(places) == len(texts) else [texts[place] for place in places]

        results = self._wait(_Waiting(texts, still))
        return places, results

    def _wait(self, mine: _Waiting[R]) -> R:
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
        batch: list[_Waiting[R]] = []
        size = 0
        while self._queue and (not size or size + len(self._queue[0].texts) <= self._max_batch):
            item = self._queue.popleft()
            if item.choose is not None:
                item.texts = item.choose()
                if not item.texts:
                    item.error = NobodyWaits()
                    continue
            batch.append(item)
            size += len(item.texts)
        if not batch:
            return
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
