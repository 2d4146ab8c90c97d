"""The audits that wait for their teachers, a line for each, so that one that is down holds up no other."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from cascade.contract import JsonValue
from cascade.rollout.records import Audit
from cascade.rungs.protocol import Answer, Query

PAUSE_FIRST, PAUSE_MAX = 0.5, 30.0
"""Seconds for which a teacher that is down is left alone; doubles from the one to the other."""


class Teacher(Protocol):
    """Who is asked."""

    def submit(self, query: Query) -> Future[Answer]:
        """Ask; the future never raises."""


@dataclass(slots=True)
class Task:
    """One audit on its way, and what it has cost so far."""

    audit: Audit
    query: Query
    answer: JsonValue
    teacher: Teacher | None = None  # who asks in the caller's own words
    since: float = field(default_factory=time.monotonic)
    usd: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0
    tries: int = 0


@dataclass(slots=True)
class Line:
    """The audits that wait for one teacher.

    It is a circuit breaker of its own: once the teacher is down, one audit at a time is asked, as a probe,
    and a failing probe doubles the pause before the next.

    Attributes
    ----------
    tasks : deque of Task
    flying : int
        How many are under way.
    pause : float
        Seconds of the present pause; 0 while the teacher answers.
    not_before : float
        Monotonic time until which nobody is asked.
    """

    tasks: deque[Task] = field(default_factory=deque)
    flying: int = 0
    pause: float = 0.0
    not_before: float = float("-inf")

    def may_ask(self, now: float) -> bool:
        """Say whether the next audit may be asked now."""
        return bool(self.tasks) and now >= self.not_before and not (self.pause and self.flying)

    def answered(self) -> None:
        """Say that the teacher is there."""
        self.pause, self.not_before = 0.0, float("-inf")

    def down(self, now: float, retry_after: float | None) -> None:
        """Say that the teacher was asked and is down."""
        if now < self.not_before:
            return  # one of several that were under way together: they have learnt the same
        self.pause = min(PAUSE_MAX, max(PAUSE_FIRST, self.pause * 2))
        self.not_before = now + min(PAUSE_MAX, max(self.pause, retry_after or 0.0))


class Lines:
    """All lines: one for each node, and another for what is asked in the callers' own words there."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, bool], Line] = {}

    def __len__(self) -> int:
        # A copy, which is made at one go: another thread may ask while a line is added.
        return sum(len(line.tasks) for line in list(self._lines.values()))

    def __iter__(self) -> Iterator[Task]:
        for line in list(self._lines.values()):
            yield from line.tasks

    def probe_now(self) -> None:
        """Ask again now whoever was down."""
        for line in list(self._lines.values()):
            line.not_before = float("-inf")

    def of(self, task: Task) -> Line:
        """Give the line of an audit."""
        return self._lines.setdefault((task.audit.node, task.teacher is not None), Line())

    def add(self, task: Task) -> None:
        """Put an audit at the end of its line."""
        self.of(task).tasks.append(task)

    def next(self, room: int, wanted: Callable[[str], bool]) -> Iterator[Task]:
        """Give audits to ask now, a line after the other in turn; each counts as under way from then on.

        Parameters
        ----------
        room : int
            How many at most.
        wanted : callable
            Says whether a node's audits may be asked now.
        """
        now = time.monotonic()
        open_ = [line for (node, _), line in self._lines.items() if line.may_ask(now) and wanted(node)]
        while open_ and room > 0:
            for line in list(open_):
                if room <= 0 or not line.may_ask(now):
                    open_.remove(line)
                    continue
                line.flying += 1
                room -= 1
                yield line.tasks.popleft()
