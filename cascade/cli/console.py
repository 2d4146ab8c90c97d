"""What all commands share: errors as one clear line, `--json`, the configuration."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from cascade.config import Config, NodeConfig, load_config
from cascade.errors import CascadeError, ConfigError, RetrainRefused, UnknownNode

console = Console(stderr=True)
"""Progress and errors go to stderr, results to stdout."""


def wide_console() -> Console:
    """Give a console on stdout for tables; where stdout is no terminal, wide enough not to break names."""
    found = Console()
    return found if found.is_terminal else Console(width=140)


EXIT_FAILED, EXIT_CONFIG, EXIT_REFUSED = 1, 2, 3

COUNT_SECONDS = 10.0
"""Where stderr is no terminal, a step that counts on (`replayed 256`, `replayed 512`) has a line as often."""
_NUMBER = re.compile(r"\d[\d,.]*")

ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="The configuration file.")]
NodeArgument = Annotated[str, typer.Argument(help="The node's name, as in the configuration.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]


@contextmanager
def clear_errors() -> Iterator[None]:
    """Turn errors into one message and an exit code: 2 for the configuration, 3 for a refusal, 1 else."""
    try:
        yield
    except ConfigError as error:
        console.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(EXIT_CONFIG) from None
    except RetrainRefused as error:
        console.print(str(error), style="yellow", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(EXIT_REFUSED) from None
    except CascadeError as error:
        console.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(EXIT_FAILED) from None
    except OSError as error:
        if error.filename is None:  # nothing that a person could look at: a broken pipe, or our mistake
            raise
        text = f"{error.filename}: {error.strerror}"
        console.print(text, style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(EXIT_FAILED) from None


@contextmanager
def steps(title: str, quiet: bool = False) -> Iterator[Any]:
    """Name the step at work, by a spinner or by lines; gives the function that is told of each step."""
    hidden = quiet or not console.is_terminal
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=console, disable=hidden) as progress:
        task = progress.add_task(title)
        kind, told = "", 0.0

        def step(name: str) -> None:
            nonlocal kind, told
            progress.update(task, description=f"{title}: {name}")
            before, kind = kind, _NUMBER.sub("N", name)
            counts_on = kind == before and time.monotonic() - told < COUNT_SECONDS
            if not console.is_terminal and not quiet and not counts_on:
                told = time.monotonic()
                console.print(f"{title}: {name}", highlight=False, soft_wrap=True)

        yield step


def node_of(config: Config, name: str) -> NodeConfig:
    """Give a configured node.

    Raises
    ------
    UnknownNode
    """
    if name not in config.nodes:
        raise UnknownNode(name, list(config.nodes))
    return config.nodes[name]


def json_text(data: dict[str, Any], indent: int | None = None) -> str:
    """Write a result as JSON; a number that JSON does not have (NaN, infinity) becomes null."""
    return json.dumps(_finite(data), ensure_ascii=False, default=str, allow_nan=False, indent=indent)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def emit(data: dict[str, Any]) -> None:
    """Print a result as JSON on stdout; see `json_text`."""
    text = json_text(data)
    typer.echo(text.encode("utf-8", "backslashreplace").decode())  # half a surrogate pair, as JSON escapes it


def read_config(path: Path) -> Config:
    """Load the configuration; see `cascade.config.load_config`."""
    return load_config(path)


def not_installed(error: ImportError, extra: str) -> NoReturn:
    """Say which extra is missing, and end."""
    console.print(f"`{error.name}` is not installed: pip install 'cascade-ladder[{extra}]'", markup=False)
    raise typer.Exit(1) from None
