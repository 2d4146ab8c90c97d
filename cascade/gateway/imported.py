"""Calls that another tool logged become a node's labelled records, read as the gateway reads a live call."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from cascade.contract import Contract
from cascade.errors import TrafficFileError
from cascade.gateway.question import Frame, NoQuestion, question_of
from cascade.gateway.shape import Unfit, shape_of
from cascade.traffic.logs import Format, LoggedCall, read_log
from cascade.traffic.records import BadLine, ImportCount, Labelled
from cascade.traffic.store import TrafficStore


def labelled_of(call: LoggedCall, node: str, contract: Contract, frame: Frame | None = None) -> Labelled:
    """Make a logged call a record of a node.

    Parameters
    ----------
    call : LoggedCall
    node : str
    contract : Contract
        The node's; with open labels where they come from traffic.
    frame : Frame, optional
        The node's prompt: what stands in it is the text.

    Raises
    ------
    ValueError
        The call has no input or no answer that the node could have; the message says why.
    """
    question = question_of(call.messages, frame)
    output = shape_of(call.body, contract).read(call.output)
    broken = contract.check(output)
    if broken is not None:
        raise Unfit(broken)
    return Labelled(
        node=node,
        id=call.id,
        text=None if question.messages else question.text,
        messages=question.messages or None,
        output=output,
        session=call.session,
        time=call.time,
        tenant=call.tenant,
    )


def import_log(
    store: TrafficStore,
    node: str,
    path: Path,
    format_: Format,
    contract: Contract,
    frame: Frame | None = None,
    requests: Path | None = None,
    skip_bad: bool = False,
    replace: bool = False,
) -> ImportCount:
    """Import a log of another tool into a store, whole or not at all.

    With `replace`, records that are there with another output are replaced.

    Raises
    ------
    TrafficFileError
        The file holds bad lines and `skip_bad` is off. Nothing was imported.
    InvalidInput
        A file cannot be read. Nothing was imported.
    StoreError
        The store could not take the records. Nothing was imported.
    """
    calls, bad = read_log(path, format_, requests)
    records = []
    for line, call in calls:
        try:
            record = labelled_of(call, node, contract, frame)
            record_text(record)
        except (NoQuestion, Unfit, UnicodeEncodeError) as error:
            bad.append(BadLine(line, str(error)))
        else:
            records.append(record)
    bad.sort(key=lambda each: each.line)
    if bad and not skip_bad:
        raise TrafficFileError(str(path), {line.line: line.reason for line in bad})
    count = store.import_labelled(records, replace)
    return dataclasses.replace(count, bad_lines=tuple(bad))


def record_text(record: Labelled) -> None:
    """Check that a record's texts can be stored. Raises UnicodeEncodeError for half a surrogate pair."""
    for text in (record.text, record.session, *(content for _, content in record.messages or ())):
        if text is not None:
            text.encode("utf-8")
