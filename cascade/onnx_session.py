"""Opens ONNX files the one way that all local models are opened."""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path

# From 1.29 on, its published builds report to their maker what they are used for, unless this is set
# before the import. They also keep a device's number in the home folder, and start threads before a fork.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime

from cascade.errors import BundleError, ConfigError

VERSION = str(onnxruntime.__version__)
"""Of onnxruntime."""

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"


def offered_providers() -> list[str]:
    """Give the execution providers that this build of onnxruntime has."""
    return list(onnxruntime.get_available_providers())


def check_runtime() -> None:
    """Refuse an environment that holds both builds of onnxruntime: its files are then a mix, mostly CPU.

    Raises
    ------
    ConfigError
        Both `onnxruntime` and `onnxruntime-gpu` are installed.
    """
    builds = []
    for name in ("onnxruntime", "onnxruntime-gpu"):
        try:
            builds.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    if len(builds) > 1:
        raise ConfigError(
            f"{' and '.join(builds)} are both installed and overwrite each other's files: "
            "pip uninstall both, then install the one you want"
        )


def open_session(
    path: Path, providers: tuple[str, ...] = (CPU,), threads: int = 1
) -> onnxruntime.InferenceSession:
    """Open an ONNX file.

    Parameters
    ----------
    path : Path
        The file.
    providers : tuple of str
        onnxruntime execution providers, the preferred first.
    threads : int
        Threads within one operator. With one, a row's result does not depend on how work is divided.

    Raises
    ------
    BundleError
        The file is missing or not a model that this onnxruntime reads.
    """
    if not path.is_file():
        raise BundleError(path.name, "the file is missing")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=list(providers))
    except Exception as error:  # onnxruntime raises many kinds, none of them exported
        raise BundleError(path.name, f"onnxruntime cannot read it: {str(error)[:300]}") from error
