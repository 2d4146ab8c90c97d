"""The `linear` rung: an n-gram softmax classifier in ONNX, tens of microseconds a text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cascade.features import TextFeatures
from cascade.onnx_session import open_session


class LinearModel:
    """The classifier itself: features in, a probability for each label out.

    Parameters
    ----------
    path : Path
        The ONNX file that `training.linear.export` wrote.
    labels : sequence of str
        The labels, in the order of the model's outputs.
    """

    def __init__(self, path: Path, labels: Sequence[str]) -> None:
        self._session = open_session(path)
        self.labels = tuple(labels)

    def probabilities(self, features: TextFeatures) -> NDArray[np.float32]:
        """Give P(label | text), shape (n_texts, n_labels)."""
        feed = {
            "columns": features.columns,
            "values": features.values,
            "rows": features.rows,
            "n": np.array([len(features)], dtype=np.int64),
        }
        out: NDArray[np.float32] = self._session.run(None, feed)[0]
        return out
