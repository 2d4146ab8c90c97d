"""A node's log as a replay reads it: decisions of a time window, imported records, and what was right."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cascade.errors import InvalidInput
from cascade.traffic import Decision, TrafficStore, TrainingRecord
from training.replay import Truth

DAY = 86_400.0
WEEK = 7 * DAY


@dataclass(frozen=True)
class Window:
    """A part of the log.

    Attributes
    ----------
    since, until : float, optional
        Unix seconds; holds `since`, not `until`. None is without bound.
    """

    since: float | None = None
    until: float | None = None

    def holds(self, moment: float | None) -> bool:
        """Say whether a record of that time belongs to it; one without a time, where nothing bounds it."""
        if moment is None:
            return self.since is None and self.until is None
        return (self.since is None or moment >= self.since) and (self.until is None or moment < self.until)

    def __str__(self) -> str:
        def shown(moment: float | None, otherwise: str) -> str:
            if moment is None:
                return otherwise
            return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M")

        return f"{shown(self.since, 'the beginning')} to {shown(self.until, 'now')} (UTC)"


@dataclass(frozen=True)
class Log:
    """What of a node's log is replayed.

    Attributes
    ----------
    window : Window
    truths : dict of str to Truth
        By decision id, or an imported record's.
    imported : list of Decision
        Imported records in the window, in the form of decisions that the teacher answered.
    teachers : dict of str to int
        How many of the truths each teacher gave, by `cascade.fences.Teacher.name`, as far as it is known.
    """

    window: Window
    truths: dict[str, Truth]
    imported: list[Decision] = field(repr=False)
    teachers: dict[str, int] = field(default_factory=dict)

    def decisions(self, store: TrafficStore, node: str) -> Iterator[Decision]:
        """Go through all of it."""
        yield from self.imported
        yield from store.decisions(node, self.window.since, self.window.until)


def read_log(store: TrafficStore, node: str, since: float | None, until: float | None) -> Log:
    """Read what is known of a window of a node's log."""
    window = Window(since, until)
    truths: dict[str, Truth] = {}
    imported: list[Decision] = []
    teachers: Counter[str] = Counter()
    for record in store.training_records(node):
        if not window.holds(record.time):
            continue
        truths[record.id] = Truth(record.output, 1 / record.propensity)
        if record.source == "teacher" and record.teacher:
            teachers[record.teacher] += 1
        if record.source == "import":
            imported.append(_as_decision(node, record))
    return Log(window, truths, imported, dict(teachers))


def last_week(store: TrafficStore, node: str) -> tuple[float | None, float | None]:
    """Give the window of the seven days up to the node's last decision; all, where there is none."""
    last = store.last_times(node)["decision"]
    return (None, None) if last is None else (last - WEEK, None)


def parse_moment(text: str, option: str, now: float | None = None) -> float:
    """Read a moment: ISO 8601 (UTC where it names no zone), or an age such as `7d`, `12h` or `30m`.

    Raises
    ------
    InvalidInput

    Examples
    --------
    >>> parse_moment("1970-01-02", "--from")
    86400.0
    >>> parse_moment("2d", "--from", now=200_000.0)
    27200.0
    """
    units = {"d": DAY, "h": 3600.0, "m": 60.0}
    if text[-1:] in units and text[:-1].isdigit():
        return (time.time() if now is None else now) - int(text[:-1]) * units[text[-1]]
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput(
            option, f"{text[:60]!r} is neither ISO 8601, such as 2026-11-17, nor an age, such as 7d or 12h"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _as_decision(node: str, record: TrainingRecord) -> Decision:
    return Decision(
        decision_id=record.id, node=node, time=record.time or 0.0, request_id=None,
        text=record.text, messages=record.messages, choices=(), context=dict(record.context),
        output=record.output, rung="",
        by_teacher=True, confidence=None, bundle_version="", mode="import", attempts=[], usd=0.0,
        input_tokens=0, output_tokens=0, latency_ms=0.0, error=None,
    )  # fmt: skip
