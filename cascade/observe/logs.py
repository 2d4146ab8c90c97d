"""Structured logs on stderr: text or JSON lines, and no line that a caller can forge."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Literal, TextIO

import structlog

from cascade.observe.worker_number import worker_number

_QUIET = ("httpx", "httpx2", "openai", "httpcore", "httpcore2", "uvicorn.error")


def escaped(text: str) -> str:
    r"""Escape what is not printable, so that text from outside can neither begin a line nor colour one.

    Examples
    --------
    >>> escaped("a\nb\x1b[31m")
    'a\\nb\\x1b[31m'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _name(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    record = event.get("_record")
    if isinstance(record, logging.LogRecord):
        event["logger"], event["process"] = record.name, record.process
        worker = worker_number()
        if worker is not None:
            event["worker"] = worker
    return event


def _as_text(_: Any, __: str, event: MutableMapping[str, Any]) -> str:
    known = [event.pop(key, "") for key in ("timestamp", "level", "logger", "event")]
    process, worker = event.pop("process", ""), event.pop("worker", None)
    who = process if worker is None else f"worker {worker}, {process}"
    trace = event.pop("exception", "")
    rest = "".join(f" {key}={value!r}" for key, value in event.items())
    # A stack trace has lines of its own; each is escaped and indented, so none looks like a log line.
    lines = "".join(f"\n  {escaped(line)}" for line in str(trace).splitlines())
    timestamp, level, logger, said = (escaped(str(value)) for value in known)
    return f"{timestamp} {level.upper()} {logger}[{who}]: {said}{escaped(rest)}{lines}"


def set_up_logs(
    form: Literal["text", "json"] = "text", level: int = logging.INFO, stream: TextIO | None = None
) -> None:
    """Send all logging to stderr, in one form.

    Parameters
    ----------
    form : {"text", "json"}
        JSON lines have `timestamp` (UTC, ISO 8601), `level`, `logger`, `process`, `event`, `exception`, and
        `worker` where there are several.
    level : int
    stream : file, optional
        In place of stderr.
    """
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # json.dumps escapes control characters by itself; escaping them twice would only hide them.
    last: list[Any] = [structlog.processors.JSONRenderer(ensure_ascii=True)] if form == "json" else [_as_text]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            _name,
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            *last,
        ],
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
