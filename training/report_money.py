"""What a node costs and saves, net: expected, and really."""

from __future__ import annotations

from training.document import Block, Rows, Text
from training.node_report import NodeReport
from training.wording import amount, dollars


def money(report: NodeReport) -> list[Block]:
    """Give the expected net saving and the ledger of the last week."""
    blocks: list[Block] = []
    economy = report.manifest.get("economy")
    if economy:
        cost, prices = economy["cost"], economy["prices"]
        source = "what it cost in this traffic" if economy["teacher_price_from"] == "traffic" else (
            "its price per token and the length of the texts, because no answer of it is in the traffic"
        )  # fmt: skip
        lines = [
            ("teacher calls spared", cost["spared"]), ("local answers that settled", -cost["drafts"]),
            ("local answers that did not (failed drafts)", -cost["failed_drafts"]),
            ("audits", -cost["audits"]), ("retraining", -cost["retraining"]), ("net", cost["net"]),
        ]  # fmt: skip
        blocks += [
            Text("Expected, from the held-out records:"),
            Rows(
                ("per 1,000 requests", "$"), [(name, amount(1000 * usd, signed=True)) for name, usd in lines]
            ),
            Text(
                f"A teacher's answer is taken at {dollars(prices['teacher_call'])}, from {source}; a CPU "
                f"hour at {dollars(prices['cpu_hour'])}; {prices['audit_share']:.0%} of what settles is "
                f"audited; a retraining, {dollars(prices['retraining'])}, is spread over "
                f"{prices['decisions_per_retraining']:,.0f} decisions.",
                "note",
            ),
        ]
        if economy["too_dear"]:
            blocks.append(Text(f"It does not pay: {economy['too_dear']}.", "bad"))
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
