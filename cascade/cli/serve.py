"""`cascade serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import TypeAdapter, ValidationError

from cascade.cli.console import ConfigOption, JsonOption, clear_errors, emit, read_config
from cascade.config.values import Listen


def _address(value: str | None) -> str | None:
    if value is not None:
        try:
            TypeAdapter(Listen).validate_python(value)
        except ValidationError:
            text = f"{value!r} is not host:port, with a port from 0 to 65535, or unix:path"
            raise typer.BadParameter(text) from None
    return value


def serve(
    config: ConfigOption = Path("cascade.yaml"),
    listen: Annotated[
        str | None, typer.Option(callback=_address, help="host:port; overrides the configuration.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=256, help="Worker processes; by default one for each core."),
    ] = None,
    json_logs: Annotated[
        bool, typer.Option("--json-logs", help="Log JSON lines; overrides `observe.logs`.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Serve decisions over gRPC until SIGTERM or Ctrl-C.

    With several workers, SIGHUP reloads the configuration: new workers take over once they serve.

    Example: `cascade serve --config cascade.yaml --listen 127.0.0.1:50051 --workers 2`
    """
    with clear_errors():
        loaded = read_config(config)
        from cascade.observe.logs import set_up_logs

        set_up_logs("json" if json_logs else loaded.observe.logs)
        from cascade.onnx_session import check_runtime
        from cascade.server.run import serve as run

        check_runtime()

        def announce(facts: dict[str, Any]) -> None:
            if as_json:
                emit(facts)
                return
            many = f", {facts['workers']} workers" if facts["workers"] > 1 else ""
            typer.echo(f"listening on {facts['listen']} (port {facts['port']}{many})")
            if "http" in facts:
                typer.echo(f"OpenAI-compatible API: http://{facts['http']}/v1")
            for name, version in facts["nodes"].items():
                why = f" ({facts['problems'][name]})" if name in facts["problems"] else ""
                folder = loaded.models_path / name
                if not why and not any(folder.glob("[0-9]*-*/manifest.json")):
                    why = f" (no bundle in {folder} yet)"
                typer.echo(f"  {name}: {version or 'the teacher answers everything'}{why}")

        code = run(loaded, listen, workers, announce, lambda: read_config(config))
        if code:
            raise typer.Exit(code)
