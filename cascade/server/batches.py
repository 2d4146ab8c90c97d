"""Adaptive batching of whole decisions: whoever waits to be decided is decided together.

Of the cost of a decision most is that of calling things once: numpy, onnxruntime, Python's own functions, a
change of threads. So one thread at a time decides what waits, all of it together, and while it does the next
ones gather. There is no delay when idle: a question that finds nobody at work is decided at once, alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import count

from cascade.ask import Ask
from cascade.errors import CascadeError
from cascade.server.alone import Alone, Tell, decide_all, left, run_later
from cascade.server.deciding import Deciding
from cascade.server.entrance import submit
from cascade.server.gate import overloaded
from cascade.server.pool import ElasticPool
from cascade.server.tenant_turns import TenantTurns
from cascade.server.yielding import Yielding

MOST = 128
"""Questions that are decided together at most, while few wait."""

MOST_OF_MANY = 256
"""Likewise, where twice as many wait: those who wait longest then wait for fewer changes of threads."""

_FEW = 64
_PASSES = 4


class Batches:
    """Decides questions in the pool's threads, those that wait together in one.

    What takes long is left to threads of its own: the work of a batch from its first slow rung on, and all
    questions to nodes that the engine wants to decide alone. Whoever waits for the teacher holds none. A
    batch that does not get on for all that loses its turn after `stall_seconds`. Where more wait than one
    batch takes, tenants take turns.

    Under load a batch is not begun before the event loop has nothing new to read: requests that are in the
    socket already would else wait for the next one. That takes some turns of the loop, and no time when the
    last batch held a single question.

    Parameters
    ----------
    engine : Deciding
    pool : ElasticPool
    loop : asyncio.AbstractEventLoop
        The one on which all methods are called, unless they say otherwise.
    max_waiting : int
        How many may wait at most.
    max_waiting_seconds : float
        How long one may wait at the pace at which questions were lately decided.
    stall_seconds : float
    """

    def __init__(
        self,
        engine: Deciding,
        pool: ElasticPool,
        loop: asyncio.AbstractEventLoop,
        max_waiting: int = 4096,
        max_waiting_seconds: float = 2.0,
        stall_seconds: float = 0.1,
    ) -> None:
        self._engine, self._pool, self._loop = engine, pool, loop
        self._alone = Alone(engine, pool)
        self._most, self._seconds, self._stall = max_waiting, max_waiting_seconds, stall_seconds
        self.bound = max_waiting
        """How many may wait now."""
        self._pace = 0.0  # questions taken a second, while some waited
        self._taken_at: float | None = None  # when the last batch was taken, if it left some waiting
        self._queue = TenantTurns[tuple[Ask, Tell]]()
        self._numbers = count()
        self._turn = 0  # of the batch that is decided or gathered; one with an older number has lost its turn
        self._busy = False
        self._began = 0.0
        self._last = 1  # the size of the last batch
        self._seen = self._passes = 0
        self._let_others_run = Yielding()
        pool.on_watch(self._watch)

    @property
    def waiting(self) -> int:
        """How many questions wait. For any thread."""
        return len(self._queue)

    @property
    def overfull(self) -> bool:
        """Whether one more question would have to wait too long. For any thread."""
        return len(self._queue) > self.bound

    @property
    def expected_seconds(self) -> float:
        """How long a question that comes now will wait, at the present pace; 0 where that is not known."""
        return self.waiting / self._pace if self._pace else 0.0

    def admit(self) -> None:
        """Refuse a question that would have to wait too long. Raises Overloaded."""
        for queue in (self._pool, self):
            if queue.overfull:
                raise overloaded(queue)

    def put(self, ask: Ask, tell: Tell) -> None:
        """Have a question decided. Returns at once.

        Parameters
        ----------
        ask : Ask
            Not decided any more once its `gone` has fired.
        tell : callable
            Told the result, in one of the pool's threads.

        Raises
        ------
        Overloaded
            Too many wait.
        ShuttingDown
            The server ends.
        """
        self.admit()
        if self._engine.alone(ask.node):
            self._alone.put(ask, tell)
            return
        self._queue.put(next(self._numbers), ask.context.get("tenant", ""), (ask, tell))
        if not self._busy:
            self._next()

    def _next(self) -> None:
        """Begin to gather a batch."""
        self._turn += 1
        self._busy = bool(self._queue)
        if self._busy:
            self._began = time.monotonic()
            self._seen = self._passes = 0
            self._gather(self._turn)

    def _gather(self, turn: int) -> None:
        if turn != self._turn:
            return
        n = len(self._queue)
        if self._last > 1 and n < MOST:
            grown, self._seen = n > self._seen, n
            self._passes = 0 if grown else self._passes + 1
            if self._passes < _PASSES:
                self._let_others_run()
                self._loop.call_soon(self._gather, turn)
                return
        most = max(MOST, min(MOST_OF_MANY, n // 2))
        self._began = time.monotonic()
        if self._taken_at is not None:
            self._keep_pace(self._last / max(self._began - self._taken_at, 1e-6))
        taken = [self._queue.take()[1] for _ in range(min(most, n))]
        self._last = len(taken)
        self._taken_at = self._began if self._queue else None
        try:
            submit(self._pool, self._decide, taken, turn)
        except CascadeError as error:
            self._busy = False
            for _, tell in [*taken, *self._queue]:
                tell(error)
            self._queue.clear()

    def _keep_pace(self, pace: float) -> None:
        """Keep how many were taken a second from one batch to the next, whatever the loop did meanwhile."""
        self._pace = 0.9 * self._pace + 0.1 * pace if self._pace else pace
        # A few always: a pace that was measured in a bad moment must not close the door.
        self.bound = min(self._most, max(_FEW, round(self._pace * self._seconds)))

    def _passed(self, turn: int) -> None:
        """Let the next batch begin."""
        if turn == self._turn:
            self._next()

    def _watch(self) -> None:
        """Have it looked whether the turn hangs. For any thread."""
        if self._stands_still():  # else the event loop of an idle worker would be woken ten times a second
            self._soon(self._look)

    def _look(self) -> None:
        """Give the turn to another thread where the one that has it hangs."""
        if self._stands_still():
            self._next()

    def _stands_still(self) -> bool:
        return self._busy and bool(self._queue) and time.monotonic() - self._began > self._stall

    def _soon(self, call: Callable[..., object], *args: object) -> None:
        with suppress(RuntimeError):  # the loop was closed
            self._loop.call_soon_threadsafe(call, *args)

    # What follows runs in the pool's threads.

    def _decide(self, taken: list[tuple[Ask, Tell]], turn: int) -> None:
        passed = False

        def go_on() -> None:
            nonlocal passed
            if not passed:
                passed = True
                self._soon(self._passed, turn)

        try:
            of_node: dict[str, list[tuple[Ask, Tell]]] = {}
            for ask, tell in taken:
                if not left(ask, tell):
                    of_node.setdefault(ask.node, []).append((ask, tell))
            self._decide_nodes(list(of_node.values()), go_on)
        finally:
            go_on()

    def _decide_nodes(self, batches: list[list[tuple[Ask, Tell]]], slow: Callable[[], object]) -> None:
        """Decide node by node; those that would have to wait for the slow part of another's are passed on."""

        def pass_on() -> None:
            if batches:
                rest = batches.copy()
                batches.clear()
                self._later(lambda: self._decide_nodes(rest, slow))
            slow()

        while batches:
            decide_all(self._engine, batches.pop(0), self._later, pass_on)

    def _later(self, work: Callable[[], None]) -> None:
        run_later(self._pool, work)
