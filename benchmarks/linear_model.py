"""The linear model alone, as its ONNX file says it: what peers serve."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cascade.features import TextFeatures
from cascade.onnx_session import open_session


class LinearModel:
    """Features in, a probability for each label out.

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
        bounds = np.searchsorted(features.rows, np.arange(len(features) + 1)).tolist()
        values = features.values[None, :]
        out = np.empty((len(features), len(self.labels)), dtype=np.float32)
        for i in range(len(features)):  # the file's input is one text
            part = slice(bounds[i], bounds[i + 1])
            feed = {"columns": features.columns[part], "values": values[:, part]}
            out[i] = self._session.run(None, feed)[0]
        return out
