"""Embeds many texts at once, on all cores."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cascade.encoder import Encoder


class ParallelEncoder(Encoder):
    """An encoder that divides its texts among threads; a text's vector is the same as alone."""

    def __init__(
        self, folder: Path, precision: str = "int8", max_tokens: int = 128, providers: Sequence[str] = ()
    ) -> None:
        super().__init__(folder, precision, max_tokens, providers)
        self._threads = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="embed")

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts, shape (len(texts), dim)."""
        if len(texts) < 64:
            return super().__call__(texts)
        chunks = [texts[i : i + 64] for i in range(0, len(texts), 64)]
        return np.concatenate(list(self._threads.map(super().__call__, chunks)))
