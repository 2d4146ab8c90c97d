"""The guard in simulated rollouts, beside a fixed-sample test looked at every 5 minutes.

`python -m benchmarks.guard`. Each scenario is 1,000 rollouts from 1 % to all traffic, with the standard
settings: the steps, the audit rate, the guard's betting test. The fixed-sample test is the exact binomial
test of "disagreement <= 1 - bar" that a monitor would run over all audits so far, at the same delta (split
over "all" and the slices), looked at every 5 minutes of the simulated time. It sees the same audits, and so
profits from the guard raising the audit rate.

`--live` rolls poisoned bundles out on the real service instead: see `benchmarks.guard_live`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from scipy.stats import beta, binom

from benchmarks.table import save, show
from cascade.policy.audit_rate import AuditSettings
from cascade.policy.guard import MARGINS, GuardSettings
from cascade.policy.guard_simulation import Simulation, Traffic, Truth
from cascade.policy.steps import SHARES

BAR, DELTA = 0.95, 0.05
TRAFFIC = Traffic(per_second=10.0, settled_share=0.8)
LOOK_SECONDS = 300.0
SLICES = ("a", "b", "c", "d")
CHANGE = 100_000


@dataclass(frozen=True)
class Scenario:
    """A candidate, and whether it ought to be rolled back."""

    name: str
    truth: Truth
    bad: bool


def sliced(one: float, others: float) -> Truth:
    """Give a candidate with slices of 10, 15, 25 and 30 %; the first has an agreement of its own."""
    return Truth(others, slices=((0.10, one), (0.15, others), (0.25, others), (0.30, others)))


SCENARIOS = (
    Scenario("a: exactly at the bar", Truth(BAR), False),
    Scenario("a: at the bar in each of 4 slices", sliced(BAR, BAR), False),
    Scenario("b: 1 point better", Truth(BAR + 0.01), False),
    Scenario("b: 3 points better", Truth(BAR + 0.03), False),
    Scenario("c: 2 points below", Truth(BAR - 0.02), True),
    Scenario("c: 5 points below", Truth(BAR - 0.05), True),
    Scenario("c: 10 points below", Truth(BAR - 0.10), True),
    Scenario("d: 3 points better, then 5 below", Truth(BAR + 0.03, (), BAR - 0.05, CHANGE), True),
    Scenario("d: 3 points better, then 10 below", Truth(BAR + 0.03, (), BAR - 0.10, CHANGE), True),
    Scenario("e: one slice 15 below, mean above", sliced(BAR - 0.15, BAR + 0.03), True),
)


class Looked:
    """The fixed-sample test, looked at every 5 minutes."""

    def __init__(self, n_rollouts: int, n_slices: int, horizon: int) -> None:
        level = DELTA / (1 + n_slices)
        n = np.arange(horizon + 2)
        # least number of disagreements whose upper tail is at most the level
        self._critical = binom.isf(level, n, 1 - BAR).astype(np.int64) + 1
        self._n = np.zeros((n_rollouts, 1 + n_slices), np.int64)
        self._k = np.zeros_like(self._n)
        self._rows = np.arange(n_rollouts)
        self.rolled_back = np.zeros(n_rollouts, bool)

    def look(self, at: NDArray[np.bool_]) -> None:
        """Test where the clock says so."""
        self.rolled_back |= at & (self._k >= self._critical[self._n]).any(axis=1)

    def count(self, wrong: NDArray[np.int64], member: NDArray[np.int64]) -> None:
        """Take the audits of a step."""
        self._n[:, 0] += 1
        self._k[:, 0] += wrong
        inside = member >= 0
        self._n[self._rows[inside], 1 + member[inside]] += 1
        self._k[self._rows[inside], 1 + member[inside]] += wrong[inside]


class Firsts:
    """When each rollout was rolled back: audits, settled answers, and whether before the change."""

    def __init__(self, n_rollouts: int) -> None:
        self.done = np.zeros(n_rollouts, bool)
        self.early = np.zeros(n_rollouts, bool)
        self.audits = np.zeros(n_rollouts)
        self.settled = np.zeros(n_rollouts)

    def mark(
        self,
        now: NDArray[np.bool_],
        audits: NDArray[np.int64],
        settled: NDArray[np.int64],
        early: NDArray[np.bool_],
    ) -> None:
        """Note those that are rolled back now and were not before."""
        new = now & ~self.done
        self.done |= now
        self.early |= new & early
        self.audits[new], self.settled[new] = audits[new], settled[new]

    def figures(self, bad: bool) -> dict[str, Any]:
        """Give the shares, and the medians of those that were rolled back when they ought to be."""
        n = len(self.done)
        hit = self.done & ~self.early
        false = self.early if bad else self.done
        return {
            "detected": exact(int(hit.sum()), n - int(self.early.sum())) if bad else None,
            "false rollbacks": exact(int(false.sum()), n),
            "median audits": float(np.median(self.audits[hit])) if bad and hit.any() else None,
            "median settled": float(np.median(self.settled[hit])) if bad and hit.any() else None,
        }


def exact(hits: int, n: int) -> dict[str, float]:
    """Give a share and its exact (Clopper-Pearson) 95 % interval."""
    low = float(beta.ppf(0.025, hits, n - hits + 1)) if hits else 0.0
    high = float(beta.ppf(0.975, hits + 1, n - hits)) if hits < n else 1.0
    return {"share": hits / n, "low": low, "high": high}


def run(scenario: Scenario, n_rollouts: int, horizon: int, seed: int) -> dict[str, Any]:
    """Simulate a scenario's rollouts to their end or `horizon` audits.

    Where the candidate changes, audits and settled answers are counted from the change on.
    """
    slices = SLICES[: len(scenario.truth.slices)]
    sim = Simulation(
        GuardSettings(BAR, DELTA, slices, margins=MARGINS[1:]), scenario.truth, TRAFFIC, AuditSettings(),
        n_rollouts, np.random.default_rng(seed), SHARES[1:],
    )  # fmt: skip
    looked = Looked(n_rollouts, len(slices), horizon)
    guard, fixed = Firsts(n_rollouts), Firsts(n_rollouts)
    full_at = np.zeros(n_rollouts)
    change = scenario.truth.settled_before if scenario.truth.later is not None else 0
    changed_audit = np.zeros(n_rollouts, np.int64)
    for _ in range(horizon):
        seconds, settled = sim.seconds.copy(), sim.settled.copy()
        sim.advance()
        early = (sim.settled <= change) & (change > 0)
        changed_audit[early] = sim.audits[early]
        # the clock may strike between the audit before and this one: the look sees what came before
        looked.look(np.floor(sim.seconds / LOOK_SECONDS) > np.floor(seconds / LOOK_SECONDS))
        fixed.mark(looked.rolled_back, sim.audits - 1 - changed_audit, np.maximum(settled - change, 0), early)
        looked.count(sim.wrong, sim.member)
        guard.mark(sim.rolled_back, sim.audits - changed_audit, np.maximum(sim.settled - change, 0), early)
        full_at[(full_at == 0) & sim.full] = sim.audits[(full_at == 0) & sim.full]
        if guard.done.all() and fixed.done.all():
            break
    reached = full_at > 0
    return {
        "guard": guard.figures(scenario.bad),
        "fixed-sample test": fixed.figures(scenario.bad),
        "reached 100 %": exact(int(reached.sum()), n_rollouts),
        "median audits to 100 %": float(np.median(full_at[reached])) if reached.mean() > 0.5 else None,
    }


def row(scenario: Scenario, figures: dict[str, Any]) -> dict[str, Any]:
    """Give a scenario's line of the table."""
    line: dict[str, Any] = {"scenario": scenario.name, "should roll back": "yes" if scenario.bad else "no"}
    for name, sign in (("guard", ""), ("fixed-sample test", " ")):
        of = figures[name]
        kind = "detected" if scenario.bad else "false rollbacks"
        rolled = of[kind]
        title = "guard" if name == "guard" else "5-min test"
        line[f"{title} rolled back"] = f"{rolled['share']:.1%}"
        line[f"95 % interval{sign}"] = f"{rolled['low']:.1%} to {rolled['high']:.1%}"
        line[f"audits{sign}"] = _count(of["median audits"])
        line[f"settled{sign}"] = _count(of["median settled"])
    line["reached 100 %"] = f"{figures['reached 100 %']['share']:.1%}"
    line["audits to 100 %"] = _count(figures["median audits to 100 %"])
    return line


def _count(value: float | None) -> str | None:
    return None if value is None else f"{value:,.0f}"


def main(
    rollouts: int = 1000,
    horizon: int = 10_000,
    seed: int = 0,
    live: Annotated[
        bool, typer.Option(help="Poisoned bundles on the real service, instead of simulating.")
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here as well.")] = None,
) -> None:
    """Simulate the rollouts and print how the guard does beside the fixed-sample test."""
    if live:
        _live(json_file)
        return
    figures: dict[str, Any] = {}
    for scenario in SCENARIOS:
        figures[scenario.name] = run(scenario, rollouts, horizon, seed)
        typer.echo(f"{scenario.name}: done", err=True)
    show(
        f"{rollouts:,} rollouts each, bar {BAR}, delta {DELTA}, at most {horizon:,} audits a rollout",
        [row(scenario, figures[scenario.name]) for scenario in SCENARIOS],
    )
    save(
        json_file,
        {
            "bar": BAR,
            "delta": DELTA,
            "rollouts": rollouts,
            "horizon": horizon,
            "seed": seed,
            "scenarios": figures,
        },
    )


def _live(json_file: Path | None) -> None:
    from benchmarks import guard_live

    figures = {}
    for case in guard_live.CASES:
        figures[case.name] = guard_live.run(case)
        typer.echo(f"{case.name}: {figures[case.name]['reason'] or 'not rolled back'}", err=True)
    show(
        f"{guard_live.NODE}, 2 workers, {guard_live.CALLERS} callers, teacher: {guard_live.LATENCY_MS:g} ms",
        [guard_live.row(case, figures[case.name]) for case in guard_live.CASES],
    )
    save(json_file, figures)


if __name__ == "__main__":
    typer.run(main)
