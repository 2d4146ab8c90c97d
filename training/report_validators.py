"""The record of each validator in a report, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence

from training.document import Block, Rows, Text
from training.validator_record import ValidatorRecord
from training.wording import OLD_BUNDLE, amount, part_of


def validators(judged: Sequence[ValidatorRecord]) -> list[Block]:
    """Give each validator's catch rate, false alarms and cost, and what to do about it."""
    if not judged:
        return [Text(OLD_BUNDLE, "note")]
    rows = [
        (
            record.name, "on" if record.on else "off",
            part_of(record.caught, record.n_wrong), part_of(record.false_alarms, record.n_right),
            f"{record.caught_in_place:,} of {record.wrong_left:,}",
            f"{record.false_in_place:,} of {record.right_left:,}",
            f"{record.micros:.1f}", amount(record.false_alarm_usd),
            f"{amount(record.value_usd, signed=True)} ({amount(record.value_interval[0], signed=True)} to "
            f"{amount(record.value_interval[1], signed=True)})",
            record.advice,
        )
        for record in judged
    ]  # fmt: skip
    header = (
        "validator", "", "catch rate", "false alarms", "wrong caught in its place",
        "right stopped in its place",
        "µs", "$ of false alarms per 1,000", "worth $ per 1,000", "advice",
    )  # fmt: skip
    blocks: list[Block] = [Rows(header, rows, frozenset({0, 1, 9}))]
    for record in judged:
        if record.advice == "switch off":
            blocks.append(
                Text(
                    f"{record.name} does not pay for itself: it stops {record.false_in_place:,} right "
                    f"answers for {record.caught_in_place:,} wrong ones. Switch it off: take it out of the "
                    f"node's {'`agreement`' if record.name == 'agreement' else '`validators`'} setting, and "
                    "retrain.",
                    "bad",
                )
            )
        if record.advice == "switch on":
            blocks.append(Text(f"{record.name} would pay for itself: switch it on and retrain.", "good"))
    blocks.append(
        Text(
            "Catch rate: share of the wrong answers that it stops, alone; false alarms: share of the right "
            "ones. Worth: what the ladder is cheaper with it than without, a wrong answer priced by `costs`.",
            "note",
        )
    )
    return blocks
