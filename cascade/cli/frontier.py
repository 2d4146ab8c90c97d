"""`cascade frontier`: the simulated frontier, for trying things out without a key."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from typing import Annotated, Any

import typer

from cascade.cli.console import JsonOption, clear_errors, emit
from cascade.demo import LATENCY_MS, LATENCY_SPREAD, PORT
from cascade.errors import CascadeError, ConfigError


def frontier(
    answers: Annotated[
        Path | None,
        typer.Argument(help="A JSON object: input text to recorded answer; by default the sample traffic."),
    ] = None,
    port: Annotated[int, typer.Option(help="TCP port on 127.0.0.1; 0 for any.")] = PORT,
    latency_ms: Annotated[float, typer.Option(help="Median latency.")] = LATENCY_MS,
    spread: Annotated[float, typer.Option(help="Sigma of the log-normal latency.")] = LATENCY_SPREAD,
    seed: Annotated[int, typer.Option(help="Of latencies and faults.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Replay recorded answers over the OpenAI API until SIGTERM or Ctrl-C.

    No model runs here: what it was not given an answer to is an error, HTTP 404. An answer is found by the
    input's text at the end of the prompt, after a line break or a colon and a space.

    Example: `cascade frontier` and, in another terminal, `cascade serve`
    """
    with clear_errors():
        from cascade.demo.frontier import SimulatedFrontier

        recorded = _recorded(answers)
        try:
            server = SimulatedFrontier(recorded, latency_ms, latency_spread=spread, seed=seed, port=port)
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else str(error)
            raise CascadeError(
                f"cannot listen on 127.0.0.1:{port}: {why}; choose another port with --port, and name it "
                "in the base_url of cascade.yaml"
            ) from error
        with server:
            found: dict[str, Any] = {"url": server.url, "port": server.port, "answers": len(recorded)}
            if as_json:
                emit(found)
            else:
                typer.echo(
                    f"simulated frontier on {server.url}: it replays {len(recorded):,} recorded answers"
                )
            stop = threading.Event()
            for name in (signal.SIGTERM, signal.SIGINT):
                signal.signal(name, lambda *_: stop.set())
            stop.wait()


def _recorded(path: Path | None) -> dict[str, str]:
    from cascade.demo.traffic import SAMPLE, read_traffic, recorded_answers

    if path is None:
        return recorded_answers(read_traffic(SAMPLE, None))
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(answer, str) for answer in found.values()):
        raise ConfigError(f"{path} must hold one JSON object of input text to recorded answer")
    return found
