"""Sentence encoders: ONNX folders that turn texts into unit vectors.

A folder holds `encoder.json`, `tokenizer.json` and one ONNX file a precision. `cascade encoder export`
writes such folders; nothing here needs torch or a network.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from cascade.errors import BundleError, ConfigError
from cascade.onnx_session import CPU, CUDA, VERSION, offered_providers, open_session

DESCRIPTION = "encoder.json"
FORMAT = 1

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EncoderFiles:
    """What `encoder.json` says.

    Attributes
    ----------
    name : str
        The model's published name.
    dim : int
        Length of the vectors.
    max_tokens : int
        The longest input the model takes, in tokens, special tokens included.
    inputs : tuple of str
        Names of the ONNX inputs.
    files : dict of str to str
        SHA-256 of each file.
    format : int
        Version of this layout.
    """

    name: str
    dim: int
    max_tokens: int
    inputs: tuple[str, ...]
    files: dict[str, str]
    format: int = FORMAT

    def to_json(self) -> str:
        """Give the text of `encoder.json`."""
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"


def read_description(folder: Path) -> EncoderFiles:
    """Read a folder's `encoder.json`.

    Raises
    ------
    BundleError
        It is missing, not readable, or of a newer format.
    """
    try:
        data: dict[str, Any] = json.loads((folder / DESCRIPTION).read_text("utf-8"))
        if data["format"] > FORMAT:
            raise BundleError(
                DESCRIPTION, f"format {data['format']} is newer than this Cascade reads ({FORMAT})"
            )
        return EncoderFiles(**(data | {"inputs": tuple(data["inputs"])}))
    except FileNotFoundError as error:
        raise BundleError(DESCRIPTION, f"the file is missing in {folder}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(DESCRIPTION, f"not a description of an encoder: {error}") from error


def find_encoder(model: str, models: Path, base: Path) -> Path:
    """Find the folder of a configured encoder.

    Parameters
    ----------
    model : str
        A folder, or a model's name, of which the last part names a folder under `models/encoders/`.
    models : Path
        The configured `models` folder.
    base : Path
        What a relative folder is relative to.

    Raises
    ------
    ConfigError
        There is no such folder.
    """
    shipped = models / "encoders" / model.rsplit("/", 1)[-1]
    for folder in (base / model, shipped):
        if (folder / DESCRIPTION).is_file():
            return folder
    raise ConfigError(
        f"encoder {model!r}: neither {base / model} nor {shipped} holds an {DESCRIPTION}; "
        f"make it with `cascade encoder export {model}`, copy it there (Cascade's repository has "
        "models/encoders/all-MiniLM-L6-v2), or leave its rung out of the ladder"
    )


class Encoder:
    """Texts in, unit vectors out.

    On the CPU texts go through one at a time: dynamic int8 scales by the largest activation in the
    tensor, so in a batch one text's vector would depend on the others. On CUDA they go in padded batches.

    Parameters
    ----------
    folder : Path
        An encoder folder.
    precision : str
        `int8` or `fp32`; on CUDA fp32 is taken where the folder has it.
    max_tokens : int
        Longer texts are cut. Bounded by what the model takes.
    providers : sequence of str
        onnxruntime execution providers, the preferred first. Empty: CUDA where there is one.
    verify : bool
        Compare each file with its SHA-256.

    Raises
    ------
    BundleError
        A file is missing, altered or unreadable.
    """

    def __init__(
        self,
        folder: Path,
        precision: str = "int8",
        max_tokens: int = 128,
        providers: Sequence[str] = (),
        verify: bool = True,
    ) -> None:
        self.description = read_description(folder)
        offered = offered_providers()
        automatic = (CUDA, CPU) if has_nvidia_driver() else (CPU,)
        wanted = [p for p in (providers or automatic) if p in offered]
        if providers and not wanted:
            raise ConfigError(f"none of the providers {list(providers)} is offered here; offered: {offered}")
        if wanted[0] == CUDA and (folder / "model.fp32.onnx").is_file():
            precision = "fp32"
        file = f"model.{precision}.onnx"
        if file not in self.description.files:
            have = ", ".join(f for f in self.description.files if f.endswith(".onnx"))
            raise BundleError(file, f"encoder folder {folder} has no such precision; it has {have}")
        if verify:
            for name in ("tokenizer.json", file):
                _verify(folder / name, self.description.files[name])
        self._session = open_session(folder / file, tuple(wanted))
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(min(max_tokens, self.description.max_tokens))
        self._tokenizer.no_padding()
        self.providers: tuple[str, ...] = tuple(self._session.get_providers())
        self.on_gpu = self.providers[0] == CUDA
        if wanted[0] == CUDA and not self.on_gpu:
            _log.warning(
                "encoder %s: CUDA was wanted and could not be started, so it runs on %s; check that CUDA and "
                "cuDNN are of the versions that onnxruntime %s wants",
                self.description.name, self.providers[0], VERSION,
            )  # fmt: skip
        self.fingerprint = fingerprint(self.description, file, min(max_tokens, self.description.max_tokens))
        _log.info("encoder %s: %s on %s", self.description.name, precision, ", ".join(self.providers))

    @property
    def dim(self) -> int:
        """Length of the vectors."""
        return self.description.dim

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts.

        Returns
        -------
        float32 array of shape (len(texts), dim)
            Vectors of length one.
        """
        if not texts:
            return np.zeros((0, self.dim), dtype=np.float32)
        ids = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]
        if self.on_gpu:
            return self._padded(ids)
        return np.concatenate([self._padded([row]) for row in ids])

    def _padded(self, ids: list[list[int]]) -> NDArray[np.float32]:
        width = max(len(row) for row in ids)
        tokens = np.zeros((len(ids), width), dtype=np.int64)
        mask = np.zeros((len(ids), width), dtype=np.int64)
        for i, row in enumerate(ids):
            tokens[i, : len(row)] = row
            mask[i, : len(row)] = 1
        feed = {"input_ids": tokens, "attention_mask": mask}
        out: NDArray[np.float32] = self._session.run(None, feed)[0]
        return out


def has_nvidia_driver() -> bool:
    """Say whether this machine has an NVIDIA driver: without one onnxruntime only complains about CUDA."""
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


def fingerprint(description: EncoderFiles, file: str, max_tokens: int) -> str:
    """Give what must be equal between training and serving, as one hash."""
    parts = [description.files[file], description.files["tokenizer.json"], str(max_tokens)]
    return hashlib.sha256("|".join(parts).encode()).hexdigest()


def _verify(path: Path, expected: str) -> None:
    if not path.is_file():
        raise BundleError(path.name, f"the file is missing in {path.parent}")
    if hashlib.sha256(path.read_bytes()).hexdigest() != expected:
        raise BundleError(path.name, f"its SHA-256 is not the one {DESCRIPTION} states; the file was altered")
