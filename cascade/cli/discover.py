"""`cascade discover`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from cascade.cli.console import (
    ConfigOption,
    JsonOption,
    clear_errors,
    console,
    emit,
    not_installed,
    read_config,
    steps,
    wide_console,
)
from cascade.cli.import_traffic import LogFormat, format_of, name_bad_lines

if TYPE_CHECKING:
    from cascade.traffic import Call
    from cascade.traffic.records import BadLine


def discover(
    config: ConfigOption = Path("cascade.yaml"),
    source: Annotated[
        Path | None, typer.Option("--from", help="A log of another tool, instead of the captured calls.")
    ] = None,
    format_: Annotated[LogFormat, typer.Option("--format", help="What that log is.")] = LogFormat.AUTO,
    requests: Annotated[
        Path | None, typer.Option(help="openai-batch: the batch's input file, where --from is its output.")
    ] = None,
    days: Annotated[float | None, typer.Option(help="Only captured calls of the last so many days.")] = None,
    min_calls: Annotated[int, typer.Option(min=20, help="Rarer kinds of call are not looked at.")] = 50,
    write: Annotated[
        Path | None, typer.Option(help="Write the nodes as a part of cascade.yaml to this file.")
    ] = None,
    bar: Annotated[
        float, typer.Option(min=0.51, max=0.9999, help="The agreement that the written nodes demand.")
    ] = 0.98,
    seed: Annotated[int, typer.Option(help="The same calls and seed give the same nodes.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Find the recurring kinds of call in an agent's raw calls, and what demoting each could save.

    Calls are grouped by their fixed part (system prompt, tools, response format), then by meaning; what has a
    closed set of answers is a candidate, open-ended calls are left to the teacher. Nothing is changed.

    Example: `cascade discover --write nodes.yaml`
    """
    with clear_errors():
        if source is None and requests is not None:
            raise typer.BadParameter("--requests is about a log: give it by --from", param_hint="--requests")
        loaded = read_config(config)
        try:
            from training.discovery import discover as run
            from training.discovery.stanza import stanzas
            from training.embedding import ParallelEncoder
        except ImportError as error:
            not_installed(error, "train")
        from cascade.config import ChatRungConfig, EncoderRungConfig, LinearRungConfig
        from cascade.encoder import find_encoder
        from cascade.errors import ConfigError, InvalidInput

        bad: list[BadLine] = []
        if source is not None:
            calls, bad = _from_log(source, format_, requests, as_json)
        else:
            from cascade.traffic import open_traffic

            store = open_traffic(loaded)
            try:
                calls = list(store.calls(since=None if days is None else time.time() - days * 86_400))
            finally:
                store.close()
        if not calls:
            raise InvalidInput(
                "calls",
                "none were captured yet: point the agent's base_url here, or give a log by --from",
            )
        local = [name for name, rung in loaded.rungs.items() if isinstance(rung, LinearRungConfig)][:1]
        named = next(((n, r) for n, r in loaded.rungs.items() if isinstance(r, EncoderRungConfig)), None)
        embed = None
        if named is not None:
            name, encoder = named
            try:
                folder = find_encoder(encoder.model, loaded.models_path, loaded.base)
                embed = ParallelEncoder(folder, encoder.precision, encoder.max_tokens, encoder.providers)
                local.append(name)
            except ConfigError as error:
                console.print(
                    f"without meaning, by words only: {error}", markup=False, highlight=False, soft_wrap=True
                )
        with steps(f"looking at {len(calls)} calls", quiet=as_json) as step:
            found = run(calls, embed, min_calls, seed, step)
        teacher = next((n for n, r in loaded.rungs.items() if isinstance(r, ChatRungConfig)), "frontier")
        if write is not None:
            text = stanzas(found.candidates, teacher, write.parent, local, bar, found.priced)
            write.write_text(text, encoding="utf-8")
        if as_json:
            emit({
                "calls": len(calls), "unread": found.unread + len(bad),
                "bad_lines": {line.line: line.reason for line in bad}, "left_to_the_teacher": len(found.left),
                "left_topics": [list(topic) for topic in found.left_topics],
                "spend_in": "dollars" if found.priced else "tokens", "unpriced": found.unpriced,
                "candidates": [candidate.to_json() for candidate in found.candidates],
            })  # fmt: skip
            return
        _show(found, found.unread + len(bad))
        if write is not None:
            typer.echo(f"written to {write}: copy what you accept into the nodes of cascade.yaml")


def _from_log(
    path: Path, format_: LogFormat, requests: Path | None, quiet: bool
) -> tuple[list[Call], list[BadLine]]:
    """Give the calls of a log, and its lines that could not be read, which are named on stderr."""
    from cascade.errors import InvalidInput
    from cascade.traffic import Call
    from cascade.traffic.logs import read_log

    with path.open("rb") as file:
        if not any(line.strip() for line in file):
            raise InvalidInput("from", f"{path} is empty")
    kind = format_of(path, format_)
    if kind == "jsonl":
        raise InvalidInput("from", _no_log(path, format_))
    logged, bad = read_log(path, kind, requests)
    if not (quiet and logged):  # with --json they are in the result, where there is one
        name_bad_lines({line.line: line.reason for line in bad})
    if not logged:
        why = f"no line of {path} could be read" if bad else f"{path} holds no answered call to a chat model"
        raise InvalidInput("from", f"{why}; it was read as {kind}, and --format says what else it is")
    calls = [
        Call(
            each.id, each.time or 0.0, each.tenant, None, each.model, each.messages, each.tools,
            each.response_format, each.output, {}, each.usd, each.input_tokens, each.output_tokens,
        )
        for _, each in logged
    ]  # fmt: skip
    return calls, bad


def _no_log(path: Path, format_: LogFormat) -> str:
    """Say why a file is not taken for a log of calls: what its first entry is, as far as can be told."""
    from cascade.traffic.logs.entry import Unreadable
    from cascade.traffic.logs.reading import first_entry

    entry = first_entry(path)
    labelled = isinstance(entry, dict) and ("label" in entry or "output" in entry)
    if labelled or format_ is LogFormat.JSONL:
        return f"{path} holds labelled records of one node, not calls: import them instead"
    if isinstance(entry, Unreadable):
        first = f"the first entry of {path} could not be read: {entry}"
    else:
        first = f"the first entry of {path} is of no format that is known here (otel, litellm, openai-batch)"
    return f"{first}; where others are good, say what they are by --format"


def _show(found: Any, unread: int) -> None:
    many = f"{len(found.candidates)} candidate node{'' if len(found.candidates) == 1 else 's'}"
    by = "money first" if found.priced else "tokens first, since no call has a price"
    table = Table(title=f"{many}, the most {by}", title_justify="left")
    for column in (
        "node",
        "calls",
        "share of spend" if found.priced else "share of tokens",
        "answers",
        "repeated",
        "settled at 95/98/99 %",
        "such as",
    ):
        number = column in ("calls", "share of spend", "share of tokens")
        table.add_column(column, overflow="fold", justify="right" if number else "left")
    for c in found.candidates:
        n = len(c.contract.labels)
        answers = {"labels": f"{n} labels", "tools": f"{n} tools", "schema": "JSON"}
        settled = " / ".join(f"{share:.0%}" for share in c.settled.values()) if c.settled else "not said"
        example = f"{c.examples[0][0][:60]!r} -> {c.examples[0][1][:30]!r}" if c.examples else ""
        table.add_row(
            c.name, str(len(c.members)), f"{c.spend_share:.1%}", answers[c.contract.kind],
            f"{c.repetitiveness:.0%}", settled, example,
        )  # fmt: skip
    if found.candidates:
        wide_console().print(table)
    else:
        typer.echo("no candidate nodes; kinds with fewer calls than --min-calls are not looked at")
    typer.echo(f"{len(found.left)} open-ended calls are left to the teacher; {unread} could not be read")
    if found.priced and found.unpriced:
        typer.echo(
            f"{found.unpriced} of {len(found.calls)} calls have no price: they count at the dollars a token "
            "of the others, of the same model where it has a price"
        )
    for topic, share in found.left_topics:
        typer.echo(f"  {share:.0%} about {topic}")
