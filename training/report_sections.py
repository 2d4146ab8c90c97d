"""The sections of a node's report, in the words of whoever has to decide whether it is safe to turn on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from training.document import Block, Document, Rows, Section, Text
from training.node_report import NodeReport
from training.report_money import money
from training.report_parts import labels, slices
from training.report_quality import alternatives, calibration, confusions, learning
from training.report_validators import validators
from training.report_verdict import headline, safety
from training.wording import dollars, four_places, shortened


def to_document(report: NodeReport) -> Document:
    """Arrange what is known about a node for reading."""
    sections = [
        Section("Is it safe to turn on?", safety(report)),
        Section("Next to the alternatives", alternatives(report)),
        Section("What it costs, net", money(report)),
        Section("Parts of the traffic", [*slices(report.manifest["certificate"]), *labels(report)]),
        Section("Validators and their record", validators(report.validators)),
        Section("Does its confidence mean what it says?", calibration(report)),
        Section("What was settled wrong", confusions(report)),
        Section("What more traffic would bring", learning(report.manifest)),
        Section("What to label next", label_next(report)),
        Section("What was tried", tried(report.manifest.get("tried") or ())),
        Section("Records and settings", settings(report)),
    ]
    title = "retraining report" if report.saved else f"bundle {report.version}"
    return Document(f"{report.node}: {title}", headline(report), sections)


def label_next(report: NodeReport) -> list[Block]:
    """Give the records that are worth most to label; a saved report holds no text of the traffic."""
    if report.to_label is None:
        return [Text(f"`cascade report {report.node}` names the records that are worth most to label.")]
    if not report.to_label:
        return [Text("There is no traffic yet that was not trained on.", "note")]
    rows = [
        (shortened(record.text), record.answer, f"{record.confidence:.2f}", record.why, record.id)
        for record in report.to_label
    ]
    return [
        Text(
            f"The {len(rows)} records that would teach it most, each unlike those before it. Send the right "
            "answer with `ReportOutcome`, by the decision's id; of an imported record, correct its line and "
            f"import the file again: `cascade import {report.node} FILE --replace`."
        ),
        Rows(("text", "ladder says", "P(right)", "why", "id"), rows, frozenset({0, 1, 3, 4})),
    ]


def tried(variants: Sequence[Mapping[str, Any]]) -> list[Block]:
    """Give the variants that the retraining tried."""
    if not variants:
        return [Text("This bundle does not say what its retraining tried.", "note")]
    rows = [
        (
            str(v["rung"]), str(v["variant"]),
            four_places(v["log_loss"]),
            *("-" if v[key] is None else f"{v[key]:.1%}" for key in ("accuracy", "settled")),
            "kept" if v["kept"] else str(v["note"] or ""),
        )
        for v in variants
    ]  # fmt: skip
    header = ("part", "variant", "log loss", "accuracy", "settles at the bar", "")
    return [Rows(header, rows, frozenset({0, 1, 5}))]


def settings(report: NodeReport) -> list[Block]:
    """Give the counts that everything rests on."""
    data = report.manifest.get("dataset") or {}
    certificate = report.manifest["certificate"]
    teacher = certificate.get("teacher") or {}
    rows = [
        ("trained on", f"{data.get('train', 0):,}"), ("held out", f"{data.get('held_out', 0):,}"),
        ("groups held out", f"{data['held_out_groups']:,}" if "held_out_groups" in data else "-"),
        ("split by", str(data.get("split", "-"))), ("data set", str(data.get("sha256", "-"))[:16]),
        ("bar", f"{certificate['bar']:g}"), ("confidence", f"{1 - certificate['delta']:g}"),
        ("seed", str((report.manifest.get("settings") or {}).get("seed", "-"))),
        ("teacher", f"{teacher['model']}/{teacher['prompt'][:12]}" if teacher else "-"),
        *((name.replace("_", " "), f"{count:,}") for name, count in data.get("records", {}).items()),
        *((name.replace("_", " "), f"{count:,}") for name, count in report.traffic.items()),
    ]  # fmt: skip
    if report.retrainings:
        rows.append(("retrainings", f"{len(report.retrainings):,}"))
        rows.append(("their cost", dollars(sum(entry.usd for entry in report.retrainings))))
    return [Rows(("", ""), rows)]
