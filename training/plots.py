"""Plots of the report and the demo; the same figures give the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from training.certificate import Certificate
from training.cost_quality import Simulation
from training.evaluate import Scored, reliability, settled_against_agreement, wrong_pairs

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#777777"


def blank_figure(width: float = 6.4, height: float = 4.2) -> Figure:
    """Give a figure of so many inches that any backend may save."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=110, metadata={"Software": None})


def draw_tradeoff(figure: Figure, scored: Scored, certificate: Certificate) -> None:
    """Draw agreement against settled share, with the bar and the certified point."""
    axes = figure.add_subplot()
    share, agreement = settled_against_agreement(scored.confidence, scored.right)
    keep = np.arange(len(share)) >= min(50, len(share) // 4)
    axes.plot(share[keep], agreement[keep], color=BLUE, label="surest answers first")
    axes.axhline(certificate.bar, color=GREY, linestyle="--", label=f"bar {certificate.bar:.1%}")
    if certificate.valid:
        point = (
            certificate.n_settled / certificate.n_held_out,
            1 - certificate.n_wrong / max(certificate.n_settled, 1),
        )
        axes.plot(*point, "o", color=ORANGE, label="certified thresholds")
    axes.set(xlabel="share settled locally", ylabel="agreement with the teacher", xlim=(0, 1))
    axes.legend(loc="lower left")
    axes.grid(alpha=0.3)


def draw_reliability(figure: Figure, scored: Scored) -> None:
    """Draw the share right against the acceptor's confidence, for each rung."""
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", label="perfectly calibrated")
    for r, rung in enumerate(scored.rungs):
        parts = reliability(scored.confidence[:, r], scored.right[:, r])
        axes.plot([p[0] for p in parts], [p[1] for p in parts], "o-", label=rung)
    axes.set(xlabel="acceptor's P(right)", ylabel="share right", xlim=(0, 1.02), ylim=(0, 1.02))
    axes.legend(loc="upper left")
    axes.grid(alpha=0.3)


def draw_wrong_pairs(
    figure: Figure, scored: Scored, thresholds: Sequence[float], labels: Sequence[str]
) -> None:
    """Draw the commonest confusions among what was settled wrong."""
    pairs = wrong_pairs(scored, thresholds, labels)
    axes = figure.add_subplot()
    if pairs:
        # a label may hold a dollar sign, which would begin a formula
        names = [f"{truth} -> {answer}".replace("$", r"\$") for truth, answer, _ in pairs][::-1]
        axes.barh(range(len(names)), [count for *_, count in pairs][::-1], color=ORANGE)
        axes.set_yticks(range(len(names)), names)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    else:
        axes.text(0.5, 0.5, "nothing was settled wrong", ha="center", transform=axes.transAxes)
        axes.set_yticks([])
    axes.set(xlabel="held-out records", title="settled wrong: teacher's label -> answer")


def draw_learning_curve(figure: Figure, forecast: Mapping[str, Any]) -> None:
    """Draw the share settled at the bar against the number of records, and where it is forecast to go.

    Parameters
    ----------
    forecast : mapping
        `training.learning_curve.Forecast` as the manifest holds it.
    """
    axes = figure.add_subplot()
    points, now = forecast["points"], forecast["records"]
    at, settled = [p["records"] for p in points], [p["settled"] for p in points]
    spread = [[p["settled"] - p["low"] for p in points], [p["high"] - p["settled"] for p in points]]
    axes.errorbar(
        at, settled, np.maximum(spread, 0), fmt="o", color=BLUE, capsize=3, label="nested subsets"
    )  # fmt: skip
    after = now + forecast["next_records"]
    line = np.linspace(max(min(at), 1), after + forecast["next_records"], 200)
    law = forecast["floor"] + forecast["slope"] * line ** -forecast["exponent"]
    gap = forecast["floor"] + forecast["slope"] * float(now) ** -forecast["exponent"]
    scale = (1 - forecast["settled_now"]) / max(gap, 1e-9) if forecast["settled_now"] > 0 else 1.0
    axes.plot(
        line, np.clip(1 - scale * law, 0, 1), color=GREY, linestyle="--",
        label="inverse power law, through now",
    )  # fmt: skip
    if forecast["settled_now"] > 0:
        axes.plot(now, forecast["settled_now"], "o", color=ORANGE, label="now")
    level = forecast["settled_next"]
    axes.errorbar(
        [after], [level], [[max(level - forecast["low"], 0)], [max(forecast["high"] - level, 0)]],
        fmt="D", color=ORANGE, capsize=4, label=f"with {forecast['next_records']:,} more",
    )  # fmt: skip
    axes.set(xlabel="records", ylabel="share settled at the bar", ylim=(0, 1.02))
    axes.legend(loc="lower right")
    axes.grid(alpha=0.3)


def demo_plot(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw the demo's result for each node, next to always-teacher."""
    figure = blank_figure(11, 3.4)
    nodes = [str(row["node"]) for row in rows]
    at = np.arange(len(nodes))
    left, middle, right = figure.subplots(1, 3)
    left.bar(at - 0.2, [row["settled"] for row in rows], 0.4, color=BLUE, label="settled locally")
    left.bar(
        at + 0.2, [row["agreement"] or 0 for row in rows], 0.4, color=ORANGE, label="agreement among them"
    )
    left.set(ylim=(0, 1.25), title="share of requests")
    for axes, key, title in (
        (middle, "p50_ms", "p50 latency, ms"),
        (right, "usd_per_1000", "$ per 1,000 requests"),
    ):
        axes.bar(at - 0.2, [row[key] for row in rows], 0.4, color=BLUE, label="ladder")
        axes.bar(
            at + 0.2, [row["always_teacher"][key] for row in rows], 0.4, color=GREY, label="always teacher"
        )
        axes.set(title=title)
    for axes in (left, middle, right):
        axes.set_xticks(at, nodes, rotation=12)
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3, axis="y")
    _save(figure, path)


def draw_cost_quality(figure: Figure, simulation: Simulation) -> None:
    """Draw the cost-quality curve beside always-each, random mix and oracle."""
    axes = figure.add_subplot()
    costs = [point.cost for point in simulation.always]
    high = max(costs)
    for curve, color, style, name in (
        (simulation.oracle, GREY, ":", "oracle (knows each outcome)"),
        (simulation.mix, GREY, "--", "random mix (looks at no prompt)"),
        (simulation.curve, BLUE, "-", "router by difficulty"),
    ):
        line = np.vstack([curve, [max(high, curve[-1, 0]), curve[-1, 1]]])
        axes.plot(line[:, 0], line[:, 1], style, color=color, label=name)
    for point in simulation.always:
        axes.plot(point.cost, point.quality, "o", color=ORANGE)
        axes.annotate(
            point.name, (point.cost, point.quality), xytext=(5, -11), textcoords="offset points", fontsize=8
        )
    if min(costs) > 0 and high / min(costs) > 20:
        axes.set_xscale("log")
    axes.set(xlabel="dollars a prompt", ylabel="mean score")
    axes.legend(loc="lower right", fontsize=8)
    axes.grid(alpha=0.3)


def plot_cost_quality(simulation: Simulation, path: Path) -> None:
    """Save what `draw_cost_quality` draws."""
    figure = blank_figure()
    draw_cost_quality(figure, simulation)
    _save(figure, path)


def save_plot(draw: Callable[[Figure], None], path: Path, width: float, height: float) -> None:
    """Save what a function draws on a figure of so many inches."""
    figure = blank_figure(width, height)
    draw(figure)
    _save(figure, path)
