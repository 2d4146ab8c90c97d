"""The `loop` section: when `cascade loop` retrains a node, and how it goes on."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from cascade.config.section import Section

Count = Annotated[int, Field(ge=1, le=10_000_000)]


class LoopConfig(Section):
    """`loop`: what makes a node due for retraining, and what a better bundle begins with.

    Attributes
    ----------
    every_minutes : float
        How often nodes are looked at.
    new_records : int
        So many training records since the last retraining make a node due.
    every_days : float
        After so many days a node with any new record is due.
    shift : float
        A node is due when its newest answers are so far from those before: the total variation distance.
    significance : float
        The paired test's p-value below which a bundle counts as better or worse.
    percent : int
        The rollout's step to begin at: 0 is shadow.
    """

    every_minutes: Annotated[float, Field(gt=0, le=100_000)] = 60.0
    new_records: Count = 1000
    every_days: Annotated[float, Field(gt=0, le=3650)] = 7.0
    shift: Annotated[float, Field(gt=0, le=1)] = 0.3
    significance: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    percent: Annotated[int, Field(ge=0, le=100)] = 0
