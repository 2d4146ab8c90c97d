"""What is computed of every request before a local rung is asked, in as few steps as can be.

Request features, the difficulty model, the linear model and the acceptor's opinion of its answer all start
from the same n-grams, and all that they need of them are sums: each n-gram adds its row of one table (that it
is known, its rarity, its hardness for each rung, its weighted row of the linear model) to its text's sums.
From there on it is one ONNX graph, with both LightGBM models in it, because a call of onnxruntime or numpy
costs more than the arithmetic of one text. Of many texts the trees are most of that arithmetic, and are added
up outside of the graph, to the same bits (`cascade.tree_sums`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cascade.acceptor import blend_odds
from cascade.difficulty import N_SUMS, request_row, request_rows
from cascade.errors import BundleError
from cascade.features import Featurizer
from cascade.ngrams import (
    CHAR_SIZES,
    N_BLOCKS,
    NO_GRAM,
    Grams,
    count_grams,
    count_windows,
    hash_grams,
    hash_one,
)
from cascade.onnx_session import open_session
from cascade.scope import log_odds
from cascade.surface import SURFACE_NAMES
from cascade.tree_sums import FILE as TREES
from cascade.tree_sums import TreeSums

FILE = "first_pass.onnx"
MANY_FILE = "first_pass_many.onnx"
MANY = 24
"""From so many texts on, trees are added up outside of the graph: of fewer, the calls of numpy cost more."""
_RARITY = 1
"""The column of an n-gram's idf in the table."""
_GROUP_BYTES = 8192
"""Texts are looked at in groups of about this size: of fewer, the calls of numpy cost more, and of more, the
rows that are gathered for them take megabytes."""


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
        `first_pass.onnx`, which `training.first_pass.export` wrote, with what it wrote beside it.
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
        self._outputs = [entry.name for entry in self._session.get_outputs()]
        self._n_request = len(SURFACE_NAMES) + 2 + self.n_rungs
        self._row_a_rung = "rows" in widths  # a bundle of schema 1
        fits = widths.get("rows", widths.get("request", 0) + 1) == self._n_request + 1
        n_sums = weights.shape[1] + self._row_a_rung * self._n_facts
        if n_hard != n or len(weights) != n or widths.get("sums") != n_sums or not fits:
            raise BundleError(path.name, "it does not fit the bundle's vocabulary, rungs and labels")
        if not self._row_a_rung:
            self._many = open_session(path.with_name(MANY_FILE))
            self._trees = TreeSums.load(path.with_name(TREES), self._n_request, self.n_rungs)
        # The commonest n-grams first, so that most of what is looked up lies close together, and the largest
        # row is the rarest. Row 0 is that of n-grams which training never saw: it adds nothing.
        order = featurizer.idf.argsort(kind="stable")
        idf, hardness, weights = featurizer.idf[order, None], hardness[order], weights[order]
        self._table = np.zeros((n + 1, self._n_facts + weights.shape[1]), dtype=np.float32)
        self._table[1:] = np.hstack([np.ones_like(idf), idf, idf * idf, idf * idf * hardness, idf * weights])
        self._rarity = self._table[:, _RARITY].copy()
        row_of_column = np.zeros(n + 1, dtype=np.int32)
        row_of_column[order] = np.arange(1, n + 1)
        self._row_of_bucket = np.zeros(NO_GRAM + 1, dtype=np.int32)
        self._row_of_bucket[:NO_GRAM] = row_of_column[featurizer.columns_of_buckets(unknown=n)]

    def __call__(self, texts: Sequence[str]) -> FirstSeen:
        """Look at a batch of texts."""
        if not texts:
            raise ValueError("there are no texts")
        n_facts = self._n_facts
        if len(texts) == 1:
            sums, counts, peak = self._sum_one(texts[0])
            row, scale = request_row(texts[0], sums[0, :, :n_facts].tolist(), counts, peak)
            request, scales = np.array([row], dtype=np.float32), np.array([scale], dtype=np.float32)
        else:
            sums, of_each, peaks = self._sum(texts)
            rows, of_many = request_rows(texts, sums[:, :, :n_facts], of_each, peaks)
            request, scales = rows.astype(np.float32), of_many.astype(np.float32)
        if self._row_a_rung:
            return self._see_row_a_rung(request, sums, scales)
        feed = {"sums": sums[:, :, n_facts:], "scales": scales[:, None, :]}
        if len(texts) < MANY:
            feed["request"] = request
            linear, seen, *accepted = self._session.run(self._outputs, feed)
            seen = seen[:, self._n_request :]
        else:
            raw, within_reach = self._trees.of_requests(request)
            feed["raw"] = np.stack(raw, axis=1)
            linear, seen = self._many.run(self._outputs[:2], feed)
            accepted = [self._trees.of_answers(within_reach, seen)]
        p_right = seen[:, : self.n_rungs]
        if seen.shape[1] == self.n_rungs:  # there is no linear rung
            return FirstSeen(request, p_right, linear, np.zeros(len(texts), dtype=np.float32))
        odds, top = accepted[0].ravel().tolist(), seen[:, self.n_rungs].tolist()
        return FirstSeen(request, p_right, linear, self._confidence(odds, top))

    def _confidence(self, odds: Sequence[float], top: Sequence[float]) -> NDArray[np.float32]:
        return np.array(blend_odds(odds, top, self._trees_weight), dtype=np.float32)

    def _see_row_a_rung(
        self, request: NDArray[np.float32], sums: NDArray[np.float32], scales: NDArray[np.float32]
    ) -> FirstSeen:
        """Likewise, by the graph of schema 1, which asks about each rung in a row of its own."""
        rows = np.empty((len(request), self.n_rungs, self._n_request + 1), dtype=np.float32)
        rows[:, :, :-1] = request[:, None, :]
        rows[:, :, -1] = np.arange(self.n_rungs)
        feed = {"rows": rows.reshape(-1, rows.shape[2]), "sums": sums, "scales": scales}
        outputs = ["p_right", "linear", "accepted", "p_top"]
        p_right, linear, accepted, p_top = self._session.run(outputs, feed)
        confidence = self._confidence(log_odds(accepted).tolist(), p_top.tolist())
        return FirstSeen(request, p_right, linear, confidence)

    def _sum(
        self, texts: Sequence[str]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]:
        """Sum up what the n-grams of n texts say.

        Returns
        -------
        sums : float32 array of shape (n, N_BLOCKS, n_sums)
        counts : int64 array of shape (n, N_BLOCKS)
            How many n-grams each block has.
        peaks : float32 array of shape (n,)
            The largest rarity.
        """
        sums = np.zeros((len(texts), N_BLOCKS, self._table.shape[1]), dtype=np.float32)
        peaks = np.empty(len(texts), dtype=np.float32)
        of_words = np.empty(len(texts), dtype=np.int64)
        lengths = np.empty(len(texts), dtype=np.int64)
        at = 0
        for grams in hash_grams(texts, _GROUP_BYTES):
            group = slice(at, at + grams.n_texts)
            of_words[group], lengths[group] = grams.of_words, grams.lengths
            self._sum_group(grams, sums[group], peaks[group])
            at += grams.n_texts
        return sums, count_grams(of_words, lengths), peaks

    def _sum_group(self, grams: Grams, sums: NDArray[np.float32], peaks: NDArray[np.float32]) -> None:
        """Likewise of texts that were hashed together, into arrays; `sums` is zero so far."""
        rows = self._row_of_bucket.take(grams.laid_out)
        gathered = self._table.take(rows, axis=0)
        slots, width = grams.n_word_slots, gathered.shape[1]
        of_byte = gathered[slots:].reshape(len(CHAR_SIZES), -1, width)
        # What ends at one byte is added up first, in whole arrays: text by text, a number costs five times as
        # much. The additions are those of a text alone, and in their order.
        by_end = of_byte[0] + of_byte[1]
        for each in of_byte[2:]:
            by_end += each
        starts = grams.lengths.cumsum() - grams.lengths
        np.add.reduceat(by_end, starts, axis=0, out=sums[:, 2])
        rarest = np.maximum.reduceat(rows[slots:].reshape(len(CHAR_SIZES), -1).max(axis=0), starts)
        if slots:
            # reduceat cannot say that a text has no words
            filled = slice(None) if grams.of_words.all() else grams.of_words.nonzero()[0]
            starts = (grams.of_words.cumsum() - grams.of_words)[filled]
            of_word = gathered[:slots].reshape(2, -1, width)
            sums[filled, :2] = np.add.reduceat(of_word, starts, axis=1).transpose(1, 0, 2)
            in_words = np.maximum.reduceat(rows[:slots].reshape(2, -1).max(axis=0), starts)
            rarest[filled] = np.maximum(rarest[filled], in_words)
        self._rarity.take(rarest, out=peaks)

    def _sum_one(self, text: str) -> tuple[NDArray[np.float32], list[int], float]:
        """Likewise of one text, to the same bits, in fewer steps."""
        laid_out, n_words, n_bytes = hash_one(text)
        rows = self._row_of_bucket.take(laid_out)
        gathered = self._table.take(rows, axis=0)
        slots, width = 2 * n_words, gathered.shape[1]
        by_end = gathered[slots : slots + n_bytes]
        for at in range(slots + n_bytes, len(gathered), n_bytes):
            by_end += gathered[at : at + n_bytes]
        if n_words:
            sums = np.add.reduceat(gathered[: slots + n_bytes], (0, n_words, slots), axis=0)[None]
        else:
            sums = np.zeros((1, N_BLOCKS, width), dtype=np.float32)
            sums[0, 2:] = np.add.reduceat(by_end, (0,), axis=0)
        counts = [n_words, max(n_words - 1, 0), count_windows(n_bytes)]
        return sums, counts, float(self._rarity[np.maximum.reduce(rows)])
