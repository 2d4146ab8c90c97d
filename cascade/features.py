"""What the models see of a text: one code path for training and serving.

A text's n-grams (`cascade.ngrams`) are weighed by a vocabulary that was learned once, and cheap facts about
it are added (`cascade.surface`). Its features are the same alone and in any batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cascade.errors import BundleError
from cascade.ngrams import BUCKET_BITS, CHAR_SIZES, MAX_BYTES, Grams, hash_grams
from cascade.surface import SURFACE_NAMES, surfaces

FEATURE_VERSION = 1
"""Raised whenever the same text would give other features."""


@dataclass(slots=True)
class TextFeatures:
    """Features of a batch of texts.

    Attributes
    ----------
    columns : int64 array of shape (n_known,)
        Vocabulary column of each known n-gram, in text order.
    values : float32 array of shape (n_known,)
        Its TF-IDF weight; each text's words and byte n-grams have norm 1 apart.
    rows : int64 array of shape (n_known,)
        The text it belongs to.
    surface : float32 array of shape (n_texts, len(SURFACE_NAMES))
        Cheap facts about each text: length, digits, share of n-grams never seen in training.
    """

    columns: NDArray[np.int64]
    values: NDArray[np.float32]
    rows: NDArray[np.int64]
    surface: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.surface)


class Featurizer:
    """Turns texts into features with a vocabulary that was learned once.

    Parameters
    ----------
    buckets : int32 array of shape (n_columns,)
        The hash bucket of each vocabulary column, distinct.
    idf : float32 array of shape (n_columns,)
        The inverse document frequency of each column.
    """

    def __init__(self, buckets: NDArray[np.int32], idf: NDArray[np.float32]) -> None:
        self.buckets = buckets.astype(np.int32)
        self.idf = idf.astype(np.float32)

    @cached_property
    def _column(self) -> NDArray[np.int32]:
        return self.columns_of_buckets(unknown=-1)

    def columns_of_buckets(self, unknown: int) -> NDArray[np.int32]:
        """Give the vocabulary column of each of the 2**20 buckets, `unknown` where it has none."""
        columns = np.full(1 << BUCKET_BITS, unknown, dtype=np.int32)
        columns[self.buckets] = np.arange(len(self.buckets), dtype=np.int32)
        return columns

    @property
    def n_columns(self) -> int:
        """Size of the vocabulary."""
        return len(self.buckets)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the code's version and the vocabulary; a bundle records it."""
        digest = hashlib.sha256(f"{FEATURE_VERSION}:{BUCKET_BITS}:{MAX_BYTES}:{CHAR_SIZES}".encode())
        digest.update(self.buckets.tobytes())
        digest.update(self.idf.tobytes())
        for probe in hash_grams(["Probe: ünïcode, 42 times?", ""]):
            digest.update(probe.buckets.tobytes())
        return digest.hexdigest()

    @classmethod
    def fit(cls, texts: Sequence[str], max_columns: int = 1 << 16, min_texts: int = 2) -> Featurizer:
        """Learn a vocabulary: the n-grams found in at least `min_texts` texts, the commonest first."""
        counts = np.zeros(1 << BUCKET_BITS, dtype=np.int64)
        for grams in hash_grams(texts):
            pairs = np.unique((grams.rows << BUCKET_BITS) | grams.buckets)
            counts += np.bincount(pairs & ((1 << BUCKET_BITS) - 1), minlength=1 << BUCKET_BITS)
        frequent = np.flatnonzero(counts >= min_texts)
        if len(frequent) > max_columns:
            order = np.lexsort((frequent, -counts[frequent]))
            frequent = np.sort(frequent[order[:max_columns]])
        idf = np.log((1 + len(texts)) / (1 + counts[frequent])) + 1
        return cls(frequent.astype(np.int32), idf.astype(np.float32))

    def __call__(self, texts: Sequence[str]) -> TextFeatures:
        """Give the features of a batch of texts."""
        parts: list[TextFeatures] = []
        first = 0
        for grams in hash_grams(texts):
            parts.append(self._weigh(grams, texts[first : first + grams.n_texts], first))
            first += grams.n_texts
        if len(parts) == 1:
            return parts[0]
        if not parts:
            empty = np.empty(0, dtype=np.int64)
            return TextFeatures(
                empty, empty.astype(np.float32), empty, np.empty((0, len(SURFACE_NAMES)), dtype=np.float32)
            )
        return TextFeatures(
            np.concatenate([part.columns for part in parts]),
            np.concatenate([part.values for part in parts]),
            np.concatenate([part.rows for part in parts]),
            np.concatenate([part.surface for part in parts]),
        )

    def _weigh(self, grams: Grams, texts: Sequence[str], first: int) -> TextFeatures:
        n = grams.n_texts
        column = self._column.take(grams.buckets)
        known = (column >= 0).nonzero()[0]
        columns = column.take(known)
        weight = self.idf.take(columns)
        if n == 1:  # the same numbers as below, with fewer steps
            n_words, total_words = int(known.searchsorted(grams.n_words)), grams.n_words
            total = np.array([total_words, len(column) - total_words])
            seen = np.array([n_words, len(known) - n_words])
            block = np.zeros(len(known), dtype=np.int64)
            block[n_words:] = 1
            rows = np.zeros(len(known), dtype=np.int64)
        else:
            every = grams.rows * 2
            every[grams.n_words :] += 1
            block = every.take(known)
            rows = block >> 1
            total = np.bincount(every, minlength=2 * n)
            seen = np.bincount(block, minlength=2 * n)
        squares = np.bincount(block, weight * weight, 2 * n)
        scale = (1.0 / np.sqrt(np.maximum(squares, 1e-12))).astype(np.float32)
        values = weight * scale.take(block)
        if n > 1:  # each text's n-grams together, as its matrix has them
            order = np.argsort(rows, kind="stable")
            columns, values, rows = columns.take(order), values.take(order), rows.take(order)
        if first:
            rows += first
        facts = surfaces(texts, total[0::2], total[1::2], seen[0::2], seen[1::2]).astype(np.float32)
        return TextFeatures(columns.astype(np.int64), values, rows, facts)

    def save(self, path: Path) -> None:
        """Write the vocabulary as one `.npy` file: bucket and idf of each column."""
        table = np.empty(len(self.buckets), dtype=[("bucket", "<i4"), ("idf", "<f4")])
        table["bucket"], table["idf"] = self.buckets, self.idf
        np.save(path, table, allow_pickle=False)

    @classmethod
    def load(cls, path: Path) -> Featurizer:
        """Read what `save` wrote.

        Raises
        ------
        BundleError
            The file is missing or holds anything else.
        """
        try:
            table = np.load(path, allow_pickle=False)
            return cls(table["bucket"], table["idf"])
        except Exception as error:  # numpy raises many kinds
            raise BundleError(path.name, f"it holds no vocabulary: {error}") from error
