"""Shadow: a candidate runs on requests that others answer, after they were answered, and is compared."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from cascade.ask import Ask
from cascade.bundle import Bundle
from cascade.contract import JsonValue
from cascade.errors import StoreError
from cascade.policy.guarded_slices import GuardedSlices
from cascade.rollout.records import ShadowRun
from cascade.rollout.store import RolloutStore

_log = logging.getLogger(__name__)

_BATCH = 16
_LOG_EVERY = 30.0


class Walked(Protocol):
    """What a bundle's local rungs made of a request; `rung` is empty where none of them settled it."""

    @property
    def output(self) -> JsonValue:
        """The answer, where one settled."""

    @property
    def rung(self) -> str:
        """The rung that settled."""

    @property
    def confidence(self) -> float | None:
        """The acceptor's P(right) of it."""


@dataclass(frozen=True, slots=True)
class Beside:
    """A request that a candidate is to run on.

    Attributes
    ----------
    decision_id : str
    ask : Ask
    bundle : Bundle
        The candidate.
    step : int
        The rollout's step.
    by_teacher : bool
        Whether the teacher answered the caller.
    output : JSON value
        What the caller was answered.
    propensity : float
        With which probability this request counts as evidence on the candidate; 0 where it does not.
    life : int, optional
        The life that the candidate is in.
    """

    decision_id: str
    ask: Ask
    bundle: Bundle
    step: int
    by_teacher: bool
    output: JsonValue
    propensity: float
    life: int | None = None


@dataclass(slots=True)
class ShadowCounts:
    """What became of requests for shadow: run, dropped because too many waited, lost because of the store."""

    run: int = 0
    dropped: int = 0
    lost: int = 0


class ShadowRunner:
    """Runs candidates in a thread of its own, on a bounded queue.

    Parameters
    ----------
    walk : callable
        Takes a node's name, its requests and a bundle up the bundle's local rungs.
    store : RolloutStore
    size : int
        Requests that may wait; further ones are dropped and counted.
    """

    def __init__(
        self,
        walk: Callable[[str, Sequence[Ask], Bundle], Sequence[Walked]],
        store: RolloutStore,
        size: int,
    ) -> None:
        self.counts = ShadowCounts()
        self._walk = walk
        self._store = store
        self._size = size
        self._queue: deque[Beside] = deque()
        self._unwritten: list[ShadowRun] = []
        self._wake = threading.Event()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._last_log = float("-inf")

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._queue)

    def start(self) -> None:
        """Run in the background."""
        self._thread = threading.Thread(target=self._work, name="shadow", daemon=True)
        self._thread.start()

    def offer(self, beside: Beside) -> None:
        """Take a request, or drop and count it. Never waits."""
        if len(self._queue) >= self._size or self._ended.is_set():
            self.counts.dropped += 1
            return
        self._queue.append(beside)
        self._wake.set()

    def run_waiting(self) -> int:
        """Run what waits, now; give how many were run."""
        ran = 0
        while self._queue:
            first = self._queue[0]
            same = [
                b for b in islice(self._queue, _BATCH)
                if b.bundle is first.bundle and b.ask.node == first.ask.node
            ]  # fmt: skip
            batch = same if len(same) == min(len(self._queue), _BATCH) else [first]
            for _ in batch:
                self._queue.popleft()
            self._run(batch)
            ran += len(batch)
        self._write()
        return ran

    def close(self) -> None:
        """End; what still waits is dropped and counted."""
        self._ended.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(10)
        self.counts.dropped += len(self._queue)
        self._queue.clear()

    def _work(self) -> None:
        while not self._ended.is_set():
            self._wake.wait(1.0)
            self._wake.clear()
            try:
                self.run_waiting()
            except Exception:  # a candidate must not end the thread that runs candidates
                _log.exception("running candidates beside failed")

    def _run(self, batch: list[Beside]) -> None:
        first = batch[0]
        began = time.perf_counter()
        try:
            walks = self._walk(first.ask.node, [b.ask for b in batch], first.bundle)
        except Exception:
            _log.exception("node %s: candidate %s failed beside", first.ask.node, first.bundle.version)
            self.counts.lost += len(batch)
            return
        spent = (time.perf_counter() - began) * 1e3 / len(batch)
        now = time.time()
        for beside, walk in zip(batch, walks, strict=True):
            compared = bool(walk.rung) and beside.by_teacher
            slices = GuardedSlices.from_certificate(beside.bundle.manifest["certificate"])
            self._unwritten.append(
                ShadowRun(
                    beside.decision_id,
                    beside.ask.node,
                    beside.bundle.version,
                    beside.step,
                    now,
                    walk.output if walk.rung else None,
                    walk.rung,
                    walk.confidence,
                    spent,
                    slices.of(walk.output, beside.ask.context) if walk.rung else (),
                    right=walk.output == beside.output if compared else None,
                    propensity=beside.propensity if compared else 0.0,
                    life=beside.life,
                )
            )
        self.counts.run += len(batch)
        if len(self._unwritten) >= 256:
            self._write()

    def _write(self) -> None:
        if not self._unwritten:
            return
        try:
            self._store.add_shadows(self._unwritten)
            self._unwritten = []
        except StoreError as error:  # kept for the next time, up to a limit
            over = max(0, len(self._unwritten) - self._size)
            self.counts.lost += over
            del self._unwritten[:over]
            if time.monotonic() - self._last_log >= _LOG_EVERY:
                self._last_log = time.monotonic()
                _log.error("what candidates answered beside cannot be written: %s", error)
