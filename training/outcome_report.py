"""What `cascade simulate --outcomes` prints about an outcome table."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from training.cost_quality import Interval, Point, Simulation, quality_at
from training.wording import amount


def print_simulation(console: Console, simulation: Simulation) -> None:
    """Print always-each, the plans and the areas, with 95 % intervals."""
    table = Table(title=f"{simulation.n} prompts, each answered by every rung", title_justify="left")
    for name in (
        "",
        "$ per 1,000",
        "mean score",
        "random mix at that cost",
        "saved against the best fixed rung",
    ):
        table.add_column(name, justify="left" if not name else "right")
    best = next(p for p in simulation.always if p.name == f"always {simulation.best_fixed}")
    for point in simulation.always:
        mark = " (best fixed)" if point is best else ""
        table.add_row(point.name + mark, *_cells(point), "", "")
    table.add_section()
    for plan in simulation.plans:
        name = f"router, {plan.target:.0%} of the best"
        if plan.point is None:
            table.add_row(name, "not reached", "", "", "")
            continue
        table.add_row(
            name, *_cells(plan.point), f"{quality_at(simulation.mix, plan.point.cost):.3f}",
            f"{plan.saving:.1%} {_between(plan.saving_interval, '{:.1%}')}",
        )  # fmt: skip
    console.print(table)
    shares = Table(title="who answers, by plan", title_justify="left")
    for name in ("", *simulation.rungs):
        shares.add_column(name, justify="left" if not name else "right")
    for plan in simulation.plans:
        if plan.point is not None:
            shares.add_row(
                f"{plan.target:.0%} of the best", *(f"{plan.shares[r]:.1%}" for r in simulation.rungs)
            )
    console.print(shares)
    areas = Table(title="area under the cost-quality curve", title_justify="left")
    for name in ("", "mean score over the range of costs"):
        areas.add_column(name, justify="left" if not name else "right")
    for name, (value, interval) in simulation.areas.items():
        shown = "router less random mix" if name == "gain" else name
        areas.add_row(shown, f"{value:.4f} {_between(interval, '{:.4f}')}")
    console.print(areas)
    console.print(verdict(simulation), markup=False, highlight=False, soft_wrap=True)


def verdict(simulation: Simulation) -> str:
    """Say in one sentence whether difficulty can be learned from these prompts."""
    low, high = simulation.areas["gain"][1]
    if simulation.learnable:
        return (
            f"Routing by difficulty beats the random mix by {simulation.areas['gain'][0]:.4f} of area "
            f"({low:.4f} to {high:.4f}): which prompts are hard can be learned from their text."
        )
    return (
        f"Routing by difficulty is not shown to beat the random mix (area {low:+.4f} to "
        f"{high:+.4f} against it): from these prompts, which are hard cannot be told. "
        "Use one rung, a random mix, or more prompts."
    )


def _cells(point: Point) -> tuple[str, str]:
    cost = tuple(1000 * c for c in point.cost_interval)
    return (
        f"{amount(1000 * point.cost)} ({amount(cost[0])} to {amount(cost[1])})",
        f"{point.quality:.3f} {_between(point.quality_interval, '{:.3f}')}",
    )


def _between(interval: Interval, form: str) -> str:
    return f"({form.format(interval[0])} to {form.format(interval[1])})"
