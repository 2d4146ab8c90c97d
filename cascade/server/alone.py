"""Decides questions in the pool's threads, none of which is held while a question only waits for others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from cascade.ask import Ask, Decided
from cascade.errors import CascadeError, Overloaded
from cascade.server.deciding import Deciding
from cascade.server.entrance import submit
from cascade.server.gone import CallerGone
from cascade.server.pool import ElasticPool
from cascade.server.status import known

Tell = Callable[[Decided | CascadeError], object]


class Alone:
    """Decides each question on its own.

    Parameters
    ----------
    engine : Deciding
    pool : ElasticPool
    """

    def __init__(self, engine: Deciding, pool: ElasticPool) -> None:
        self._engine, self._pool = engine, pool

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
            The node's steps may hang, and too many threads do already.
        ShuttingDown
            The server ends.
        """
        if self._pool.mostly_lent and self._engine.alone(ask.node):
            raise Overloaded("too many calls wait for something slow", retry_after=1.0)
        submit(self._pool, self._decide, ask, tell)

    def start(self, ask: Ask) -> Future[Decided]:
        """Have a question decided, and give its result to come. Raises what `put` raises."""
        result: Future[Decided] = Future()

        def tell(found: Decided | CascadeError) -> None:
            if not result.set_running_or_notify_cancel():
                return
            if isinstance(found, CascadeError):
                result.set_exception(found)
            else:
                result.set_result(found)

        self.put(ask, tell)
        return result

    def _decide(self, ask: Ask, tell: Tell) -> None:
        if left(ask, tell):
            return
        here: int | None = threading.get_ident()

        def later(work: Callable[[], None]) -> None:
            # Else it is another thread's that the teacher has answered, or that whom this question follows is
            # done, or a later task of this one's: that one has its own call to end.
            if threading.get_ident() == here:
                work()
            else:
                run_later(self._pool, work)

        decide_all(self._engine, [(ask, tell)], later)
        here = None


def decide_all(
    engine: Deciding,
    batch: Sequence[tuple[Ask, Tell]],
    later: Callable[[Callable[[], None]], object],
    slow: Callable[[], object] = lambda: None,
) -> None:
    """Have questions decided together, so that each is told something once, whatever happens."""
    waits = dict(enumerate(tell for _, tell in batch))

    def told(i: int, result: Decided | CascadeError) -> None:
        if (tell := waits.pop(i, None)) is not None:
            tell(result)

    try:
        engine.decide_each([ask for ask, _ in batch], told, later, slow)
    except Exception as error:  # an engine should not; but nobody must wait for ever
        failure = known(error)
        for i in list(waits):  # of which some may be told elsewhere meanwhile
            if (tell := waits.pop(i, None)) is not None:
                tell(failure)


def run_later(pool: ElasticPool, work: Callable[[], None]) -> None:
    """Have work done by a thread of the pool; raises nothing."""
    try:
        pool.submit(work)
    except RuntimeError:  # shut down meanwhile; what it waits for was cancelled then
        work()


def left(ask: Ask, tell: Tell) -> bool:
    """Say whether a question's caller went away while it waited, and tell so."""
    gone = ask.gone is not None and ask.gone.fired
    if gone:
        tell(CallerGone())
    return gone
