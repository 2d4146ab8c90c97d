"""The report of a retraining: Markdown with plots in the bundle, and a short form for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from training.certificate import Certificate
from training.document import Plot
from training.evaluate import Row, Scored, compare
from training.node_report import NodeReport
from training.plots import save_plot
from training.render_markdown import to_markdown
from training.report_sections import to_document
from training.wording import amount, sentence, share_text

REPORT = "report.md"

HEADER = (
    "",
    "settled locally",
    "agreement among settled",
    "agreement overall",
    "$ a decision",
    "ms a decision",
)


def write_report(folder: Path, report: NodeReport) -> Path:
    """Write `report.md` and its plots: the sections of `cascade report`, as far as a retraining knows them.

    The plots are the same bytes for the same figures; the text holds measured times and what they cost.

    Returns
    -------
    Path
        Of `report.md`.
    """

    def save(plot: Plot) -> str:
        save_plot(plot.draw, folder / f"{plot.name}.png", plot.width, plot.height)
        return f"{plot.name}.png"

    path = folder / REPORT
    text = to_markdown(to_document(report), save)
    path.write_text(text, encoding="utf-8", errors="replace")
    return path


def print_report(
    console: Console,
    scored: Scored,
    certificate: Certificate,
    thresholds: Sequence[float],
    caveats: Sequence[str] = (),
) -> None:
    """Print the comparison, the certificate, and what is to be said with it."""
    table = Table(title=f"{len(scored.y)} held-out records")
    lines = [_cells(row) for row in compare(scored, thresholds)]
    shown = [at for at, cells in enumerate(zip(*lines, strict=True)) if set(cells) != {"-"}]
    for at in shown:  # what was not measured for any row has no column
        table.add_column(HEADER[at], justify="right" if HEADER[at] else "left")
    for line in lines:
        table.add_row(*(line[at] for at in shown))
    console.print(table)
    style = "green" if certificate.valid else "yellow"
    console.print(sentence(certificate.reason), style=style, markup=False, highlight=False, soft_wrap=True)
    for caveat in caveats:
        console.print(f"but: {caveat}", style="yellow", markup=False, highlight=False, soft_wrap=True)


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.name, share_text(row.settled, row.settled_interval),
        share_text(row.agreement, row.agreement_interval), f"{row.overall:.1%}",
        "-" if row.usd != row.usd else amount(row.usd), "-" if row.ms != row.ms else f"{row.ms:.1f}",
    )  # fmt: skip
