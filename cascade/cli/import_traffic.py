"""`cascade import`: labelled traffic into the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from cascade.cli.console import (
    ConfigOption,
    JsonOption,
    NodeArgument,
    clear_errors,
    console,
    emit,
    node_of,
    read_config,
    steps,
)
from cascade.cli.labelled_file import load_file

if TYPE_CHECKING:
    from cascade.config import Config
    from cascade.traffic.logs.reading import Format


_SHOWN = 20  # bad lines that are named


class LogFormat(StrEnum):
    """Formats of files; `auto` looks at the first entry."""

    AUTO = "auto"
    JSONL = "jsonl"
    OTEL = "otel"
    LITELLM = "litellm"
    OPENAI_BATCH = "openai-batch"


def import_traffic(
    node: NodeArgument,
    file: Annotated[
        Path | None, typer.Argument(help="Labelled records, or a log of another tool.", show_default=False)
    ] = None,
    config: ConfigOption = Path("cascade.yaml"),
    captured: Annotated[
        bool,
        typer.Option("--captured", help="In place of a file: the captured calls that the node recognises."),
    ] = False,
    format_: Annotated[LogFormat, typer.Option("--format", help="What the file is.")] = LogFormat.AUTO,
    requests: Annotated[
        Path | None, typer.Option(help="openai-batch: the batch's input file, where FILE is its output.")
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Import the good lines of a file with bad ones.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Records that are there with another answer get the file's.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Load labelled traffic into the store.

    Cascade's own lines: `{"id": "1", "text": "where is my parcel?", "label": "track_order"}`.
    Also OpenTelemetry spans of the GenAI conventions, LiteLLM's logging payloads, and OpenAI batch files.
    Nothing is imported from a file with bad lines, unless `--skip-bad` is given.

    `--captured` is for calls that came over HTTP before the node was configured; later ones are the node's by
    themselves. Doing it again adds what is new.

    Example: `cascade import support-intent spans.json --format otel`
    """
    with clear_errors():
        if (file is None) != captured:
            raise typer.BadParameter("give either a file or --captured", param_hint="FILE")
        about_file = (requests is not None, skip_bad, replace, format_ is not LogFormat.AUTO)
        if file is None and any(about_file):
            raise typer.BadParameter("--format, --requests, --replace and --skip-bad are about a file")
        loaded = read_config(config)
        node_of(loaded, node)
        if file is None:
            _import_captured(loaded, node, as_json)
            return
        from cascade.traffic import open_traffic

        kind = format_of(file, format_)
        store = open_traffic(loaded)
        try:
            with steps(f"importing {file.name} ({kind})", quiet=as_json):
                count = load_file(store, loaded, node, file, kind, requests, skip_bad, replace)
        finally:
            store.close()
        bad = {line.line: line.reason for line in count.bad_lines}
        if as_json:
            emit({
                "node": node, "format": kind, "added": count.added,
                "already_there": count.already_there, "bad_lines": bad,
                "differing": list(count.differing), "replaced": replace,
            })  # fmt: skip
            return
        typer.echo(
            f"{node}: {count.added:,} added, {count.already_there:,} already there, {len(bad):,} skipped"
        )
        name_bad_lines(bad)
        if bad:
            console.print(
                "  They are neither learned from nor held out: no certificate is about requests like them.",
                style="yellow", highlight=False, soft_wrap=True,
            )  # fmt: skip
        if not (count.added or count.already_there or bad):
            console.print(f"{file.name} is empty", markup=False, highlight=False, soft_wrap=True)
        _say_differing(count.differing, replace)


def format_of(file: Path, given: LogFormat) -> Format:
    """Give the format that was named, or the one that a file's first entry tells."""
    from cascade.traffic.logs.reading import detect

    return detect(file) if given is LogFormat.AUTO else cast("Format", given.value)


def name_bad_lines(bad: Mapping[int, str]) -> None:
    """Name the first bad lines of a file with their reasons on stderr, and how many more there are."""
    for line, reason in list(bad.items())[:_SHOWN]:
        console.print(f"  line {line}: {reason}", markup=False, highlight=False, soft_wrap=True)
    if len(bad) > _SHOWN:
        console.print(f"  and {len(bad) - _SHOWN:,} more", highlight=False)


def _say_differing(ids: tuple[str, ...], replaced: bool) -> None:
    """Say which records were there with another answer, and what became of it."""
    if not ids:
        return
    named = ", ".join(ids[:5]) + (f" and {len(ids) - 5:,} more" if len(ids) > 5 else "")
    if replaced:
        typer.echo(f"  replaced, since the answer was another one: {named}")
    else:
        text = f"  there with another answer, which stays: {named}; --replace takes the file's"
        console.print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)


def _import_captured(config: Config, node: str, as_json: bool) -> None:
    from cascade.gateway.captured import import_captured
    from cascade.traffic import open_traffic

    store = open_traffic(config)
    try:
        with steps("importing captured calls", quiet=as_json):
            count = import_captured(config, store, node)
    finally:
        store.close()
    if as_json:
        emit({"node": node, "format": "captured", **asdict(count)})
        return
    typer.echo(
        f"{node}: {count.calls} captured calls, {count.added} added, {count.already_there} already there, "
        f"{count.unread} not read as answers"
    )
    if not count.calls:
        typer.echo(
            f"nodes.{node}.recognise names the fixed parts of its calls; `cascade discover` finds them"
        )
