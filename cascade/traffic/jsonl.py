"""Traffic files: one JSON object a line, an input and its right output."""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from cascade.contract import JsonValue
from cascade.errors import InvalidInput, TrafficFileError
from cascade.traffic.records import BadLine, ImportCount, Labelled, Messages
from cascade.traffic.store import TrafficStore
from cascade.traffic.strict_json import SHOWN, Refused, kind_of, parse
from cascade.whole_file import written_whole

_KEYS = ("id", "text", "messages", "label", "output", "session", "time", "tenant", "context")
_CONTEXT_ENTRIES = 32  # as many as a request may have by default
_BOM = b"\xef\xbb\xbf"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = 1e11  # Unix seconds, in the year 5138: more than that is another unit

Check = Callable[[JsonValue], str | None]
"""Says what is wrong with an output; None when nothing is."""


def read_jsonl(
    lines: Iterable[bytes],
    node: str,
    labels: frozenset[str] | None = None,
    check: Check | None = None,
) -> tuple[list[Labelled], list[BadLine]]:
    """Read the lines of a traffic file.

    Each holds `{"id", "text" or "messages", "label" or "output"}`, and may hold `session`, `time`, `tenant`
    and `context`. `messages` is a list of `{"role", "content"}`; `time` is in Unix seconds or ISO 8601 (UTC
    where it names no zone); `context` has strings for values, as a request's has, and may name session and
    tenant in place of the line. Blank lines are skipped.

    Parameters
    ----------
    lines : iterable of bytes
        In UTF-8; the first may start with a byte order mark.
    node : str
        The node of the records.
    labels : frozenset of str, optional
        The outputs that the node's contract allows.
    check : callable, optional
        Says what is wrong with an output, such as a contract's check.

    Returns
    -------
    records : list of Labelled
        The good lines, in order. A line whose id and content repeat an earlier one's is good too.
    bad : list of BadLine
        The others, in order.
    """
    records: list[Labelled] = []
    bad: list[BadLine] = []
    seen: dict[str, tuple[int, str]] = {}
    for number, raw in enumerate(lines, start=1):
        line = raw.removeprefix(_BOM) if number == 1 else raw
        if not line.strip():
            continue
        try:
            record = _labelled(parse(line), node)
            problem = _output_problem(record.output, labels, check)
            if problem is not None:
                raise Refused(problem)
            # As JSON, since Python holds that 1 == True == 1.0.
            content = json.dumps(
                [
                    record.text, record.messages, record.output, record.session, record.time, record.tenant,
                    sorted(record.context.items()),
                ]
            )  # fmt: skip
            first, first_content = seen.setdefault(record.id, (number, content))
            if content != first_content:
                raise Refused(f"the id {record.id[:SHOWN]!r} is that of line {first}, whose content differs")
        except Refused as error:
            bad.append(BadLine(number, str(error)))
        else:
            records.append(record)
    return records, bad


def import_file(
    store: TrafficStore,
    node: str,
    path: Path | str,
    skip_bad: bool = False,
    check: Check | None = None,
    labels: frozenset[str] | None = None,
    replace: bool = False,
) -> ImportCount:
    """Import a traffic file into a store, whole or not at all.

    Parameters
    ----------
    store : TrafficStore
        Where to.
    node : str
        The node of the records.
    path : Path or str
        The file.
    skip_bad : bool
        Leave bad lines out, and name them in the result, instead of refusing the file.
    check, labels : optional
        See `read_jsonl`.
    replace : bool
        Whether records that are there with another output are replaced.

    Raises
    ------
    TrafficFileError
        The file holds bad lines and `skip_bad` is off. Nothing was imported.
    InvalidInput
        The file cannot be read. Nothing was imported.
    StoreError
        The store could not take the records. Nothing was imported.
    """
    try:
        with open(path, "rb") as file:
            records, bad = read_jsonl(file, node, labels, check)
    except OSError as error:
        raise InvalidInput("file", f"{path} cannot be read: {error.strerror}") from error
    if bad and not skip_bad:
        raise TrafficFileError(str(path), {line.line: line.reason for line in bad})
    count = store.import_labelled(records, replace)
    return dataclasses.replace(count, bad_lines=tuple(bad))


def export_file(store: TrafficStore, node: str, path: Path | str) -> int:
    """Write a node's imported records into a traffic file, as they are stored: `import_file` reads it.

    Returns
    -------
    int
        Records written.

    Raises
    ------
    InvalidInput
        The file cannot be written.
    StoreError
        The store cannot be read.
    """
    count = 0
    try:
        with written_whole(Path(path)) as file:
            for record in store.labelled(node):
                file.write(json.dumps(_line_of(record), ensure_ascii=False) + "\n")
                count += 1
    except OSError as error:
        raise InvalidInput("to", f"{path} cannot be written: {error.strerror}") from error
    return count


def _line_of(record: Labelled) -> dict[str, Any]:
    line: dict[str, Any] = {"id": record.id}
    if record.messages is None:
        line["text"] = record.text
    else:
        line["messages"] = [{"role": role, "content": content} for role, content in record.messages]
    # an output that is a text was a label, or reads as the same one
    line["label" if isinstance(record.output, str) and record.output.strip() else "output"] = record.output
    about = {"session": record.session, "time": record.time, "tenant": record.tenant}
    line |= {name: value for name, value in about.items() if value is not None}
    return line | ({"context": dict(record.context)} if record.context else {})


def _labelled(line: dict[str, Any], node: str) -> Labelled:
    for key in line:
        if key not in _KEYS:
            hint = _hint(key[:SHOWN], _KEYS) or f"; the keys are: {', '.join(_KEYS)}"
            raise Refused(f"unknown key {key[:SHOWN]!r}{hint}")
    if "id" not in line:
        raise Refused("'id' is missing")
    text = messages = None
    if _one_of(line, "text", "messages") == "text":
        text = _text(line["text"], "text")
    else:
        messages = _messages(line["messages"])
    answer = _one_of(line, "label", "output")
    output = _text(line["label"], "label") if answer == "label" else line["output"]
    context = _context(line.get("context"))
    return Labelled(
        node=node,
        id=_text(line["id"], "id"),
        text=text,
        messages=messages,
        output=output,
        session=_known(line, context, "session"),
        time=_time(line.get("time")),
        tenant=_known(line, context, "tenant"),
        context=context,
    )


def _context(value: JsonValue) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Refused(f"'context' must be an object, not {kind_of(value)}")
    if len(value) > _CONTEXT_ENTRIES:
        raise Refused(f"'context' has {len(value)} entries; the limit is {_CONTEXT_ENTRIES}")
    for key, inner in value.items():
        if not key.strip():
            raise Refused("'context' has an empty key")
        if not isinstance(inner, str):
            raise Refused(f"'context.{key[:SHOWN]}' must be a string, not {kind_of(inner)}")
    return value


def _known(line: dict[str, Any], context: dict[str, str], name: str) -> str | None:
    """Give the session or tenant, from the line or its context."""
    said, inner = line.get(name), context.get(name)
    value = None if said is None else _text(said, name)
    if inner is None:
        return value
    if value is not None and inner != value:
        raise Refused(f"{name!r} and 'context.{name}' differ")
    return _text(inner, f"context.{name}")


def _one_of(line: dict[str, Any], one: str, other: str) -> str:
    if (one in line) == (other in line):
        which = "both are there" if one in line else "both are missing"
        raise Refused(f"give either {one!r} or {other!r}: {which}")
    return one if one in line else other


def _text(value: JsonValue, name: str) -> str:
    if not isinstance(value, str):
        raise Refused(f"{name!r} must be a string, not {kind_of(value)}")
    if not value.strip():
        raise Refused(f"{name!r} is empty")
    return value


def _messages(value: JsonValue) -> Messages:
    if not isinstance(value, list):
        raise Refused(f"'messages' must be a list, not {kind_of(value)}")
    chat = []
    for index, message in enumerate(value):
        name = f"messages[{index}]"
        if not isinstance(message, dict) or message.keys() != {"role", "content"}:
            raise Refused(f"{name!r} must be an object with the keys 'role' and 'content', and no others")
        content = message["content"]
        if not isinstance(content, str):
            raise Refused(f"'{name}.content' must be a string, not {kind_of(content)}")
        chat.append((_text(message["role"], f"{name}.role"), content))
    if not any(content.strip() for _, content in chat):
        raise Refused("'messages' is empty")
    return tuple(chat)


def _time(value: JsonValue) -> float | None:
    if value is None:
        return None
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            if abs(value) > _LATEST:
                raise Refused("'time' must be in seconds; this looks like milliseconds or less")
            return float(value)
        if isinstance(value, str):
            moment = datetime.fromisoformat(value)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            return (moment - _EPOCH).total_seconds()
    except (ValueError, OverflowError):
        pass
    raise Refused("'time' must be Unix seconds or ISO 8601, such as 2025-01-31T12:00:00Z")


def _output_problem(output: JsonValue, labels: frozenset[str] | None, check: Check | None) -> str | None:
    if labels is not None and (not isinstance(output, str) or output not in labels):
        if not isinstance(output, str):
            return f"the output must be one of the node's labels, not {kind_of(output)}"
        return f"{output[:SHOWN]!r} is none of the node's labels{_hint(output[:SHOWN], labels)}"
    return check(output) if check is not None else None


@lru_cache(maxsize=1024)  # a wrong label tends to come on thousands of lines
def _hint(word: str, known: tuple[str, ...] | frozenset[str]) -> str:
    near = difflib.get_close_matches(word, sorted(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
