"""Turns a sentence-transformers model into an encoder folder: ONNX in int8 and fp32, and its tokenizer.

The only place that loads torch. Needs the `export` extra.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cascade.encoder import DESCRIPTION, Encoder, EncoderFiles
from cascade.errors import ConfigError

GOLDEN = (
    "stop",
    "Where is my parcel? It should have come on Monday.",
    "book a table for two at eight and tell me what the weather will be like in Lisbon tomorrow",
    "I was charged twice for order 4711, please refund one of the two payments as soon as you can. " * 3,
)
"""Texts of very different lengths: padded batches are where exports go wrong unnoticed."""

FP32_TOLERANCE = 1e-4
INT8_COSINE = 0.95


@dataclass(frozen=True)
class ExportReport:
    """What an export measured.

    Attributes
    ----------
    folder : Path
    fp32_difference : float
        Largest absolute difference between a component by torch and by ONNX, padded batch included.
    int8_cosine : float
        Smallest cosine between a vector by torch and by the int8 model.
    """

    folder: Path
    fp32_difference: float
    int8_cosine: float


def export_encoder(
    model: str, target: Path, precisions: Sequence[str] = ("int8", "fp32"), name: str | None = None
) -> ExportReport:
    """Export a model.

    Parameters
    ----------
    model : str
        A sentence-transformers name or folder.
    target : Path
        The folder to write, replaced whole once everything was checked.
    precisions : sequence of str
        Which of `int8` and `fp32` to keep.
    name : str, optional
        The published name, where `model` is a folder.

    Raises
    ------
    ConfigError
        torch or sentence-transformers is not installed, the model cannot be loaded, or ONNX and torch
        disagree.
    """
    try:
        import torch
        from onnxruntime.quantization import QuantType, quantize_dynamic
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise ConfigError(f"`{error.name}` is not installed: pip install 'cascade-ladder[export]'") from error
    try:
        source = SentenceTransformer(model, device="cpu")
    except Exception as error:  # the hub, the file system and torch each raise their own kinds
        raise ConfigError(f"cannot load the model {model!r}: {str(error)[:300]}") from error
    source.eval()

    class Embedding(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.source = source

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            out = self.source({"input_ids": input_ids, "attention_mask": attention_mask})
            return torch.nn.functional.normalize(out["sentence_embedding"], dim=-1)

    tokens = source.tokenizer(
        list(GOLDEN), padding=True, truncation=True, max_length=128, return_tensors="pt"
    )
    ids, mask = tokens["input_ids"], tokens["attention_mask"]
    with torch.no_grad():
        expected = Embedding()(ids, mask).numpy()
    with tempfile.TemporaryDirectory(dir=_parent(target)) as scratch:
        folder = Path(scratch) / "encoder"
        folder.mkdir()
        batch, width = torch.export.Dim("batch", min=1, max=4096), torch.export.Dim("width", min=2, max=4096)
        program = torch.onnx.export(
            Embedding().eval(),
            (ids, mask),
            dynamo=True,
            input_names=["input_ids", "attention_mask"],
            output_names=["vector"],
            dynamic_shapes={
                "input_ids": {0: batch, 1: width},
                "attention_mask": {0: batch, 1: width},
            },
            opset_version=18,
            verbose=False,
        )
        program.save(str(folder / "model.fp32.onnx"), external_data=False)
        # A scale per channel keeps the mean cosine to fp32 at 0.99 (per tensor: 0.97); seven bits, because
        # CPUs without VNNI saturate at eight and would give other vectors than the ones trained on.
        quantize_dynamic(
            folder / "model.fp32.onnx",
            folder / "model.int8.onnx",
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
        )
        source.tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
        limit = min(int(source.max_seq_length or 512), 512)
        files = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}
        description = EncoderFiles(
            name=name or model, dim=int(expected.shape[1]), max_tokens=limit,
            inputs=("input_ids", "attention_mask"), files=files,
        )  # fmt: skip
        (folder / DESCRIPTION).write_text(description.to_json())
        report = _check(folder, ids.numpy(), mask.numpy(), expected, target)
        for precision in {"int8", "fp32"} - set(precisions):
            (folder / f"model.{precision}.onnx").unlink()
            files.pop(f"model.{precision}.onnx")
        (folder / DESCRIPTION).write_text(description.to_json())
        if target.exists():
            shutil.rmtree(target)
        folder.rename(target)
    return report


def _check(folder: Path, ids: Any, mask: Any, expected: Any, target: Path) -> ExportReport:
    import onnxruntime

    session = onnxruntime.InferenceSession(
        str(folder / "model.fp32.onnx"), providers=["CPUExecutionProvider"]
    )
    padded = session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
    single = Encoder(folder, "fp32", providers=["CPUExecutionProvider"])(GOLDEN)
    difference = float(max(np.abs(padded - expected).max(), np.abs(single - expected).max()))
    cosine = float(
        (Encoder(folder, "int8", providers=["CPUExecutionProvider"])(GOLDEN) * expected).sum(axis=1).min()
    )
    if difference > FP32_TOLERANCE:
        raise ConfigError(
            f"the fp32 export differs from torch by {difference:.1e} (at most {FP32_TOLERANCE:.0e})"
        )
    if cosine < INT8_COSINE:
        raise ConfigError(f"the int8 export has cosine {cosine:.4f} to torch (at least {INT8_COSINE})")
    return ExportReport(target, difference, cosine)


def _parent(target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    return target.parent
