"""`rollout`: how a bundle goes live, and how what is settled locally is audited."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, Strict

from cascade.config import values
from cascade.config.section import Section

Share = Annotated[float, Field(gt=0, le=1)]


def _rising(steps: tuple[int, ...]) -> tuple[int, ...]:
    if any(b <= a for a, b in pairwise(steps)) or steps[-1] != 100:
        raise values.expected("percentages that rise to 100, such as [1, 5, 25, 100]")
    return steps


class AuditConfig(Section):
    """`audit`: the random sample of locally settled answers that the teacher is asked about as well.

    `ceiling` is the share right after a change; it halves after `half` audits and falls to `floor`.
    `daily_usd` caps what the audits of one node cost in a day (UTC).
    """

    ceiling: Share = 0.5
    floor: Share = 0.01
    half: Annotated[int, Field(ge=1, le=1_000_000)] = 200
    daily_usd: Annotated[float, Field(ge=0)] = 5.0
    max_waiting: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    max_in_flight: Annotated[int, Field(ge=1, le=1024)] = 8


class AlarmsConfig(Section):
    """`alarms`: what pulls a candidate back without asking the teacher.

    `storm` is by how much more may escalate than the bundle's certificate saw; `errors` the share of requests
    that may meet a failing local rung; `latency_ms` how long a settled answer may take (none: no such alarm),
    but for `latency_share` of them.
    """

    storm: Annotated[float, Field(ge=1)] = 1.5
    errors: Annotated[float, Field(gt=0, lt=1)] = 0.02
    latency_ms: Annotated[float, Field(gt=0)] | None = None
    latency_share: Annotated[float, Field(gt=0, lt=1)] = 0.05


class RolloutConfig(Section):
    """`rollout`: the steps of a canary in percent, who lets it pass, how often the shared state is read."""

    steps: Annotated[
        tuple[Annotated[int, Field(ge=1, le=100)], ...],
        Strict(False),
        Field(min_length=1),
        AfterValidator(_rising),
    ] = (1, 5, 25, 100)
    approval: Literal["automatic", "manual"] = "automatic"
    poll_seconds: Annotated[float, Field(gt=0, le=1)] = 0.5
    max_shadows_waiting: Annotated[int, Field(ge=1, le=100_000)] = 1_000
    audit: AuditConfig = AuditConfig()
    alarms: AlarmsConfig = AlarmsConfig()
