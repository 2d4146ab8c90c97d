"""What a node costs and saves, net: expected, and really."""

from __future__ import annotations

from training.document import Block, Rows, Text
from training.expected_cost import Expected, expected
from training.node_report import NodeReport
from training.wording import amount, dollars

SOURCES = {
    "traffic": "what it cost in this traffic",
    "price list": "its price per token and the length of the texts, because no answer of it with a price was "
    "in the traffic",
}


def money(report: NodeReport) -> list[Block]:
    """Give the expected net saving and the ledger of the last week."""
    blocks: list[Block] = []
    found = expected(report)
    if found is not None:
        cost, prices = found.cost, found.prices
        lines = [
            ("teacher calls spared", cost.spared), ("local answers that settled", -cost.drafts),
            ("local answers that did not (failed drafts)", -cost.failed_drafts),
            ("audits", -cost.audits), ("retraining", -cost.retraining), ("net", cost.net),
            *_harm(report, cost.net),
        ]  # fmt: skip
        blocks += [
            Text("Expected, from the held-out records:"),
            Rows(
                ("per 1,000 requests", "$"), [(name, amount(1000 * usd, signed=True)) for name, usd in lines]
            ),
            Text(
                f"A teacher's answer is taken at {dollars(prices.teacher_call)}, from "
                f"{SOURCES[found.price_from]}{_then(found)}; a CPU "
                f"hour at {dollars(prices.cpu_hour)}; by assumption (costs.audit_share, "
                f"costs.decisions_per_retraining when it was retrained), {100 * prices.audit_share:.3g}% of "
                f"what settles is audited, and a retraining, {dollars(prices.retraining)}, is spread over "
                f"{prices.decisions_per_retraining:,.0f} decisions.",
                "note",
            ),
        ]
        too_dear = report.manifest["economy"]["too_dear"]
        if too_dear:
            better = "; at today's price of the teacher it would: retrain" if cost.net > 0 else ""
            blocks.append(Text(f"It does not pay: {too_dear}{better}.", "bad"))
        elif cost.net <= 0 < prices.teacher_call:
            blocks.append(Text("At today's price of the teacher it does not pay.", "bad"))
    else:
        blocks.append(Text("This bundle holds no measured cost; retrain to get one that does.", "note"))
    ledger = report.ledger
    if ledger is None:  # the bundle is not served yet
        return blocks
    if not ledger.decisions:
        return [*blocks, Text("No decision was logged yet, so nothing was spent or saved.", "note")]
    rows = [
        ("the teacher alone would have cost", ledger.always_teacher),
        ("paid to the teacher", -ledger.teacher),
        ("paid for chat rungs that settled", -ledger.chats),
        ("local rungs, failed drafts included", -ledger.local),
        (f"audits ({ledger.n_audits:,})", -ledger.audits),
        (f"retrainings ({ledger.n_retrainings:,})", -ledger.retraining), ("net", ledger.net),
    ]  # fmt: skip
    unresolved = [Text(f"{why}: {count:,}.", "note") for why, count in ledger.unresolved]
    return [
        *blocks,
        Text(f"Really, {ledger.window}: {ledger.decisions:,} decisions, {ledger.settled:,} settled locally."),
        Rows(("", "$"), [(name, amount(usd, signed=True)) for name, usd in rows]),
        Text(f"Net, 95 % interval: {dollars(ledger.net_low)} to {dollars(ledger.net_high)}.", "note"),
        *unresolved,
    ]


def _then(found: Expected) -> str:
    """Say at what price the retraining took an answer, where that is another."""
    if dollars(found.then) == dollars(found.prices.teacher_call):
        return ""
    source = f", from {SOURCES[found.then_from]}" if found.then_from != found.price_from else ""
    return f" (the retraining took it at {dollars(found.then)}{source})"


def _harm(report: NodeReport, net: float) -> list[tuple[str, float]]:
    """Give the expected harm of wrong answers, where the configuration prices one."""
    if report.wrong_answer is None:
        return []
    certificate = report.manifest["certificate"]
    harm = report.wrong_answer * certificate["n_wrong"] / max(certificate["n_held_out"], 1)
    return [
        (f"harm of wrong answers, {dollars(report.wrong_answer)} each", -harm),
        ("net of that harm", net - harm),
    ]
