"""The weights of the linear model, read from its ONNX file without the `onnx` package."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from cascade.rungs.onnx_weights import linear_weights


def test_the_weights_are_those_that_onnx_reads(shipped: Path) -> None:
    found = linear_weights(shipped / "linear.onnx")
    assert found is not None
    model = onnx.load(str(shipped / "linear.onnx"))
    expected = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    np.testing.assert_array_equal(found[0], expected["weights"].astype(np.float32))
    np.testing.assert_array_equal(found[1], expected["bias"])


@pytest.mark.parametrize("damage", ["empty", "garbage", "half", "another operator", "another message"])
def test_any_other_file_is_none(shipped: Path, tmp_path: Path, damage: str) -> None:
    raw = (shipped / "linear.onnx").read_bytes()
    (tmp_path / "other.onnx").write_bytes(
        {
            "empty": b"",
            "garbage": b"\xff" * 50,
            "half": raw[: len(raw) // 2],
            "another operator": raw.replace(b"Softmax", b"Sigmoid"),
            "another message": b"\x3a\x05abc",
        }[damage]
    )
    assert linear_weights(tmp_path / "other.onnx") is None


def test_a_missing_file_or_another_model_is_none(shipped: Path, tmp_path: Path) -> None:
    assert linear_weights(tmp_path / "missing.onnx") is None
    assert linear_weights(shipped / "acceptor.onnx") is None
