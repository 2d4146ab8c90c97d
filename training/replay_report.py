"""What `cascade simulate NODE` prints about a replay."""

from __future__ import annotations

import json
from collections import Counter

from rich.console import Console
from rich.table import Table

from cascade.contract import JsonValue
from training.evaluate import Row
from training.replay import N_EXAMPLES, Figure, Replay
from training.wording import amount

_PRICED = {
    "log": "what they cost in this log",
    "traffic": "what they cost in the node's traffic, on average",
    "price list": "the price list and the length of the input",
    "": "nothing that is known",
}


def print_replay(console: Console, found: Replay, rows: list[Row]) -> None:
    """Print the ladder's figures and, where answers are known, its alternatives."""
    console.print(f"{found.node}, bundle {found.version}: {found.n:,} decisions replayed", highlight=False)
    table = Table()
    for name in ("", "ladder", "95 % interval"):
        table.add_column(name, justify="left" if not name else "right")
    table.add_row("settled locally", *_share(found.settled))
    for rung, share in found.by_rung.items():
        table.add_row(f"  by {rung}", f"{share:.1%}", "")
    table.add_row("escalated to the teacher", *_share(found.escalated))
    table.add_row("agreement among settled", *_share(found.agreement))
    table.add_row("answered wrongly, of all", *_share(found.wrong))
    table.add_row("$ per 1,000 decisions, all told", *_usd(found.usd))
    table.add_row("  the teacher alone", *_usd(found.always_teacher_usd))
    table.add_row("  saved", *_usd(found.saved))
    table.add_row("local ms a decision", f"{found.local_ms:.2f}", "")
    console.print(table)
    if rows:
        others = Table(
            title="answers alone, by those whose right answer is known, which stand for the log",
            title_justify="left",
        )
        for name in ("", "settled", "agreement among settled", "agreement overall", "$ per 1,000"):
            others.add_column(name, justify="left" if not name else "right")
        for row in rows:
            agreement = "-" if row.agreement is None else f"{row.agreement:.1%}"
            usd = "-" if row.usd != row.usd else amount(1000 * row.usd)
            others.add_row(row.name, f"{row.settled:.1%}", agreement, f"{row.overall:.1%}", usd)
        console.print(others)
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in found.reasons[:8])
    if reasons:
        console.print(f"why local answers did not settle: {reasons}", markup=False, highlight=False)
    for line in confusions(found):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    for line in notes(found):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def confusions(found: Replay, most: int = 5) -> list[str]:
    """Say which answers settled in place of which right ones, the commonest first, with a text of each."""
    pairs = Counter[tuple[str, str]]()
    texts: dict[tuple[str, str], str] = {}
    for each in found.wrong_examples:
        pair = _said(each["truth"]), _said(each["answer"])
        pairs[pair] += 1
        texts.setdefault(pair, " ".join(each["text"].split()))
    lines = [
        f"  {count:,} times {answer!r} where {truth!r} is right, such as {_cut(texts[truth, answer])!r}"
        for (truth, answer), count in pairs.most_common(most)
    ]
    first = f", of the first {N_EXAMPLES}" if len(found.wrong_examples) == N_EXAMPLES else ""
    return [f"settled wrongly{first}:", *lines] if lines else []


def _said(output: JsonValue) -> str:
    return _cut(output if isinstance(output, str) else json.dumps(output, ensure_ascii=False))


def _cut(text: str, most: int = 100) -> str:
    return text if len(text) <= most else text[: most - 1] + "\u2026"


def notes(found: Replay) -> list[str]:
    """Say what must be known to read a replay right."""
    lines = [
        f"The right answer is known for {found.n_known:,} of them; audits count by their odds, and what the "
        "teacher answered and what was settled locally count by their shares of the log."
    ]
    lines.append(f"The teacher's answers are priced by {_PRICED[found.price_from]}.")
    if found.n_unknown_label:
        lines.append(
            f"{found.n_unknown_label:,} of the right answers are none that the bundle's rungs can give: what "
            "settles of those is wrong."
        )
    if found.fence:
        lines.append(
            f"With this configuration the bundle would settle nothing: {found.fence}. These figures are what "
            "its ladder does, and no certificate covers them."
        )
    if found.n_other_teacher:
        lines.append(
            f"{found.n_other_teacher:,} of the right answers in this window are of another teacher than the "
            "configured one: they count here, while retraining leaves them out."
        )
    if found.n_trained_on:
        lines.append(f"{found.n_trained_on:,} decisions were left out: the bundle was trained on them.")
    if not found.knows_training:
        lines.append(
            "This bundle does not say what it was trained on, so some of what it learned may be replayed, "
            "and look too good. Retrain to get one that does."
        )
    if found.n_without_answer:
        lines.append(f"{found.n_without_answer:,} decisions were left out: they hold no input.")
    if found.blind:
        lines.append(
            f"Of {found.blind} no right answer is known: wrong answers there are not counted. Audits or "
            "reported outcomes would tell."
        )
    return lines


def _share(figure: Figure | None) -> tuple[str, str]:
    if figure is None:
        return "not known", ""
    return f"{figure.value:.2%}", f"{figure.low:.2%} to {figure.high:.2%}"


def _usd(figure: Figure) -> tuple[str, str]:
    return amount(figure.value), f"{amount(figure.low)} to {amount(figure.high)}"
