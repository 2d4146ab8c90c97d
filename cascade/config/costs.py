"""`costs`: what counts against the teacher's bill besides the teacher."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from cascade.config.section import Section

Dollars = Annotated[float, Field(ge=0, le=1e6)]


class CostsConfig(Section):
    """Prices of everything a ladder spends besides the teacher, so that a saving is a net one.

    The defaults are about what a cloud asks on demand for one virtual CPU, and for two of them to retrain on.

    Attributes
    ----------
    cpu_hour : float
        Dollars for an hour of one CPU core; local rungs are charged by the time they run.
    retrain_hour : float
        Dollars for an hour of the machine that retrains.
    decisions_per_retraining : int
        Over how many decisions the price of one retraining is spread in what is expected: an assumption.
    audit_share : float
        Share of the settled answers that the teacher is asked about as well, in what is expected: an
        assumption, whatever was audited so far. It sets no rate of audits; `rollout.audit` does.
    wrong_answer : float, optional
        Dollars that an answer which the teacher would not have given does in harm. By default what the bar
        implies: at a bar of a, settling is worth it from P(right) = a on, so one wrong answer weighs as much
        as 1 / (1 - a) teacher calls.
    straight_to_teacher : bool
        Whether a bundle that costs more than it saves leaves everything to the teacher.
    """

    cpu_hour: Dollars = 0.05
    retrain_hour: Dollars = 0.10
    decisions_per_retraining: Annotated[int, Field(ge=1, le=10**12)] = 10_000
    audit_share: Annotated[float, Field(ge=0, le=1)] = 0.02
    wrong_answer: Dollars | None = None
    straight_to_teacher: bool = True
