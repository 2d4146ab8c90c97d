"""How ONNX files are opened, and which onnxruntime opens them."""

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from cascade.errors import BundleError, ConfigError
from cascade.onnx_session import check_runtime, open_session


def test_both_builds_of_onnxruntime_in_one_environment_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: "1.2.3")
    with pytest.raises(ConfigError, match=r"onnxruntime-gpu 1\.2\.3 are both"):
        check_runtime()


@pytest.mark.parametrize("build", ["onnxruntime", "onnxruntime-gpu"])
def test_one_build_is_enough(build: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name != build:
            raise metadata.PackageNotFoundError(name)
        return "1.2.3"

    monkeypatch.setattr(metadata, "version", version)
    check_runtime()


def test_a_file_that_is_no_model_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"linear\.onnx"):
        open_session(tmp_path / "linear.onnx")
    (tmp_path / "linear.onnx").write_bytes(b"\x00garbage")
    with pytest.raises(BundleError, match="cannot read it"):
        open_session(tmp_path / "linear.onnx")


def test_opening_models_reports_to_nobody(tmp_path: Path) -> None:
    # Told too late, onnxruntime leaves a device's number in the home folder and starts threads that report.
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("ORT_DISABLE_TELEMETRY", "CI", "XDG_CACHE_HOME")
    }
    model = next(Path("models").glob("*/*-*/first_pass.onnx")).absolute()
    script = (
        "import sys, pathlib, cascade.encoder; from cascade.onnx_session import open_session; "
        "open_session(pathlib.Path(sys.argv[1]))"
    )
    subprocess.run(
        [sys.executable, "-c", script, str(model)], env=environment | {"HOME": str(tmp_path)}, check=True
    )
    assert [str(path) for path in tmp_path.rglob("*")] == []
