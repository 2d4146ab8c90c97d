"""How good the ladder is, in a report: beside the alternatives, its confidence, its mistakes, its future."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.document import Block, Plot, Quote, Rows, Text
from training.evaluate import Row, calibration_error, settle
from training.node_report import NodeReport
from training.plots import draw_learning_curve, draw_reliability, draw_tradeoff, draw_wrong_pairs
from training.report_verdict import certificate_of
from training.wording import OLD_BUNDLE, amount, counted, dollars, sentence, share_text, shortened


def alternatives(report: NodeReport) -> list[Block]:
    """Give the ladder beside always-teacher, best fixed rung, random mix and oracle."""
    if report.held_out is None:
        return [Text(OLD_BUNDLE, "note")]
    scored, proof = report.held_out.scored, certificate_of(report.manifest)
    header = ("", "settled locally", "agreement among settled", "agreement overall", "$ per 1,000")
    return [
        Rows(header, [_row(row) for row in report.rows]),
        Text(
            "All held-out records, each counted by itself; in brackets, 95 % intervals. "
            "Cost is of the answers alone.",
            "note",
        ),
        *_better_alone(report),
        Plot(
            "tradeoff",
            "Agreement with the teacher against the share settled locally",
            lambda figure: draw_tradeoff(figure, scored, proof),
        ),
    ]


def _better_alone(report: NodeReport) -> list[Block]:
    """Say it where the ladder is dominated by one of its own rungs."""
    found = report.better_alone
    if found is None:
        return []
    usd = 1000 * found.usd
    price = f"{dollars(usd)} more" if usd >= 0 else f"{dollars(-usd)} less"
    return [
        Text(
            f"The {found.rung} rung alone would settle as much ({found.settled:.1%} against "
            f"{found.ladder_settled:.1%}) and be right more often: {found.agreement:.1%} against "
            f"{found.ladder_agreement:.1%}, for {price} per 1,000. Of the records that both settle, it alone "
            f"is right on {found.better:,}, and the ladder alone on {found.worse:,} (McNemar's test, "
            f"p = {found.p_value:.2g}). Put `ladder: [{found.rung}, {report.teacher}]` into the "
            "configuration and retrain: that proves it, or not.",
            "bad",
        )
    ]


def calibration(report: NodeReport) -> list[Block]:
    """Give the reliability of the acceptor's confidence."""
    if report.held_out is None:
        return [Text(OLD_BUNDLE, "note")]
    scored = report.held_out.scored
    first, _ = settle(scored, report.thresholds)
    rows = [
        (
            rung, f"{report.thresholds[r]:.4f}", f"{scored.right[:, r].mean():.1%}",
            f"{(first == r).mean():.1%}",
            f"{calibration_error(scored.confidence[:, r], scored.right[:, r]):.3f}",
        )
        for r, rung in enumerate(scored.rungs)
    ]  # fmt: skip
    return [
        Rows(("rung", "settles from", "accuracy alone", "settles", "calibration error"), rows),
        Plot(
            "reliability",
            "Share right against the acceptor's confidence, for each rung",
            lambda figure: draw_reliability(figure, scored),
            4.8,
            4.4,
        ),
    ]


def confusions(report: NodeReport) -> list[Block]:
    """Give the commonest confusions among what was settled wrong, with examples from the traffic."""
    if report.held_out is None:
        return [Text(OLD_BUNDLE, "note")]
    if not report.confusions:
        return [Text("Nothing was settled wrong among the held-out records.", "good")]
    scored, labels = report.held_out.scored, list(report.manifest["contract"]["labels"])
    blocks: list[Block] = [
        Plot(
            "wrong",
            "How often each label was settled as another",
            lambda figure: draw_wrong_pairs(figure, scored, report.thresholds, labels),
            7.0,
            1.2 + 0.3 * len(report.confusions),
        )
    ]
    for confusion in report.confusions[:6]:
        pair = f"teacher: {confusion.truth} · answered: {confusion.answer}"
        times = counted(confusion.count, "record")
        about = f"{pair} · {times} of this pair"
        shown = confusion.examples[:2]  # how many there are is said once: said beside each, they add up
        blocks += [
            Quote(shortened(text), about if at == 0 else f"{pair} · another of them")
            for at, text in enumerate(shown)
        ]
        if not confusion.examples:
            lost = "" if report.saved else "; their texts are no longer in the traffic"
            blocks.append(Text(f"{about}{lost}.", "note"))
    return blocks


def learning(manifest: Mapping[str, Any]) -> list[Block]:
    """Give the learning curve and the forecast, where the retraining made one."""
    forecast = manifest.get("forecast")
    if not forecast:
        why = "there were too few records for one, or too few of their answers could be proven"
        return [Text(f"The retraining made no forecast: {why}.", "note")]
    return [
        Text(sentence(forecast["sentence"])),
        Plot(
            "learning",
            "Share settled at the bar against the number of records",
            lambda figure: draw_learning_curve(figure, forecast),
        ),
    ]


def _row(row: Row) -> tuple[str, ...]:
    usd = "-" if row.usd != row.usd else amount(1000 * row.usd)
    settled = share_text(row.settled, row.settled_interval)
    return row.name, settled, share_text(row.agreement, row.agreement_interval), f"{row.overall:.1%}", usd
