"""How long a rollout will take: simulated, for several true agreements, with the guard that serves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascade.policy.audit_rate import AuditSettings
from cascade.policy.guard import GuardSettings
from cascade.policy.guard_simulation import Simulation, Traffic, Truth
from cascade.policy.steps import SHARES


@dataclass(frozen=True, slots=True)
class Span:
    """What half of the rollouts, and nine of ten, need at most. NaN where none got there."""

    median: float
    most: float

    @staticmethod
    def of(values: NDArray[np.float64]) -> Span:
        """Summarise values; there may be none."""
        if not len(values):
            return Span(float("nan"), float("nan"))
        return Span(float(np.median(values)), float(np.quantile(values, 0.9)))


@dataclass(frozen=True, slots=True)
class StepPlan:
    """What one step takes: of the rollouts that leave it upwards."""

    share: int
    left: float
    audits: Span
    seconds: Span


@dataclass(frozen=True, slots=True)
class Plan:
    """What becomes of a candidate of a given true agreement.

    Attributes
    ----------
    agreement : float
    to_full, rolled_back : float
        Share of the simulated rollouts that got to the last step, or were rolled back before. The rest was at
        neither when the simulation ended.
    steps : tuple of StepPlan
        Each step that can be left.
    seconds, audits, usd : Span
        From the start to the last step; of those that got there.
    caught_seconds, caught_audits : Span
        From the start to the rollback; of those that were.
    """

    agreement: float
    to_full: float
    rolled_back: float
    steps: tuple[StepPlan, ...]
    seconds: Span
    audits: Span
    usd: Span
    caught_seconds: Span
    caught_audits: Span


def likely_agreements(bar: float) -> tuple[float, ...]:
    """Give the true agreements worth planning for: from well below the bar to well above."""
    slack = 1 - bar
    return tuple(round(1 - slack * times, 6) for times in (2.0, 1.4, 1.0, 0.75, 0.5, 0.25))


def plan(
    settings: GuardSettings,
    agreements: Sequence[float],
    traffic: Traffic,
    audits: AuditSettings,
    shares: tuple[int, ...] = SHARES,
    n_rollouts: int = 300,
    max_audits: int = 8_000,
    seed: int = 0,
) -> Iterator[Plan]:
    """Simulate rollouts until all have got to the last step or were rolled back, or `max_audits`.

    Slices are left out: a candidate that is as good in each of them needs the same audits.
    """
    whole = GuardSettings(
        settings.bar, settings.delta, (), settings.promote_delta, settings.margins, settings.min_audits
    )
    for agreement in agreements:
        rng = np.random.default_rng(seed)
        simulation = Simulation(whole, Truth(agreement), traffic, audits, n_rollouts, rng, shares)
        yield _run(simulation, agreement, shares, max_audits)


def _run(simulation: Simulation, agreement: float, shares: tuple[int, ...], max_audits: int) -> Plan:
    n = len(simulation.step)
    ended, full = np.zeros(n, bool), np.zeros(n, bool)
    seconds, audits, usd = np.zeros(n), np.zeros(n), np.zeros(n)
    for _ in range(max_audits):
        simulation.advance()
        new = (simulation.full | simulation.rolled_back) & ~ended
        ended |= new
        full |= new & simulation.full
        seconds[new], audits[new], usd[new] = (
            simulation.seconds[new],
            simulation.audits[new],
            simulation.usd[new],
        )
        if ended.all():
            break
    back = ended & ~full
    return Plan(
        agreement, float(full.mean()), float(back.mean()),
        tuple(_step(simulation, step, share, n) for step, share in enumerate(shares[:-1])),
        Span.of(seconds[full]), Span.of(audits[full]), Span.of(usd[full]),
        Span.of(seconds[back]), Span.of(audits[back]),
    )  # fmt: skip


def _step(simulation: Simulation, step: int, share: int, n: int) -> StepPlan:
    left = [each for each in simulation.left if each["step"][0] == step]
    joined = {
        key: np.concatenate([each[key] for each in left]) if left else np.zeros(0)
        for key in ("audits", "seconds")
    }
    return StepPlan(share, len(joined["audits"]) / n, Span.of(joined["audits"]), Span.of(joined["seconds"]))
