"""The parts of a node's traffic in a report: its slices, and the teacher's labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.document import Block, Rows, Text
from training.evaluate import by_label
from training.node_report import NodeReport


def slices(certificate: Mapping[str, Any]) -> list[Block]:
    """Give the certificate's lines of labels and other slices, those that are not settled first."""
    found = certificate.get("slices")
    if not found:
        return [Text("This bundle has no certificate per slice.", "note")]
    order = {"fenced": 0, "covered": 1, "proven": 2}
    lines = sorted(found["table"], key=lambda line: (order.get(line["state"], 3), line["agreement"] or 0))
    counts = {state: sum(line["state"] == state for line in lines) for state in order}
    rows = [
        (
            f"{line['dimension']}: {line['value']}", line["state"],
            f"{line['n_settled']:,}", f"{line['n_wrong']:,}",
            "-" if line["agreement"] is None
            else f"{line['agreement']:.1%} ({line['agreement_low']:.1%} to {line['agreement_high']:.1%})",
            "-" if not line["more_traffic"] else "better models" if line["more_traffic"] < 0
            else f"{line['more_traffic']:,}",
        )
        for line in lines
    ]  # fmt: skip
    return [
        Text(
            f"{counts['proven']} parts have a proof of their own, {counts['covered']} are covered by the "
            f"node's with nothing against them, and {counts['fenced']} are fenced: the teacher answers those."
        ),
        Rows(
            ("part", "state", "settled", "wrong", "agreement", "more records for a proof"),
            rows,
            frozenset({0, 1}),
        ),
    ]


def labels(report: NodeReport, most: int = 15) -> list[Block]:
    """Give what became of the held-out records of each of the teacher's labels, the worst first."""
    if report.held_out is None:
        return []
    found = by_label(report.held_out.scored, report.thresholds, list(report.manifest["contract"]["labels"]))
    rows = [
        (label, f"{n:,}", f"{share:.1%}", "-" if agreement is None else f"{agreement:.1%}")
        for label, n, share, agreement in found[:most]
    ]
    more = f", the {most} worst of {len(found)}" if len(found) > most else ""
    return [
        Text(f"By the teacher's label (the parts above go by the ladder's answer){more}:"),
        Rows(("label", "records", "settled", "agreement"), rows),
    ]
