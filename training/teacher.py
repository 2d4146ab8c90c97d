"""The teacher in the traffic: whose answers count, and how often it disagrees with itself.

Of each text with several of the teacher's answers, the first two are one independent trial of "does it
answer the same twice". Their share of disagreement d has an exact interval. A local rung gives one fixed
answer to a text, and agrees with a draw of the teacher's at most with the chance m of its commonest
answer. As m^2 is at most the chance 1 - d of two equal draws, no rung agrees more than sqrt(1 - d) on
such texts: the ceiling.

References
----------
Clopper and Pearson, Biometrika 1934.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cascade.contract import JsonValue
from cascade.fences import Teacher
from cascade.text import normalise
from cascade.traffic import TrainingRecord
from training.evaluate import clopper_pearson


@dataclass(frozen=True)
class TeacherNoise:
    """How often the teacher disagrees with itself.

    Attributes
    ----------
    repeated, disagreed : int
        Texts with at least two of its answers; those whose first two differ.
    rate, low, high : float
        Share that differ, with its exact 95 % interval.
    ceiling, ceiling_low, ceiling_high : float
        The most that any fixed answer agrees with the teacher on such texts, with what the interval allows.
    """

    repeated: int
    disagreed: int
    rate: float
    low: float
    high: float
    ceiling: float
    ceiling_low: float
    ceiling_high: float

    def to_json(self) -> dict[str, Any]:
        """Give it as the manifest's certificate stores it, under `teacher_noise`."""
        return asdict(self)

    def refuses(self, bar: float) -> str:
        """Say why a bar is out of reach; empty where it may be reached.

        It is refused only where even the upper end of the ceiling's interval is below it.
        """
        if bar <= self.ceiling_high:
            return ""
        return (
            f"a bar of {bar:.1%} is above what the teacher itself keeps: asked twice, it answered "
            f"differently for {self.disagreed} of {self.repeated} inputs, so no model agrees with it more "
            f"than about {self.ceiling:.1%} of the time (at most {self.ceiling_high:.1%}); lower the bar, or "
            "make the teacher steadier (temperature 0, a clearer prompt)"
        )


def of_this_teacher(records: Sequence[TrainingRecord], teacher: Teacher) -> tuple[list[TrainingRecord], int]:
    """Leave out what another teacher answered, and count it.

    Records that do not say whose answer they are (imports, logs from before it was said) are taken for this
    teacher's; reported outcomes are true whoever answered.
    """
    kept = [r for r in records if r.source != "teacher" or r.teacher in {"", teacher.name}]
    return kept, len(records) - len(kept)


def measure_noise(records: Sequence[TrainingRecord]) -> TeacherNoise | None:
    """Estimate the teacher's disagreement with itself; None where nothing was asked twice.

    Parameters
    ----------
    records : sequence of TrainingRecord
        In any order; reported outcomes are not the teacher's answers and do not count.
    """
    answers: dict[str, list[tuple[float, str, JsonValue]]] = defaultdict(list)
    for record in records:
        if record.source != "outcome":
            answers[normalise(record.text)].append((record.time or 0.0, record.id, record.output))
    pairs = [sorted(found, key=lambda row: row[:2])[:2] for found in answers.values() if len(found) > 1]
    if not pairs:
        return None
    n, k = len(pairs), sum(first[2] != second[2] for first, second in pairs)
    low, high = clopper_pearson(k, n)
    return TeacherNoise(n, k, k / n, low, high, math.sqrt(1 - k / n), math.sqrt(1 - high), math.sqrt(1 - low))
