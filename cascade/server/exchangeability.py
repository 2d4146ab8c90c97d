"""Watches live traffic for changes that void a certificate, and fences the bundle off then.

It reads the traffic log, so all workers come to the same verdict. The first one writes it down as an event of
the node's rollouts, where all read it, and those that start later: while the fence is up nothing has a score,
so the log alone would soon hold none of what raised the alarm. It stays until the bundle is started again.
The test runs in a thread of its own, off the requests' way; a store that cannot be read leaves the fences as
they are. A busy node's traffic is sampled: every row that is read takes the interpreter from those that
decide.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from cascade.bundle import Bundle
from cascade.errors import StoreError
from cascade.fences import TRAFFIC
from cascade.policy.exchangeability import LiveTest, failed, name_of, score_of
from cascade.rollout.state import GUARD, Event, NodeRollout
from cascade.text import flatten_messages
from cascade.traffic import Decision, TrafficStore

_log = logging.getLogger(__name__)

WINDOW_SECONDS = 60.0
"""Traffic is read by whole windows of this length since 1970: the same for every process."""

MOST_IN_WINDOW = 256
"""Decisions of a bundle that are read of a window; of more, a random sample."""

LATE_SECONDS = 120.0
"""How long after its end a window is read: a decision is in the window in which it was asked for, and on disk
once it is answered. What waits long for a slow teacher is what the ladder was unsure of."""

SHARE = 0.1
"""Of its time, how much may be spent on drawing those decisions by a process that serves."""

MOST_FAILED = 0.05
"""The share of a window's decisions at which a local rung may have failed. Of a window with more nothing is
taken: those that failed have no score, and they were the hard ones (an overloaded encoder fails where the
linear rung was not sure), so the others would make all that comes after them look harder than it is. Ten
minutes with a fifth of them failed fenced a good bundle off, minutes after all was well again; with an eighth
in a quarter of the cases; with a twentieth never."""

Kept = TypeVar("Kept")

MEMORY_SECONDS = 7 * 86_400.0
MOST_AT_ONCE = 5_000
MOST_READ = 50_000
"""How far back is read when a bundle begins to be watched: so long, so many decisions that have a score, or
so many in all."""

Known = Callable[[str], NodeRollout | None]
"""Gives where a node's rollouts stand; None while nobody knows."""


class LiveWatch:
    """Tests the live traffic of loaded bundles.

    Parameters
    ----------
    store : TrafficStore
    bundles : callable
        Gives the loaded bundles, each with the level of its node and the seconds between two looks.
    known : callable
        See `Known`.
    write : callable
        Writes an event at its place, durably; False where the place was taken.
    """

    def __init__(
        self,
        store: TrafficStore,
        bundles: Callable[[], Iterable[tuple[Bundle, float, float]]],
        known: Known = lambda node: None,
        write: Callable[[Event], bool] = lambda event: False,
    ) -> None:
        self._store = store
        self._bundles = bundles
        self._known = known
        self._write = write
        self._tests: dict[tuple[str, str], LiveTest] = {}
        self._read_until: dict[tuple[str, str], int] = {}
        self._lives: dict[tuple[str, str], tuple[int, int]] = {}  # the start, and the first window since
        self._stop = threading.Event()

    def start(self) -> None:
        """Look at the traffic again and again, in a thread."""
        threading.Thread(target=self._run, name="live-traffic", daemon=True).start()

    def close(self) -> None:
        """Stop looking."""
        self._stop.set()

    def _run(self) -> None:
        while True:
            pauses = [every for _, _, every in self._bundles()]
            if self._stop.wait(min(pauses, default=30.0)):
                return
            self.look()

    def look(self, now: float | None = None) -> None:
        """Read what is new in the log, and put fences up where traffic changed.

        Parameters
        ----------
        now : float, optional
            Unix seconds.
        """
        now = time.time() if now is None else now
        bundles = list(self._bundles())
        for gone in self._lives.keys() - {(bundle.node, bundle.version) for bundle, _, _ in bundles}:
            self._forget(gone)
        for bundle, level, _ in bundles:
            if bundle.reference is None:
                continue
            # Known before anything is read: what is written follows from it, or finds its place taken.
            state = self._known(bundle.node)
            if self._begin(bundle, state, now):
                try:
                    self._test(bundle, level, state, last_window(now), now)
                except StoreError:
                    if self._stop.is_set():  # the store was closed while this read it, piece by piece
                        return
                    _log.warning("node %s: live traffic cannot be read", bundle.node, exc_info=True)

    def _forget(self, key: tuple[str, str]) -> None:
        self._tests.pop(key, None)
        self._read_until.pop(key, None)
        self._lives.pop(key, None)

    def _begin(self, bundle: Bundle, state: NodeRollout | None, now: float) -> bool:
        """Follow what is known of a bundle's fence; say whether its traffic is to be tested."""
        key = (bundle.node, bundle.version)
        started = None if state is None else state.starts.get(bundle.version)
        life = 0 if started is None else started.seq
        fenced = None if state is None else state.fenced.get(bundle.version)
        before = self._lives.get(key)
        if before is None or before[0] != life:
            self._forget(key)
            self._read_until[key] = first = since(started, now)
            self._lives[key] = life, first
            bundle.fences.set(TRAFFIC, "" if fenced is None else fenced.why)
        if fenced is None:
            if state is not None and key not in self._tests:
                # Of an event that is no longer there, as where a backup took the database's place.
                bundle.fences.set(TRAFFIC, "")
            return True
        bundle.fences.set(TRAFFIC, fenced.why)
        self._tests.pop(key, None)
        return False

    def _test(self, bundle: Bundle, level: float, state: NodeRollout | None, until: int, now: float) -> None:
        assert bundle.reference is not None
        key = (bundle.node, bundle.version)
        test = self._tests.get(key)
        if test is None:
            test = self._tests[key] = LiveTest(bundle.reference.tolist(), level)
        feed(test, sampled(self._store, *key, self._read_until[key], until, named_scores, SHARE))
        self._read_until[key] = max(until, self._lives[key][1])
        reason = test.reason()
        if not reason:
            return
        if not bundle.fences.has(TRAFFIC):
            _log.warning("node %s: bundle %s settles nothing: %s", bundle.node, bundle.version, reason)
        bundle.fences.set(TRAFFIC, reason)
        if state is None:
            return
        found = {"n": test.n, "p_value": test.p_value, "level": level}
        event = Event(bundle.node, state.seq + 1, now, GUARD, "fence", reason, bundle.version, found)
        try:
            self._write(event)  # where its place was taken, the next look sees by what
        except StoreError:
            text = (
                "node %s: that bundle %s is fenced off cannot be written; a restarted process may not know it"
            )
            _log.warning(text, bundle.node, bundle.version, exc_info=True)


def since(started: Event | None, now: float) -> int:
    """Give the first window whose decisions are tested: the first whole one since a bundle was started last.

    Not later than now, where whoever started it had a clock that is ahead.
    """
    return 0 if started is None else int(min(started.time, now) // WINDOW_SECONDS) + 1


def last_window(now: float) -> int:
    """Give the number of the first window that is not complete on disk at a time, in Unix seconds."""
    return int((now - LATE_SECONDS) // WINDOW_SECONDS)


def sampled(
    store: TrafficStore,
    node: str,
    version: str,
    since: int,
    until: int,
    keep: Callable[[Sequence[Decision]], list[Kept]],
    share: float = 1.0,
) -> list[Kept]:
    """Read a bundle's decisions for the test of live traffic, oldest first.

    Parameters
    ----------
    since, until : int
        Numbers of windows, `until` left out. Not all back to `since` where that is longer ago than
        `MEMORY_SECONDS`, or more than `MOST_AT_ONCE` are kept, or than `MOST_READ` read.
    keep : callable
        Gives what is kept of a window's decisions. Windows are found from the newest one on, so something of
        each is held until the last is read: held whole, thousands of decisions take tens of megabytes, which
        the process then keeps.
    share : float
        See `TrafficStore.sampled_decisions`.

    Raises
    ------
    StoreError
        The log cannot be read.
    """
    windows: list[list[Kept]] = []
    since = max(since, until - int(MEMORY_SECONDS // WINDOW_SECONDS))
    at, n, read = until - 1, 0, 0
    while at >= since and n < MOST_AT_ONCE and read < MOST_READ:
        begin = at * WINDOW_SECONDS
        found = store.sampled_decisions(node, version, begin, begin + WINDOW_SECONDS, MOST_IN_WINDOW, share)
        if found:
            windows.append(keep(found))
            at, n, read = at - 1, n + len(windows[-1]), read + len(found)
            continue
        last = store.last_decision_time(node, begin)  # there may be nothing for days
        if last is None:
            break
        at = int(last // WINDOW_SECONDS)
    return [kept for window in reversed(windows) for kept in window]


def named_scores(window: Sequence[Decision]) -> list[tuple[bytes, float]]:
    """Give what the test takes of a window's decisions: their texts' names and their scores.

    Of those that have one; none where local rungs failed at more than `MOST_FAILED` of them.
    """
    scores = [score_of(decision.attempts) for decision in window]
    tried = sum(score is not None for score in scores)
    lost = sum(failed(decision.attempts) for decision in window)
    if lost > MOST_FAILED * (tried + lost):
        return []
    return [
        (name_of(flatten_messages(each.messages) if each.messages else each.text or ""), score)
        for each, score in zip(window, scores, strict=True)
        if score is not None
    ]


def feed(test: LiveTest, scores: Iterable[tuple[bytes, float]]) -> None:
    """Give a test what `named_scores` gave."""
    for name, score in scores:
        test.add_named(name, score)
