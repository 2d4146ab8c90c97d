"""What the models see of a text: one code path for training and serving.

A text is normalised, and its word 1- and 2-grams and byte 2- to 5-grams are hashed with one polynomial
hash over prefix sums, vectorised over the whole batch, so that a short text costs tens of microseconds
and a batch much less each. All steps are integer arithmetic or per-text float64, so a text's features are
the same alone and in any batch.

References
----------
Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", ICML 2009.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FEATURE_VERSION = 1
"""Raised whenever the same text would give other features."""

BUCKET_BITS = 20
MAX_BYTES = 4096
CHAR_SIZES = (2, 3, 4, 5)
BASE = 0x9E3779B97F4A7C15
_BASE_INVERSE = pow(BASE, -1, 2**64)
_WORD_SALT, _PAIR_SALT = 101, 102
WORD_BLOCK, CHAR_BLOCK = 0, 1

_CHUNK = 1 << 16


def _powers(base: int, n: int) -> NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        steps = np.full(n, base, dtype=np.uint64)
        steps[0] = 1
        return np.cumprod(steps, dtype=np.uint64)


_POWERS = _powers(BASE, _CHUNK + 8)
_INVERSES = _powers(_BASE_INVERSE, _CHUNK + 8)
_IS_WORD = np.array(
    [chr(b).isalnum() or b >= 128 or chr(b) in "'_" for b in range(256)], dtype=bool
)  # a multi-byte character is always part of a word


def normalise(text: str) -> str:
    """Bring a text to the form that features are read from: NFKC, lower case, single spaces.

    Examples
    --------
    >>> normalise("  Hello    WORLD ")
    'hello world'
    """
    if text.isascii():
        return " ".join(text.lower().split())
    return " ".join(unicodedata.normalize("NFKC", text).lower().split())


def flatten_messages(messages: Iterable[tuple[str, str]]) -> str:
    """Join a chat into the one text that local rungs read: a line per message, `role: content`."""
    return "\n".join(f"{role}: {content}" for role, content in messages)


def _encode(text: str) -> bytes:
    raw = normalise(text).encode("utf-8", "replace")
    if len(raw) > MAX_BYTES:  # both ends: what is asked tends to stand last
        raw = raw[: MAX_BYTES // 2] + b" " + raw[-MAX_BYTES // 2 :]
    return b" " + raw + b" "


@dataclass(slots=True)
class Grams:
    """Hashed n-grams of a batch.

    Attributes
    ----------
    buckets : int64 array of shape (n_grams,)
        Bucket of each n-gram, in [0, 2**20).
    blocks : int8 array of shape (n_grams,)
        0 for word n-grams, 1 for byte n-grams.
    rows : int64 array of shape (n_grams,)
        Which text of the batch each belongs to.
    n_texts : int
        How many texts there were.
    sizes : int64 array of shape (n_texts, 3)
        Bytes, words and distinct byte values of each text.
    """

    buckets: NDArray[np.int64]
    blocks: NDArray[np.int8]
    rows: NDArray[np.int64]
    n_texts: int


def hash_grams(texts: Sequence[str]) -> Grams:
    """Hash the n-grams of a batch of texts."""
    parts: list[Grams] = []
    start = 0
    encoded = [_encode(text) for text in texts]
    while start < len(encoded):
        end, size = start, 0
        while end < len(encoded) and (end == start or size + len(encoded[end]) <= _CHUNK):
            size += len(encoded[end])
            end += 1
        parts.append(_hash_chunk(encoded[start:end], start))
        start = end
    if len(parts) == 1:
        part = parts[0]
        return Grams(part.buckets, part.blocks, part.rows, len(texts))
    if not parts:
        return Grams(np.empty(0, np.int64), np.empty(0, np.int8), np.empty(0, np.int64), 0)
    return Grams(
        np.concatenate([p.buckets for p in parts]),
        np.concatenate([p.blocks for p in parts]),
        np.concatenate([p.rows for p in parts]),
        len(texts),
    )


def _hash_chunk(encoded: Sequence[bytes], first_row: int) -> Grams:
    data = np.frombuffer(b"".join(encoded), dtype=np.uint8)
    n = len(data)
    prefix = np.zeros(n + 1, dtype=np.uint64)
    np.cumsum(data * _POWERS[:n], out=prefix[1:], dtype=np.uint64)
    lengths = np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded))
    row_of = np.repeat(np.arange(first_row, first_row + len(encoded), dtype=np.int64), lengths)
    single = len(encoded) == 1
    hashes, rows = [], []
    for size in CHAR_SIZES:
        if n < size:
            continue
        value = (prefix[size:] - prefix[:-size]) * _INVERSES[: n - size + 1] + np.uint64(size)
        row = row_of[: n - size + 1]
        if not single:  # a window must not reach into the next text
            inside = row == row_of[size - 1 :]
            value, row = value[inside], row[inside]
        hashes.append(value)
        rows.append(row)
    n_chars = sum(len(h) for h in hashes)
    word = _IS_WORD[data]
    edge = np.flatnonzero(word[1:] != word[:-1]) + 1  # texts begin and end with a space, so edges pair up
    starts, ends = edge[0::2], edge[1::2]
    if len(starts):
        value = (prefix[ends] - prefix[starts]) * _INVERSES[starts]
        row = row_of[starts]
        hashes.append(value * np.uint64(3) + np.uint64(_WORD_SALT))
        rows.append(row)
        if len(starts) > 1:
            pair = value[:-1] * np.uint64(0xD6E8FEB86659FD93) + value[1:] + np.uint64(_PAIR_SALT)
            if single:
                hashes.append(pair)
                rows.append(row[1:])
            else:
                together = row[:-1] == row[1:]
                hashes.append(pair[together])
                rows.append(row[1:][together])
    every = np.concatenate(hashes) if hashes else np.empty(0, np.uint64)
    every = every ^ (every >> np.uint64(32))
    buckets = ((every * np.uint64(0x9FB21C651E98DF25)) >> np.uint64(64 - BUCKET_BITS)).astype(np.int64)
    blocks = np.zeros(len(every), dtype=np.int8)
    blocks[:n_chars] = CHAR_BLOCK
    return Grams(buckets, blocks, np.concatenate(rows) if rows else np.empty(0, np.int64), len(encoded))


SURFACE_NAMES = (
    "log_bytes", "log_words", "share_digits", "share_non_ascii", "question_marks", "log_lines",
    "unknown_words", "unknown_bytes", "mean_word_bytes",
)  # fmt: skip
"""Names of the surface features, in their order."""


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

    def take(self, keep: Sequence[int]) -> TextFeatures:
        """Give the features of some of the texts, in the order asked."""
        bounds = np.searchsorted(self.rows, np.arange(len(self) + 1))
        pieces = [slice(bounds[i], bounds[i + 1]) for i in keep]
        counts = np.array([p.stop - p.start for p in pieces], dtype=np.int64)
        where = np.concatenate([np.arange(p.start, p.stop) for p in pieces] or [np.empty(0, np.int64)])
        return TextFeatures(
            self.columns[where],
            self.values[where],
            np.repeat(np.arange(len(keep), dtype=np.int64), counts),
            self.surface[list(keep)],
        )


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
        self._column = np.full(1 << BUCKET_BITS, -1, dtype=np.int32)
        self._column[self.buckets] = np.arange(len(self.buckets), dtype=np.int32)

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
        probe = hash_grams(["Probe: ünïcode, 42 times?", ""])
        digest.update(probe.buckets.tobytes())
        return digest.hexdigest()

    @classmethod
    def fit(cls, texts: Sequence[str], max_columns: int = 1 << 16, min_texts: int = 2) -> Featurizer:
        """Learn a vocabulary: the n-grams found in at least `min_texts` texts, the commonest first."""
        counts = np.zeros(1 << BUCKET_BITS, dtype=np.int64)
        for start in range(0, len(texts), 1024):
            grams = hash_grams(texts[start : start + 1024])
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
        grams = hash_grams(texts)
        column = self._column[grams.buckets]
        known = column >= 0
        n = grams.n_texts
        key = grams.rows * 2 + grams.blocks
        total = np.bincount(key, minlength=2 * n)
        columns, key = column[known].astype(np.int64), key[known]
        seen = np.bincount(key, minlength=2 * n)
        weight = self.idf[columns]
        squares = np.bincount(key, weights=weight.astype(np.float64) ** 2, minlength=2 * n)
        scale = 1.0 / np.sqrt(np.maximum(squares, 1e-12))
        values = (weight * scale[key]).astype(np.float32)
        rows = key >> 1
        if n > 1:  # ONNX and `take` want each text's n-grams together
            order = np.argsort(rows, kind="stable")
            columns, values, rows = columns[order], values[order], rows[order]
        unknown = 1.0 - seen / np.maximum(total, 1)
        return TextFeatures(columns, values, rows, _surface(texts, total, unknown))

    def save(self, path: Path) -> None:
        """Write the vocabulary as one `.npy` file: bucket and idf of each column."""
        table = np.empty(len(self.buckets), dtype=[("bucket", "<i4"), ("idf", "<f4")])
        table["bucket"], table["idf"] = self.buckets, self.idf
        np.save(path, table, allow_pickle=False)

    @classmethod
    def load(cls, path: Path) -> Featurizer:
        """Read what `save` wrote."""
        table = np.load(path, allow_pickle=False)
        return cls(table["bucket"], table["idf"])


def _surface(
    texts: Sequence[str], total: NDArray[np.int64], unknown: NDArray[np.float64]
) -> NDArray[np.float32]:
    out = np.zeros((len(texts), len(SURFACE_NAMES)), dtype=np.float32)
    for i, text in enumerate(texts):
        n = max(len(text), 1)
        words = int(total[2 * i]) // 2 + 1
        digits = sum(map(text.count, "0123456789")) if n < 20_000 else 0
        out[i] = (
            np.log1p(n), np.log1p(words), digits / n,
            0.0 if text.isascii() else 1.0 - len(text.encode("ascii", "ignore")) / n,
            text.count("?"), np.log1p(text.count("\n")),
            unknown[2 * i], unknown[2 * i + 1], n / words,
        )  # fmt: skip
    return out
