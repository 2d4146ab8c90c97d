"""The record of each validator: how many wrong answers it stops, how many right ones, and whether that pays.

A validator is judged alone, on every answer that a rung which is worth running gives, and in its place,
after those before it, on what is still on its way. It pays for itself where the ladder is cheaper with it
than without: a wrong answer that it stops is worth what a wrong answer costs, and a right one that it stops
costs whatever answers instead, in the end a teacher's call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Check:
    """One validator's verdicts.

    Attributes
    ----------
    name : str
    stops : bool array of shape (n, n_rungs)
        Whether it stops each rung's answer to each record.
    micros : float
        Microseconds of one check; 0 where that was not measured.
    on : bool
        Whether the ladder uses it.
    required : bool
        Whether the certificate or the contract stands on it, so that it cannot be switched off.
    """

    name: str
    stops: Bools
    micros: float = 0.0
    on: bool = True
    required: bool = False


@dataclass(frozen=True)
class Stakes:
    """What is at stake in one decision, in dollars.

    Attributes
    ----------
    teacher_call : float
    wrong_answer : float
        See `cascade.policy.net_cost.price_of_wrong`.
    cpu_hour : float
    """

    teacher_call: float
    wrong_answer: float
    cpu_hour: float


@dataclass(frozen=True)
class ValidatorRecord:
    """What one validator did.

    Attributes
    ----------
    name : str
    on, required : bool
        See `Check`.
    n_wrong, n_right, caught, false_alarms : int
        Alone: wrong and right answers, and how many of each it stops.
    wrong_left, right_left, caught_in_place, false_in_place : int
        In its place: of the answers that those before it let pass.
    micros : float
        Microseconds of one check.
    false_alarm_usd : float
        Teacher calls that its false alarms bring about, in dollars per 1,000 decisions.
    value_usd : float
        What the ladder is cheaper with it than without, in dollars per 1,000 decisions, its own time
        counted; with its 95 % interval by bootstrap over records.
    advice : {"required", "keep", "switch off", "switch on", "leave off"}
    """

    name: str
    on: bool
    required: bool
    n_wrong: int
    n_right: int
    caught: int
    false_alarms: int
    wrong_left: int
    right_left: int
    caught_in_place: int
    false_in_place: int
    micros: float
    false_alarm_usd: float
    value_usd: float
    value_interval: tuple[float, float]
    advice: str

    @property
    def catch_rate(self) -> float | None:
        """Share of the wrong answers that it stops, alone; None where there are none."""
        return self.caught / self.n_wrong if self.n_wrong else None

    @property
    def false_alarm_rate(self) -> float | None:
        """Share of the right answers that it stops, alone; None where there are none."""
        return self.false_alarms / self.n_right if self.n_right else None

    def to_json(self) -> dict[str, Any]:
        """Give all figures as JSON values."""
        return {
            **asdict(self), "value_interval": list(self.value_interval),
            "catch_rate": self.catch_rate, "false_alarm_rate": self.false_alarm_rate,
        }  # fmt: skip


def records(
    checks: Sequence[Check],
    worth: Bools,
    right: Bools,
    stakes: Stakes,
    allowed: Bools | None = None,
    seed: int = 0,
    n_bootstrap: int = 500,
) -> list[ValidatorRecord]:
    """Judge validators, in the order in which they are asked.

    Parameters
    ----------
    checks : sequence of Check
    worth, right : bool arrays of shape (n, n_rungs)
        Which rungs are run for each record, and whether their answers are right.
    stakes : Stakes
    allowed : bool array of shape (n, n_rungs), optional
        Whether each answer lies in a slice that is settled; by default all do.
    """
    rng = np.random.default_rng(seed)
    n = len(right)
    live = [check for check in checks if check.on]
    found = []
    for check in checks:
        others = [c for c in live if c is not check]
        place = checks.index(check)
        before = [c for c in live if c is not check and checks.index(c) < place]
        # what reaches it: answers of rungs that run because no cheaper rung settled with it in force
        reached = _reached(worth, _stopped([*others, check], worth)) & ~_stopped(before, worth)
        wrong, good = worth & ~right, worth & right
        cost_with, to_teacher = _costs(worth, right, _stopped([*others, check], worth), stakes, allowed)
        cost_without, to_teacher_without = _costs(worth, right, _stopped(others, worth), stakes, allowed)
        time_usd = check.micros * stakes.cpu_hour / 3.6e9 * reached.sum(axis=1)
        gain = cost_without - cost_with - time_usd
        # a false alarm costs money where the answer would have settled, rightly, and the teacher is asked now
        alarms = to_teacher & ~to_teacher_without & _settles_right(worth, right, _stopped(others, worth))
        means = 1000 * gain[rng.integers(0, n, (n_bootstrap, n))].mean(axis=1) if n else np.zeros(1)
        low, high = (float(v) for v in np.percentile(means, [2.5, 97.5]))
        value = float(1000 * gain.mean()) if n else 0.0
        found.append(
            ValidatorRecord(
                name=check.name, on=check.on, required=check.required,
                n_wrong=int(wrong.sum()), n_right=int(good.sum()),
                caught=int((wrong & check.stops).sum()), false_alarms=int((good & check.stops).sum()),
                wrong_left=int((reached & ~right).sum()), right_left=int((reached & right).sum()),
                caught_in_place=int((reached & ~right & check.stops).sum()),
                false_in_place=int((reached & right & check.stops).sum()),
                micros=check.micros,
                false_alarm_usd=float(1000 * alarms.mean() * stakes.teacher_call) if n else 0.0,
                value_usd=value, value_interval=(low, high), advice=_advice(check, value, low),
            )
        )  # fmt: skip
    return found


def _stopped(checks: Sequence[Check], worth: Bools) -> Bools:
    out = np.zeros_like(worth)
    for check in checks:
        out |= check.stops
    return out


def _reached(worth: Bools, stopped: Bools) -> Bools:
    """Say which answers are given at all: a rung runs until a cheaper one settles."""
    settles = worth & ~stopped
    earlier = np.zeros_like(worth)
    earlier[:, 1:] = np.logical_or.accumulate(settles, axis=1)[:, :-1]
    reached: Bools = worth & ~earlier
    return reached


def _costs(
    worth: Bools, right: Bools, stopped: Bools, stakes: Stakes, allowed: Bools | None
) -> tuple[NDArray[np.float64], Bools]:
    settles = worth & ~stopped
    first = settles.argmax(axis=1)
    local = np.asarray(settles.any(axis=1), dtype=bool)
    at = np.arange(len(worth))
    if allowed is not None:
        local = local & allowed[at, first]
    wrong = local & ~right[at, first]
    return np.where(local, wrong * stakes.wrong_answer, stakes.teacher_call), ~local


def _settles_right(worth: Bools, right: Bools, stopped: Bools) -> Bools:
    settles = worth & ~stopped
    found: Bools = settles.any(axis=1) & right[np.arange(len(worth)), settles.argmax(axis=1)]
    return found


def _advice(check: Check, value: float, low: float) -> str:
    if check.required:
        return "required"
    if check.on:
        return "keep" if value > 0 else "switch off"
    return "switch on" if low > 0 else "leave off"
