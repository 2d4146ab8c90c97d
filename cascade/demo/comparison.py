"""The ladder next to always-teacher: figures of each node, and their table."""

from __future__ import annotations

import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cascade.demo.traffic import Sent


def compared(
    node: str, waited: Sequence[Sent], before: Sequence[Sent], after: Sequence[Sent]
) -> dict[str, Any]:
    """Give a node's figures.

    Parameters
    ----------
    node : str
    waited : sequence of Sent
        What the frontier answered with its latency.
    before : sequence of Sent
        What it answered of the whole history.
    after : sequence of Sent
        Unseen traffic, answered by the ladder.
    """
    from training.evaluate import clopper_pearson

    answered = [s for s in after if s.decision is not None]
    settled = [s for s in answered if s.decision is not None and s.decision.rung != "frontier"]
    agreeing = [s for s in settled if s.decision is not None and s.decision.label == s.example.label]
    right = [s for s in answered if s.decision is not None and s.decision.label == s.example.label]
    low, high = clopper_pearson(len(agreeing), len(settled)) if settled else (float("nan"), float("nan"))
    return {
        "node": node,
        "requests": len(after),
        "failed": len(after) - len(answered),
        "settled": len(settled) / max(len(answered), 1),
        "by_rung": dict(Counter(s.decision.rung for s in answered if s.decision is not None)),
        "agreement": len(agreeing) / len(settled) if settled else None,
        "agreement_interval": [low, high],
        "agreement_overall": len(right) / max(len(answered), 1),
        "p50_ms": _quantile(after, 50), "p99_ms": _quantile(after, 99),
        "usd_per_1000": _usd(after),
        "always_teacher": {
            "p50_ms": _quantile(waited, 50), "p99_ms": _quantile(waited, 99),
            "usd_per_1000": _usd(before),
        },
    }  # fmt: skip


def _quantile(sent: Sequence[Sent], percent: int) -> float:
    return statistics.quantiles([s.latency_ms for s in sent], n=100)[percent - 1]


def _usd(sent: Sequence[Sent]) -> float:
    costs = [s.decision.cost.usd for s in sent if s.decision is not None]
    return 1000 * sum(costs) / max(len(costs), 1)


def print_result(result: dict[str, Any], folder: Path) -> None:
    """Print the table of what `run_demo` gives, and how to go on."""
    table = Table(title="Unseen traffic: the ladder next to always-teacher (the simulated frontier)")
    for name in (
        "node",
        "requests",
        "settled locally",
        "agreement (95 % interval)",
        "p50 ms",
        "p99 ms",
        "$ per 1,000",
    ):
        table.add_column(name, justify="left" if name == "node" else "right")
    for row in result["nodes"]:
        teacher = row["always_teacher"]
        low, high = row["agreement_interval"]
        agreement = "-" if row["agreement"] is None else f"{row['agreement']:.1%} ({low:.1%} to {high:.1%})"
        table.add_row(
            row["node"], str(row["requests"]), f"{row['settled']:.1%}", agreement,
            f"{row['p50_ms']:.1f}", f"{row['p99_ms']:.0f}", f"{row['usd_per_1000']:.3f}",
        )  # fmt: skip
        table.add_row(
            "  always-teacher", "", "0.0%", "-",
            f"{teacher['p50_ms']:.1f}", f"{teacher['p99_ms']:.0f}", f"{teacher['usd_per_1000']:.3f}",
            style="dim",
        )  # fmt: skip
    Console(width=max(Console().width, 110)).print(table)
    python = Path(sys.executable).parent
    Console().print(
        f"took {result['seconds']:.0f} s\n"
        f"plot: {result['plot']}\n"
        f"reports: {folder}/models/<node>/<version>/report.md\n"
        f"start the service again:\n"
        f"  {python}/cascade frontier {folder}/answers.json --port {result['frontier_port']} &\n"
        f"  {python}/cascade serve --config {result['config']}",
        highlight=False, markup=False, soft_wrap=True,
    )  # fmt: skip
