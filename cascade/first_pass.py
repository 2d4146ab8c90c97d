"""What is computed of every request before a local rung is asked, in as few steps as can be.

Request features, the difficulty model, the linear model and the acceptor's opinion of its answer all start
from the same n-grams, and all that they need of them are sums: each n-gram adds its row of one table (that it
is known, its rarity, its hardness for each rung, its weighted row of the linear model) to its text's sums.
From there on it is one ONNX graph, with both LightGBM models in it, because a call of onnxruntime or numpy
costs more than the arithmetic of one text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cascade.acceptor import blend_each
from cascade.difficulty import N_SUMS, request_row, request_rows
from cascade.errors import BundleError
from cascade.features import Featurizer
from cascade.ngrams import N_BLOCKS, Grams, hash_grams
from cascade.onnx_session import open_session

FILE = "first_pass.onnx"
_RARITY = 1
"""The column of an n-gram's idf in the table."""
_OUTPUTS = ["p_right", "linear", "accepted", "p_top"]
_GROUP_BYTES = 4096
"""Texts are looked at in groups of about this size, so that the rows gathered for them stay in the cache."""


@dataclass(slots=True)
class FirstSeen:
    """What the first pass says of n requests.

    Attributes
    ----------
    request : float32 array of shape (n, n_request_features)
        What the difficulty model and the acceptor see of each request.
    p_right : float32 array of shape (n, n_rungs)
        The difficulty model's P(rung is right | request).
    linear : float32 array of shape (n, n_labels)
        The linear model's P(label | text).
    confidence : float32 array of shape (n,)
        The acceptor's P(right) of the linear rung's answer; without meaning where no rung is linear.
    """

    request: NDArray[np.float32]
    p_right: NDArray[np.float32]
    linear: NDArray[np.float32]
    confidence: NDArray[np.float32]

    def __getitem__(self, at: slice | list[int]) -> FirstSeen:
        return FirstSeen(self.request[at], self.p_right[at], self.linear[at], self.confidence[at])


class FirstPass:
    """Texts in; out comes what is known of them before any rung is asked.

    A text's numbers do not depend on its batch.

    Parameters
    ----------
    path : Path
        `first_pass.onnx`, which `training.first_pass.export` wrote.
    featurizer : Featurizer
    hardness : float32 array of shape (n_columns, n_rungs)
        Hardness of each n-gram for each rung, see `cascade.difficulty`.
    weights : float32 array of shape (n_columns, n_labels)
        The linear model's.
    trees_weight : float
        The linear rung's, see `cascade.acceptor.blend`.

    Raises
    ------
    BundleError
        The parts do not fit together, or the file is none that onnxruntime reads.
    """

    def __init__(
        self,
        path: Path,
        featurizer: Featurizer,
        hardness: NDArray[np.float32],
        weights: NDArray[np.float32],
        trees_weight: float = 1.0,
    ) -> None:
        self._session = open_session(path)
        self._trees_weight = trees_weight
        n, (n_hard, self.n_rungs) = featurizer.n_columns, hardness.shape
        self._n_facts = N_SUMS + self.n_rungs
        widths = {entry.name: entry.shape[-1] for entry in self._session.get_inputs()}
        if n_hard != n or len(weights) != n or widths.get("sums") != self._n_facts + weights.shape[1]:
            raise BundleError(path.name, "it does not fit the bundle's vocabulary, rungs and labels")
        idf = featurizer.idf[:, None]
        # The last row is that of n-grams which training never saw: it adds nothing.
        self._table = np.zeros((n + 1, self._n_facts + weights.shape[1]), dtype=np.float32)
        self._table[:n] = np.hstack([np.ones_like(idf), idf, idf * idf, idf * idf * hardness, idf * weights])
        self._row_of_bucket = featurizer.columns_of_buckets(unknown=n)

    def __call__(self, texts: Sequence[str]) -> FirstSeen:
        """Look at a batch of texts."""
        if not texts:
            raise ValueError("there are no texts")
        parts = [self._sum(grams) for grams in hash_grams(texts, _GROUP_BYTES)]
        if len(texts) == 1:
            sums, counts, peaks = parts[0]
            facts = sums[0, :, : self._n_facts].tolist()
            request, scale = request_row(texts[0], facts, counts[0].tolist(), float(peaks[0]))
            asked = np.array([[*request, float(r)] for r in range(self.n_rungs)], dtype=np.float32)
            scales = np.array([scale], dtype=np.float32)
        else:
            sums, counts, peaks = map(np.concatenate, zip(*parts, strict=True)) if parts[1:] else parts[0]
            many, of_many = request_rows(texts, sums[:, :, : self._n_facts], counts, peaks)
            asked = np.empty((len(texts), self.n_rungs, many.shape[1] + 1), dtype=np.float32)
            asked[:, :, :-1] = many[:, None, :]
            asked[:, :, -1] = np.arange(self.n_rungs)
            asked = asked.reshape(-1, asked.shape[2])
            scales = of_many.astype(np.float32)
        feed = {"rows": asked, "sums": sums, "scales": scales}
        p_right, linear, accepted, p_top = self._session.run(_OUTPUTS, feed)
        if self._trees_weight != 1:
            blended = blend_each(accepted.tolist(), p_top.tolist(), self._trees_weight)
            accepted = np.array(blended, dtype=np.float32)
        return FirstSeen(asked[:: self.n_rungs, :-1], p_right, linear, accepted)

    def _sum(self, grams: Grams) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]:
        """Sum up what the n-grams of n texts say.

        Returns
        -------
        sums : float32 array of shape (n, N_BLOCKS, n_sums)
        counts : int64 array of shape (n, N_BLOCKS)
            How many n-grams each block has.
        peaks : float32 array of shape (n,)
            The largest rarity.
        """
        gathered = self._table.take(self._row_of_bucket.take(grams.buckets), axis=0)
        rarity = gathered[:, _RARITY]
        n, counts = grams.n_texts, grams.counts
        if n == 1:
            n_single, n_pairs, _ = counts[0].tolist()
            if n_pairs:  # otherwise a block is empty, which reduceat cannot say
                sums = np.add.reduceat(gathered, (0, n_single, n_single + n_pairs), axis=0)
                return sums[None], counts, rarity.max(keepdims=True)
        ordered = counts.T.ravel()  # first the words of all texts, then all pairs, then all bytes
        filled = ordered.nonzero()[0]
        starts = (ordered.cumsum() - ordered)[filled]
        sums = np.zeros((N_BLOCKS * n, gathered.shape[1]), dtype=np.float32)
        sums[filled] = np.add.reduceat(gathered, starts, axis=0)
        peaks = np.zeros(N_BLOCKS * n, dtype=np.float32)
        peaks[filled] = np.maximum.reduceat(rarity, starts)
        by_text = sums.reshape(N_BLOCKS, n, -1).transpose(1, 0, 2)
        return by_text, counts, peaks.reshape(N_BLOCKS, n).max(axis=0)
