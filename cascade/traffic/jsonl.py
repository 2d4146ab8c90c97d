"""Traffic files: one JSON object a line, an input and its right output."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from cascade.contract import JsonValue
from cascade.errors import InvalidInput, TrafficFileError
from cascade.traffic.records import BadLine, ImportCount, Labelled, Messages
from cascade.traffic.store import TrafficStore

_KEYS = ("id", "text", "messages", "label", "output", "session", "time", "tenant")
_BOM = b"\xef\xbb\xbf"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = 1e11  # Unix seconds, in the year 5138: more than that is another unit
_DEEPEST = 64  # as deep as may be nested, so that no code that later walks an output runs out of stack
_SHOWN = 60  # characters of a wrong value in a reason

Check = Callable[[JsonValue], str | None]
"""Says what is wrong with an output; None when nothing is."""


class _Bad(Exception):
    """A line is refused; the message says why."""


def read_jsonl(
    lines: Iterable[bytes],
    node: str,
    labels: frozenset[str] | None = None,
    check: Check | None = None,
) -> tuple[list[Labelled], list[BadLine]]:
    """Read the lines of a traffic file.

    Each holds `{"id", "text" or "messages", "label" or "output"}`, and may hold `session`, `time` and
    `tenant`. `messages` is a list of `{"role", "content"}`; `time` is in Unix seconds or ISO 8601 (UTC where
    it names no zone). Blank lines are skipped.

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
            record = _labelled(_parse(line), node)
            problem = _output_problem(record.output, labels, check)
            if problem is not None:
                raise _Bad(problem)
            # As JSON, since Python holds that 1 == True == 1.0.
            content = json.dumps([record.text, record.messages, record.output, record.session, record.time])
            first, first_content = seen.setdefault(record.id, (number, content))
            if content != first_content:
                raise _Bad(f"the id {record.id[:_SHOWN]!r} is that of line {first}, whose content differs")
        except _Bad as error:
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
    count = store.import_labelled(records)
    return ImportCount(count.added, count.already_there, tuple(bad))


def _parse(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(
            line.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_float=_finite,
        )
        # JSON can escape half a surrogate pair, which no UTF-8 text, database or protobuf can hold.
        if b"\\u" in line:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError as error:
        raise _Bad(f"not UTF-8 at byte {error.start + 1}") from None
    except UnicodeEncodeError:
        raise _Bad("an escape \\uD800 to \\uDFFF stands without its other half") from None
    except json.JSONDecodeError as error:
        raise _Bad(f"not JSON at column {error.colno}: {error.msg}") from None
    except RecursionError:
        raise _Bad("nested too deeply") from None
    except ValueError:  # the one that is left: Python's limit on the digits of an integer
        raise _Bad("a number has too many digits") from None
    if not isinstance(value, dict):
        raise _Bad(f"not a JSON object but {_kind(value)}")
    if line.count(b"[") + line.count(b"{") > _DEEPEST and _depth(value) > _DEEPEST:
        raise _Bad("nested too deeply")
    return value


def _depth(value: JsonValue) -> int:
    depth, level = 0, [value]
    while level:
        depth += 1
        inner: list[Any] = []
        for each in level:
            if isinstance(each, dict | list):
                inner.extend(each.values() if isinstance(each, dict) else each)
        level = inner
    return depth


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _Bad(f"the key {twice[:_SHOWN]!r} stands twice in one object")
    return value


def _no_constant(name: str) -> Any:
    raise _Bad(f"{name} is not JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise _Bad(f"the number {digits[:20]} is too large")
    return value


def _labelled(line: dict[str, Any], node: str) -> Labelled:
    for key in line:
        if key not in _KEYS:
            hint = _hint(key[:_SHOWN], _KEYS) or f"; the keys are: {', '.join(_KEYS)}"
            raise _Bad(f"unknown key {key[:_SHOWN]!r}{hint}")
    if "id" not in line:
        raise _Bad("'id' is missing")
    text = messages = None
    if _one_of(line, "text", "messages") == "text":
        text = _text(line["text"], "text")
    else:
        messages = _messages(line["messages"])
    answer = _one_of(line, "label", "output")
    output = _text(line["label"], "label") if answer == "label" else line["output"]
    session, tenant = line.get("session"), line.get("tenant")
    return Labelled(
        node=node,
        id=_text(line["id"], "id"),
        text=text,
        messages=messages,
        output=output,
        session=None if session is None else _text(session, "session"),
        time=_time(line.get("time")),
        tenant=None if tenant is None else _text(tenant, "tenant"),
    )


def _one_of(line: dict[str, Any], one: str, other: str) -> str:
    if (one in line) == (other in line):
        which = "both are there" if one in line else "both are missing"
        raise _Bad(f"give either {one!r} or {other!r}: {which}")
    return one if one in line else other


def _text(value: JsonValue, name: str) -> str:
    if not isinstance(value, str):
        raise _Bad(f"{name!r} must be a string, not {_kind(value)}")
    if not value.strip():
        raise _Bad(f"{name!r} is empty")
    return value


def _messages(value: JsonValue) -> Messages:
    if not isinstance(value, list):
        raise _Bad(f"'messages' must be a list, not {_kind(value)}")
    chat = []
    for index, message in enumerate(value):
        name = f"messages[{index}]"
        if not isinstance(message, dict) or message.keys() != {"role", "content"}:
            raise _Bad(f"{name!r} must be an object with the keys 'role' and 'content', and no others")
        content = message["content"]
        if not isinstance(content, str):
            raise _Bad(f"'{name}.content' must be a string, not {_kind(content)}")
        chat.append((_text(message["role"], f"{name}.role"), content))
    if not any(content.strip() for _, content in chat):
        raise _Bad("'messages' is empty")
    return tuple(chat)


def _time(value: JsonValue) -> float | None:
    if value is None:
        return None
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            if abs(value) > _LATEST:
                raise _Bad("'time' must be in seconds; this looks like milliseconds or less")
            return float(value)
        if isinstance(value, str):
            moment = datetime.fromisoformat(value)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            return (moment - _EPOCH).total_seconds()
    except (ValueError, OverflowError):
        pass
    raise _Bad("'time' must be Unix seconds or ISO 8601, such as 2025-01-31T12:00:00Z")


def _output_problem(output: JsonValue, labels: frozenset[str] | None, check: Check | None) -> str | None:
    if labels is not None and (not isinstance(output, str) or output not in labels):
        if not isinstance(output, str):
            return f"the output must be one of the node's labels, not {_kind(output)}"
        return f"{output[:_SHOWN]!r} is none of the node's labels{_hint(output[:_SHOWN], labels)}"
    return check(output) if check is not None else None


@lru_cache(maxsize=1024)  # a wrong label tends to come on thousands of lines
def _hint(word: str, known: tuple[str, ...] | frozenset[str]) -> str:
    near = difflib.get_close_matches(word, sorted(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _kind(value: JsonValue) -> str:
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list"}
    return names.get(type(value), "an object")
