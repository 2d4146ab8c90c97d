"""A log file becomes calls, or the reasons why its lines do not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from cascade.errors import InvalidInput
from cascade.traffic.logs.entry import LoggedCall, Unreadable
from cascade.traffic.logs.litellm import is_litellm, read_litellm
from cascade.traffic.logs.openai_batch import is_openai_batch, is_request, read_openai_batch
from cascade.traffic.logs.otel import is_chat, is_otel, read_span, spans_of
from cascade.traffic.records import BadLine

Format = Literal["otel", "litellm", "openai-batch", "jsonl"]
FORMATS: tuple[Format, ...] = ("otel", "litellm", "openai-batch", "jsonl")

_TELLS: tuple[tuple[Format, Callable[[dict[str, Any]], bool]], ...] = (
    ("otel", is_otel),
    ("openai-batch", is_openai_batch),
    ("litellm", is_litellm),
)
_LARGEST = 1 << 31


def detect(path: Path) -> Format:
    """Tell a file's format by its first entry; `jsonl`, Cascade's own, where it is none of the others.

    Raises
    ------
    InvalidInput
        The file cannot be read.
    """
    entry = first_entry(path)
    if isinstance(entry, dict):
        for name, tells in _TELLS:
            if tells(entry):
                return name
    return "jsonl"


def first_entry(path: Path) -> Any:
    """Give a file's first JSON value: `Unreadable` where it is none, None where there is nothing.

    Raises
    ------
    InvalidInput
        The file cannot be read.
    """
    return next((entry for _, entry in _entries(path)), None)


def read_log(
    path: Path, format_: Format, requests: Path | None = None
) -> tuple[list[tuple[int, LoggedCall]], list[BadLine]]:
    """Read a log.

    Parameters
    ----------
    path : Path
    format_ : {"otel", "litellm", "openai-batch"}
    requests : Path, optional
        The input file of a batch, where `path` holds its results only.

    Returns
    -------
    calls : list of (line, LoggedCall)
        Each id once; spans that are no calls to a chat model are left out.
    bad : list of BadLine

    Raises
    ------
    InvalidInput
        A file cannot be read.
    """
    calls: list[tuple[int, LoggedCall]] = []
    bad: list[BadLine] = []
    seen: dict[str, tuple[int, LoggedCall]] = {}
    asked = _requests(path, requests) if format_ == "openai-batch" else {}
    for number, entry in _entries(path):
        try:
            if isinstance(entry, Unreadable):
                raise entry
            for call in _calls(entry, format_, asked):
                first, same = seen.setdefault(call.id, (number, call))
                if same is call:
                    calls.append((number, call))
                elif same != call:
                    raise Unreadable(
                        f"the id {call.id[:60]!r} is that of line {first}, whose content differs"
                    )
        except Unreadable as error:
            bad.append(BadLine(number, str(error)))
    return calls, bad


def _calls(entry: Any, format_: Format, asked: dict[str, dict[str, Any]]) -> Iterator[LoggedCall]:
    if not isinstance(entry, dict):
        raise Unreadable("not a JSON object")
    try:
        if format_ == "otel":
            if not is_otel(entry):
                raise Unreadable("not a span, nor OTLP's resourceSpans")
            yield from (read_span(span) for span in spans_of(entry) if is_chat(span))
        elif format_ == "litellm":
            if not is_litellm(entry):
                raise Unreadable("'messages' and 'response' are not both there")
            yield read_litellm(entry)
        elif not is_openai_batch(entry):
            raise Unreadable("'custom_id' with 'body' or 'response' is not there")
        elif not is_request(entry):
            yield read_openai_batch(entry, asked.get(str(entry["custom_id"])))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, Unreadable):
            raise
        raise Unreadable(f"not of the form it should have: {type(error).__name__}: {error}") from None


def _requests(path: Path, requests: Path | None) -> dict[str, dict[str, Any]]:
    found = {}
    for file in (path, requests):
        for _, entry in _entries(file) if file is not None else ():
            if isinstance(entry, dict) and is_openai_batch(entry) and is_request(entry):
                found[str(entry["custom_id"])] = entry
    return found


def _entries(path: Path) -> Iterator[tuple[int, Any]]:
    """Give each line's JSON value, or why it is none, with its number; of a file that is one value, that."""
    try:
        with path.open("rb") as file:
            if path.stat().st_size > _LARGEST:
                raise InvalidInput("file", f"{path} is larger than 2 GiB: split it")
            head = file.readline()
            if head.strip() in (b"{", b"["):  # a document over many lines
                try:
                    value = json.loads(head + file.read())
                except (ValueError, RecursionError):
                    yield 1, Unreadable("neither one JSON document nor one JSON object a line")
                    return
                yield from ((1, each) for each in (value if isinstance(value, list) else [value]))
                return
            file.seek(0)
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    value = json.loads(line.removeprefix(b"\xef\xbb\xbf"))
                except UnicodeDecodeError as error:
                    yield number, Unreadable(f"not UTF-8 at byte {error.start + 1}")
                except json.JSONDecodeError as error:
                    yield number, Unreadable(f"not JSON at column {error.colno}: {error.msg}")
                except (ValueError, RecursionError):
                    yield number, Unreadable("not JSON that can be read: nested too deeply, or a huge number")
                else:
                    yield from ((number, each) for each in (value if isinstance(value, list) else [value]))
    except OSError as error:
        raise InvalidInput("file", f"{path} cannot be read: {error.strerror}") from error
