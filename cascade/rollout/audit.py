"""Audits: a random sample of what is settled locally goes to the teacher too, the caller being answered."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from zlib import crc32

from cascade.ask import Ask
from cascade.contract import JsonValue
from cascade.errors import DeadlineExceeded, StoreError, TeacherUnavailable, UnusableAnswer
from cascade.rollout.audit_lines import Lines, Task, Teacher
from cascade.rollout.day_budget import DayBudget
from cascade.rollout.records import BROKEN, Audit, AuditResult, Report
from cascade.rollout.store import RolloutStore
from cascade.rungs.protocol import Answer, Query
from cascade.text import flatten_messages
from cascade.traffic import TrafficStore

_log = logging.getLogger(__name__)

LEASE_SECONDS = 60.0
"""After how long without a sign of life a process's waiting audits are taken over by another."""
_LOG_EVERY = 30.0
_TRIES = 3
_OWN_WORDS_MAX = 1000
_OWN_WORDS_SECONDS = 3600.0
_GATHER_SECONDS = 0.02


def coin(decision_id: str) -> float:
    """Give the number in [0, 1) that decides whether a decision is audited: the same for the same id.

    Half of an id is random, so a checksum draws as well as a hash, in a quarter of its time.

    Examples
    --------
    >>> coin("0001") == coin("0001")
    True
    """
    return crc32(decision_id.encode()) / 2**32


@dataclass(frozen=True, slots=True)
class Audited:
    """What audits need of a node: its teacher, and the check of an answer against its contract."""

    teacher: Teacher
    check: Callable[[JsonValue, tuple[str, ...]], str | None]


@dataclass(slots=True)
class AuditCounts:
    """What became of audits in this process.

    Attributes
    ----------
    drawn, done, given_up : int
    no_verdict : int
        The teacher answered, and its answer breaks the contract or is none: right or wrong cannot be said.
    dropped : int
        Not taken, because too many waited.
    teacher_failures : int
        How often the teacher did not answer; such audits wait.
    store_failures : int
        How often the store did not take something; it is tried again.
    """

    drawn: int = 0
    done: int = 0
    given_up: int = 0
    no_verdict: int = 0
    dropped: int = 0
    teacher_failures: int = 0
    store_failures: int = 0


@dataclass
class Auditor:
    """Keeps audits going, in a thread of its own.

    Audits are on disk before the teacher is asked. Those of a process that died are taken over by another
    one. While the teacher is down they wait, and nobody is blamed; it is probed by one audit at a time, at
    last twice a minute, and those of other nodes go on.

    Those in the caller's own words are the exception: the words, and maybe the caller's key, are in the
    memory of one process. No other can ask them and gives them up; at most 1,000 wait, none of them for
    longer than an hour.

    Parameters
    ----------
    store : RolloutStore
    traffic : TrafficStore
        Where the input of an audit is found that another process left.
    nodes : mapping of str to Audited
    max_waiting : int
        Audits that may wait in this process; further ones are dropped and counted.
    max_in_flight : int
        Questions to the teachers at a time.
    daily_usd : float
        What the audits of one node may cost in a day (UTC): then they wait for the next.
    clock : callable
        Unix seconds; for leases and days. Pauses are by the monotonic clock.
    """

    store: RolloutStore
    traffic: TrafficStore
    nodes: Mapping[str, Audited]
    max_waiting: int = 10_000
    max_in_flight: int = 8
    daily_usd: float = float("inf")
    clock: Callable[[], float] = time.time
    counts: AuditCounts = field(default_factory=AuditCounts)
    owner: str = field(default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}")

    def __post_init__(self) -> None:
        self._new: deque[Task] = deque()
        self._ready = Lines()
        self._own_words: set[str] = set()
        self._flying: dict[Future[Answer], Task] = {}
        self._results: list[AuditResult] = []
        self._reports: list[Report] = []
        self._budget = DayBudget(self.store, self.nodes, self.daily_usd, self._tell)
        self._next_claim = self._next_renewal = float("-inf")
        self._wake, self._ended = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._last_log = float("-inf")

    @property
    def waiting(self) -> int:
        """How many audits of this process wait or are under way."""
        return len(self._new) + len(self._ready) + len(self._flying)

    def start(self) -> None:
        """Run in the background."""
        self._thread = threading.Thread(target=self._work, name="audits", daemon=True)
        self._thread.start()

    def offer(self, audit: Audit, ask: Ask, answer: JsonValue) -> None:
        """Take an audit that was drawn, or drop and count it. Never waits."""
        own = ask.audit_teacher is not None
        full = self.waiting >= self.max_waiting or (own and len(self._own_words) >= _OWN_WORDS_MAX)
        if full or self._ended.is_set():
            self.counts.dropped += 1
            return
        self.counts.drawn += 1
        if own:
            self._own_words.add(audit.decision_id)
        # The question alone: `ask` leads to the caller's connection, which ends before the audit does.
        query = Query(ask.text, ask.messages, ask.choices)
        self._new.append(Task(audit, query, answer, ask.audit_teacher))
        self._wake.set()

    def report(self, report: Report) -> None:
        """Take what a caller said about a settled answer; written with the next round."""
        if len(self._reports) < self.max_waiting:
            self._reports.append(report)
            self._wake.set()

    def close(self) -> None:
        """End. What is drawn is on disk by then, free for another process to take over."""
        self._ended.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(10)
        for future in list(self._flying):
            future.cancel()
        try:
            self._put_down()
            self._write_results()
            self.store.renew_audits(self.owner, self.clock() - 1)
        except StoreError as error:
            self._tell(error)

    def round(self) -> None:
        """Do what is to do now: put new audits on disk, ask the teachers, take answers, write results."""
        with self._lock:
            try:
                self._put_down()
                self._take_over()
            except StoreError as error:
                self._tell(error)
            self._collect()
            self._ask()
            try:
                self._write_results()
            except StoreError as error:
                self._tell(error)

    def _work(self) -> None:
        while not self._ended.is_set():
            if self._wake.wait(0.05 if self._flying else 0.25):
                # What is drawn in one moment goes to the disk together: a commit for each would cost more
                # than all else that audits do.
                self._ended.wait(_GATHER_SECONDS)
            self._wake.clear()
            try:
                self.round()
            except Exception:  # the thread lives on for the audits to come
                _log.exception("a round of audits failed")

    def _put_down(self) -> None:
        reports, self._reports = self._reports, []
        try:
            if reports:
                self.store.add_reports(reports)
                reports = []
        finally:
            self._reports = reports + self._reports
        n = len(self._new)
        if n:
            tasks = [self._new[i] for i in range(n)]
            self.store.add_audits([t.audit for t in tasks], self.owner, self.clock() + LEASE_SECONDS)
            for task in tasks:
                self._new.popleft()
                self._ready.add(task)

    def _take_over(self) -> None:
        now, wall = time.monotonic(), self.clock()
        if len(self._ready) and now >= self._next_renewal:
            self.store.renew_audits(self.owner, wall + LEASE_SECONDS)
            self._next_renewal = now + LEASE_SECONDS / 4
        room = min(256, self.max_waiting - self.waiting)
        if now < self._next_claim or room <= 0:
            return
        self._next_claim = now + LEASE_SECONDS / 6
        mine = {t.audit.decision_id for t in (*self._ready, *self._flying.values())}
        for audit in self.store.claim_audits(list(self.nodes), self.owner, wall, wall + LEASE_SECONDS, room):
            if audit.decision_id in mine:
                continue
            if audit.own_words:
                self._give_up(audit, "it was to be asked in the caller's own words; their process has ended")
                continue
            found = self.traffic.get(audit.decision_id)
            if found is None or found.error is not None:
                self._give_up(audit, "its decision is not in the traffic log")
                continue
            text = found.text if found.text is not None else flatten_messages(found.messages or ())
            query = Query(text, found.messages or (), found.choices)
            self._ready.add(Task(audit, query, found.output))

    def _ask(self) -> None:
        def lasts(node: str) -> bool:
            return self._budget.lasts(node, self.clock())

        for task in self._ready.next(self.max_in_flight - len(self._flying), lasts):
            if task.teacher is not None and time.monotonic() - task.since > _OWN_WORDS_SECONDS:
                self._ready.of(task).flying -= 1
                self._give_up(task.audit, "the teacher did not answer within an hour", task)
                continue
            task.tries += 1
            future = (task.teacher or self.nodes[task.audit.node].teacher).submit(task.query)
            self._flying[future] = task
            future.add_done_callback(lambda _: self._wake.set())

    def _collect(self) -> None:
        for future in [f for f in self._flying if f.done()]:
            task = self._flying.pop(future)
            try:
                answer = future.result()
            except CancelledError:
                answer = Answer(error=TeacherUnavailable("the teacher's connections are closed"))
            node, line = self.nodes[task.audit.node], self._ready.of(task)
            line.flying -= 1
            task.usd += answer.usd
            task.input_tokens += answer.input_tokens
            task.output_tokens += answer.output_tokens
            self._budget.spend(task.audit.node, answer.usd)
            error = answer.error
            if error is None:
                broken = node.check(answer.value, task.query.choices)
                if broken is None:
                    line.answered()
                    self._results.append(_result(task, self.clock(), answer.value))
                    self.counts.done += 1
                    self._own_words.discard(task.audit.decision_id)
                    continue
                error = UnusableAnswer(BROKEN)
            self.counts.teacher_failures += 1
            if isinstance(error, TeacherUnavailable | DeadlineExceeded):
                # Down: the line waits. The caller's answer is neither right nor wrong for it. A caller's own
                # key may be out of money for ever, so those in own words do not keep their place.
                (line.tasks.append if task.teacher is not None else line.tasks.appendleft)(task)
                line.down(time.monotonic(), getattr(error, "retry_after", None))
            elif task.tries < _TRIES:
                line.answered()
                line.tasks.append(task)
            elif isinstance(error, UnusableAnswer):
                line.answered()
                self._leave_unjudged(task, error.message)
            else:
                line.answered()
                self._give_up(task.audit, f"{type(error).__name__}: {error}", task)

    def _give_up(self, audit: Audit, why: str, task: Task | None = None) -> None:
        self.counts.given_up += 1
        self._own_words.discard(audit.decision_id)
        usd, read, written = (task.usd, task.input_tokens, task.output_tokens) if task else (0.0, 0, 0)
        self._results.append(AuditResult(audit, self.clock(), None, None, usd, read, written, why[:300]))

    def _leave_unjudged(self, task: Task, why: str) -> None:
        self.counts.no_verdict += 1
        self._own_words.discard(task.audit.decision_id)
        usd, read, written = task.usd, task.input_tokens, task.output_tokens
        at = self.clock()
        self._results.append(
            AuditResult(task.audit, at, None, None, usd, read, written, why[:300], answered=True)
        )

    def _write_results(self) -> None:
        if self._results:
            self.store.finish_audits(self._results)
            self._results = []

    def _tell(self, error: StoreError) -> None:
        self.counts.store_failures += 1
        if time.monotonic() - self._last_log >= _LOG_EVERY:
            self._last_log = time.monotonic()
            _log.error("audits wait for the store: %s", error)


def _result(task: Task, now: float, output: JsonValue) -> AuditResult:
    return AuditResult(
        task.audit, now, output, output == task.answer, task.usd, task.input_tokens, task.output_tokens
    )
