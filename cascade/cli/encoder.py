"""`cascade encoder export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cascade.cli.console import ConfigOption, JsonOption, clear_errors, emit, read_config, steps


def export_encoder(
    model: Annotated[str, typer.Argument(help="A sentence-transformers name or folder.")],
    config: ConfigOption = Path("cascade.yaml"),
    to: Annotated[
        Path | None,
        typer.Option(help="Target folder; by default models/encoders/NAME."),
    ] = None,
    precision: Annotated[list[str] | None, typer.Option(help="int8, fp32 or both.")] = None,
    name: Annotated[str | None, typer.Option(help="The published name, where MODEL is a folder.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Turn a sentence-transformers model into an ONNX encoder folder, parity-checked against torch.

    Needs the `export` extra, with torch.

    Example: `cascade encoder export sentence-transformers/all-MiniLM-L6-v2 --precision int8`
    """
    with clear_errors():
        from training.encoder_export import export_encoder as run

        models = read_config(config).models_path if config.is_file() else Path("models")
        target = to or models / "encoders" / Path(model).name
        with steps(f"exporting {model}", quiet=as_json):
            done = run(model, target, precision or ["int8", "fp32"], name)
        if as_json:
            emit(
                {
                    "folder": str(done.folder),
                    "fp32_difference": done.fp32_difference,
                    "int8_cosine": done.int8_cosine,
                }
            )
        else:
            typer.echo(
                f"{done.folder}: fp32 differs from torch by at most {done.fp32_difference:.1e}, "
                f"int8 has a cosine of at least {done.int8_cosine:.4f}"
            )
