"""One thread that writes whatever waits in one transaction, so that many records share one disk sync."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import groupby, islice
from typing import cast

from cascade.errors import StoreError, UnknownDecision, WrongDatabase
from cascade.traffic.database import Connection, Database, Insert, Write
from cascade.traffic.records import Call, Decision, Outcome, StoreStats
from cascade.traffic.rows import INSERT_CALL, INSERT_OUTCOME, Rows
from cascade.traffic.tally import Tally

_log = logging.getLogger(__name__)

_LOG_EVERY = 30.0
_LONGEST_PAUSE = 2.0


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may wait, how much goes into one transaction, and how stubborn the writer is.

    Attributes
    ----------
    queue : int
        Records that may wait, those being written included.
    group : int
        Records in one transaction at most.
    tries : int
        How often a group is tried before it is given up.
    backoff : float
        Seconds before the second try; doubles with each.
    window : float
        Seconds for which decisions are gathered before they are written together: nobody waits for them, and
        a commit for each would cost the threads that decide a good part of their time. An outcome ends it.
    """

    queue: int = 10_000
    group: int = 1_000
    tries: int = 4
    backoff: float = 0.05
    window: float = 0.005


@dataclass(frozen=True, slots=True, eq=False)
class _Report:
    """An outcome, and who waits for it."""

    outcome: Outcome
    future: Future[str]


_Waiting = Decision | Call | _Report


class GroupWriter:
    """A bounded queue and the thread that empties it into the database.

    Parameters
    ----------
    database : Database
        A new connection to it is opened after each failure, since one whose file was moved, whose disk was
        remounted or whose server was restarted stays broken.
    rows : Rows
        Makes records rows.
    limits : Limits
        See there.
    tally : Tally, optional
        Told what was taken and settled; closed with the writer.
    later : bool
        See `cascade.traffic.sql_store.SqlStore`.

    Raises
    ------
    StoreError, or one of the database's errors
        What `connect_writer` raises the first time.
    """

    def __init__(
        self,
        database: Database,
        rows: Rows,
        limits: Limits,
        tally: Tally | None = None,
        later: bool = False,
    ) -> None:
        self._database = database
        self._tally = tally
        self._rows = rows
        self._limits = limits
        self._broken = False  # the last group was given up; touched by the thread only
        self._connection: Connection | None = self._first(later)
        if tally is not None and self._connection is not None:
            tally.opened(self._connection)
        self._changed = threading.Condition()
        self._queue: deque[_Waiting] = deque()
        self._group: list[_Waiting] = []  # is being written
        self._by_request: dict[tuple[str, str], Decision] = {}
        self._taken = self._settled = self._written = self._dropped = self._failed = 0
        self._urgent = self._gathering = False
        self._closing = threading.Event()
        self._last_log: float | None = None
        self._unlogged = 0
        self._thread = threading.Thread(target=self._run, name="traffic-writer", daemon=True)
        self._thread.start()

    def _first(self, later: bool) -> Connection | None:
        expected: tuple[type[Exception], ...] = (StoreError, *self._database.errors)
        try:
            return self._database.connect_writer()
        except expected as error:
            if not later or isinstance(error, WrongDatabase):
                raise
            _log.error(
                "the traffic database %s cannot be opened: %s%s; until it can be, nothing is recorded, "
                "and the teacher answers",
                self._database.name, error, self._database.advice(error),
            )  # fmt: skip
            self._broken = True
            return None

    def record(self, *records: Decision | Call) -> None:
        """Queue decisions or calls, or drop and count what finds no room."""
        with self._changed:
            room = self._limits.queue - (self._taken - self._settled)
            taken = records[: max(room, 0)] if not self._closing.is_set() else ()
            self._dropped += len(records) - len(taken)
            for record in taken:
                if isinstance(record, Decision) and record.request_id is not None:
                    self._know_request(record, record.request_id)
            self._take(taken)

    def _know_request(self, decision: Decision, request_id: str) -> None:
        key = (decision.node, request_id)
        first = self._by_request.setdefault(key, decision)
        if first.error is not None and decision.error is None:
            self._by_request[key] = decision

    def report(self, outcome: Outcome) -> Future[str]:
        """Queue an outcome; see `TrafficStore.report`."""
        future: Future[str] = Future()
        # Running from the start: a caller that goes away must not cancel what the thread then settles.
        future.set_running_or_notify_cancel()
        with self._changed:
            if self._taken - self._settled < self._limits.queue and not self._closing.is_set():
                self._urgent = True
                self._take((_Report(outcome, future),))
                return future
            self._dropped += 1
        future.set_exception(
            StoreError("the outcome was not recorded: too much waits to be written; report again")
        )
        return future

    def waiting_id(self, decision_id: str) -> Decision | None:
        """The decision with that id, if it waits.

        Who reports an outcome asks, which is seldom beside decisions: to know what waits by its id would cost
        each of them more than it costs to look through all of it now and then (0.5 ms of 10,000).
        """
        with self._changed:
            waits = [*self._group, *self._queue]
        found = (each for each in waits if isinstance(each, Decision) and each.decision_id == decision_id)
        return next(found, None)

    def waiting_request(self, node: str, request_id: str) -> Decision | None:
        """The first decision with that request id, if it waits."""
        with self._changed:
            return self._by_request.get((node, request_id))

    def stats(self) -> StoreStats:
        """See `StoreStats`."""
        with self._changed:
            waiting = self._taken - self._settled
            return StoreStats(self._written, self._dropped, self._failed, waiting)

    def flush(self, timeout: float | None) -> bool:
        """See `TrafficStore.flush`."""
        with self._changed:
            target = self._taken
            self._urgent = True
            self._changed.notify_all()
            return self._changed.wait_for(lambda: self._settled >= target, timeout)

    def close(self) -> None:
        """Write what waits and end the thread."""
        self._closing.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join()
        if self._tally is not None:
            self._tally.close()

    def _take(self, waiting: Sequence[_Waiting]) -> None:
        if not waiting:
            return
        self._queue.extend(waiting)
        self._taken += len(waiting)
        if self._tally is not None:
            self._tally.keep(self._taken, self._settled)
        if self._urgent or not self._gathering or len(self._queue) >= self._limits.group:
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._closing.is_set())
                self._gathering = True
                self._changed.wait_for(self._enough, self._limits.window)
                self._gathering = self._urgent = False
                group = self._group = list(islice(self._queue, self._limits.group))
                if len(group) == len(self._queue):
                    self._queue.clear()
                else:
                    for _ in group:
                        self._queue.popleft()
            if not group:
                break
            self._settle(group, self._write_stubbornly(self._encode(group), len(group)))
        if self._tally is not None:
            self._tally.written_all(self._connection)
        self._disconnect()

    def _enough(self) -> bool:
        return self._urgent or self._closing.is_set() or len(self._queue) >= self._limits.group

    def _write_stubbornly(self, writes: list[Write], count: int) -> list[Exception | None]:
        # After a group was given up the next ones get one try each, so that the queue and those who wait for
        # outcomes are not held up while the disk is known to be bad. The first success ends that.
        tries = 1 if self._broken else self._limits.tries
        pause = self._limits.backoff
        while True:
            tries -= 1
            try:
                errors = self._write(writes)
            except Exception as error:  # whatever it is, the thread must live to write what comes later
                self._disconnect()
                if tries <= 0:
                    self._broken = True
                    return [StoreError(f"the traffic database cannot be written: {error}")] * count
            else:
                self._broken = False
                return errors
            self._closing.wait(min(pause, _LONGEST_PAUSE))
            pause *= 2

    def _write(self, writes: list[Write]) -> list[Exception | None]:
        if self._connection is None:
            self._connection = self._database.connect_writer()
        if self._tally is not None:
            self._tally.writing(self._connection)
        return self._database.write_group(self._connection, writes)

    def _encode(self, group: list[_Waiting]) -> list[Write]:
        writes: list[Write] = []
        for kind, some in groupby(group, type):
            if issubclass(kind, Decision):
                writes += self._decisions(cast(list[Decision], list(some)))
            else:
                writes += [self._row(cast(Call | _Report, waiting)) for waiting in some]
        return writes

    def _decisions(self, decisions: list[Decision]) -> list[Write]:
        try:
            return [self._rows.decisions(decisions)]
        except Exception as error:  # a record that cannot be written must not take its group with it
            if len(decisions) == 1:
                return [error]
        half = len(decisions) // 2
        return self._decisions(decisions[:half]) + self._decisions(decisions[half:])

    def _row(self, waiting: Call | _Report) -> Write:
        try:
            if isinstance(waiting, Call):
                return Insert(INSERT_CALL, self._rows.call_row(waiting))
            outcome = waiting.outcome
            return Insert(INSERT_OUTCOME, self._rows.outcome_row(outcome), outcome.decision_id)
        except Exception as error:  # likewise
            return error

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()  # rolls back what is open
            except Exception as error:
                _log.warning("the traffic database was not closed cleanly: %s", error)

    def _settle(self, group: list[_Waiting], errors: list[Exception | None]) -> None:
        failures = [error for error in errors if error is not None]
        with self._changed:
            self._written += len(group) - len(failures)
            self._failed += len(failures)
            # After the commit: at each moment a reader finds a decision here, on disk, or in both.
            self._group = []
            if self._by_request:
                for waiting in group:
                    if isinstance(waiting, Decision) and waiting.request_id is not None:
                        self._forget_request(waiting, waiting.request_id)
        if _Report in set(map(type, group)):
            for waiting, error in zip(group, errors, strict=True):
                if isinstance(waiting, _Report):
                    if error is None:
                        waiting.future.set_result(waiting.outcome.outcome_id)
                    else:
                        waiting.future.set_exception(_for_caller(error))
        lost = [error for error in failures if not isinstance(error, UnknownDecision)]
        if lost:
            self._complain(len(lost), lost[0])
        with self._changed:
            self._settled += len(group)
            if self._tally is not None:
                self._tally.keep(self._taken, self._settled)
            self._changed.notify_all()

    def _forget_request(self, decision: Decision, request_id: str) -> None:
        key = (decision.node, request_id)
        if self._by_request.get(key) is decision:
            del self._by_request[key]

    def _complain(self, count: int, error: Exception) -> None:
        self._unlogged += count
        now = time.monotonic()
        if self._last_log is None or now - self._last_log >= _LOG_EVERY:
            _log.error("%d traffic records were lost; the last reason: %s", self._unlogged, error)
            self._last_log, self._unlogged = now, 0


def _for_caller(error: Exception) -> Exception:
    # One instance a future: a shared one would grow its traceback with every `result()`.
    if isinstance(error, UnknownDecision):
        return error
    failure = StoreError(f"the outcome was not recorded: {error}")
    failure.__cause__ = error
    return failure
