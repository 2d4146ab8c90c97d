"""An encoder for benchmarks that remembers embeddings on disk: the same texts are asked many times."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.embedding import ParallelEncoder


class CachedEncoder:
    """Embeds each text once, in all runs together.

    Parameters
    ----------
    encoder : ParallelEncoder
    folder : Path
        Holds one file an encoder, named by its fingerprint.
    """

    def __init__(self, encoder: ParallelEncoder, folder: Path) -> None:
        self._encoder = encoder
        self.fingerprint = encoder.fingerprint
        self.description = encoder.description
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / f"{encoder.fingerprint[:16]}.npz"
        self._known: dict[bytes, NDArray[np.float32]] = {}
        if self._file.is_file():
            with np.load(self._file, allow_pickle=False) as stored:
                keys, vectors = stored["keys"], stored["vectors"]
            self._known = {key.tobytes(): vector for key, vector in zip(keys, vectors, strict=True)}

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts, shape (len(texts), dim)."""
        keys = [hashlib.sha256(text.encode()).digest()[:16] for text in texts]
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._known}
        if new:
            self._known |= dict(zip(new, self._encoder(list(new.values())), strict=True))
            if len(new) >= 64:
                self._save()
        return np.stack([self._known[key] for key in keys])

    def _save(self) -> None:
        keys = np.frombuffer(b"".join(self._known), dtype=np.uint8).reshape(-1, 16)
        scratch = self._file.with_suffix(".tmp.npz")
        np.savez(scratch, keys=keys, vectors=np.stack(list(self._known.values())))
        scratch.replace(self._file)
