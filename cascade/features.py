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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import log1p
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FEATURE_VERSION = 1
"""Raised whenever the same text would give other features."""

BUCKET_BITS = 20
MAX_BYTES = 4096
CHAR_SIZES = (2, 3, 4, 5)
BASE = 0x9E3779B97F4A7C15
_BASE_INVERSE = pow(BASE, -1, 2**64)
_WORD_SALT, _PAIR_SALT = np.uint64(101), np.uint64(102)
_WORD_FACTOR, _PAIR_FACTOR = np.uint64(3), np.uint64(0xD6E8FEB86659FD93)
_MIX = np.uint64(0x9FB21C651E98DF25)
_FOLD, _DOWN = np.uint64(32), np.uint64(64 - BUCKET_BITS)

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
    """Hashed n-grams of some texts that were hashed together.

    Attributes
    ----------
    buckets : int64 array of shape (n_grams,)
        Bucket of each n-gram, in [0, 2**20): first all word n-grams, then all byte n-grams.
    n_words : int
        How many of them are word n-grams.
    rows : int64 array of shape (n_grams,)
        Which of these texts each belongs to; ascending within the words and within the bytes.
    n_texts : int
        How many texts there are.
    """

    buckets: NDArray[np.int64]
    n_words: int
    rows: NDArray[np.int64]
    n_texts: int


def hash_grams(texts: Sequence[str], group_bytes: int = _CHUNK) -> Iterator[Grams]:
    """Hash the n-grams of texts, in groups of about so many bytes (at most 65,536), in order."""
    encoded = [_encode(text) for text in texts]
    start = 0
    while start < len(encoded):
        end, size = start, 0
        while end < len(encoded) and (end == start or size + len(encoded[end]) <= group_bytes):
            size += len(encoded[end])
            end += 1
        yield _hash_chunk(encoded[start:end])
        start = end


def _windows(n: int) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.uint64], NDArray[np.uint64]]:
    """Give start, end, rescaling factor and salt of every byte n-gram window of n bytes.

    Windows are ordered by their end, so those of a shorter text are a prefix of those of a longer one, and
    those of one text of a joined batch stay together.
    """
    ends = np.repeat(np.arange(1, n + 1, dtype=np.int32), len(CHAR_SIZES))
    sizes = np.tile(np.array(CHAR_SIZES, dtype=np.int32), n)
    starts = ends - sizes
    keep = starts >= 0
    starts, ends, sizes = starts[keep], ends[keep], sizes[keep]
    return starts, ends, _INVERSES[starts], sizes.astype(np.uint64)


_NO_ROWS = np.zeros(len(CHAR_SIZES) * (MAX_BYTES + 8) + 2 * MAX_BYTES, dtype=np.int64)
"""All n-grams of a single text belong to text 0."""
_NO_ROWS.flags.writeable = False
_SHORT = 512
_SHORT_WINDOWS = _windows(_SHORT)
_SHORT_COUNTS = [
    sum(min(len(CHAR_SIZES), max(end - CHAR_SIZES[0] + 1, 0)) for end in range(n + 1))
    for n in range(_SHORT + 1)
]


def _hash_chunk(encoded: Sequence[bytes]) -> Grams:
    # Of short texts the calls of numpy cost more than their arithmetic: `take` is the cheapest of lookups.
    single = len(encoded) == 1
    data = np.frombuffer(encoded[0] if single else b"".join(encoded), dtype=np.uint8)
    n = len(data)
    prefix = np.empty(n + 1, dtype=np.uint64)
    prefix[0] = 0
    (data * _POWERS[:n]).cumsum(out=prefix[1:])
    if single and n <= _SHORT:
        starts, ends, rescale, salt = (part[: _SHORT_COUNTS[n]] for part in _SHORT_WINDOWS)
        chars = prefix.take(ends)
        chars -= prefix.take(starts)
        chars *= rescale
        chars += salt
    else:  # the same windows in the same order, each size as one shifted subtraction instead of gathers
        lengths = np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded))
        row_of = np.repeat(np.arange(len(encoded), dtype=np.int64), lengths)
        every_window = np.empty((n, len(CHAR_SIZES)), dtype=np.uint64)
        inside = np.zeros((n, len(CHAR_SIZES)), dtype=bool)
        for j, size in enumerate(CHAR_SIZES):
            part = prefix[size:] - prefix[:-size]
            part *= _INVERSES[: n + 1 - size]
            part += np.uint64(size)
            every_window[size - 1 :, j] = part
            # a window must not reach into the next text
            np.equal(row_of[size - 1 :], row_of[: n + 1 - size], out=inside[size - 1 :, j])
        chars = every_window[inside]
        char_rows = np.repeat(row_of, inside.sum(axis=1))
    word = _IS_WORD.take(data)
    edge = (word[1:] != word[:-1]).nonzero()[0]  # texts begin and end with a space, so edges pair up
    edge += 1
    at_edge = prefix.take(edge)
    words = at_edge[1::2] - at_edge[0::2]
    words *= _INVERSES.take(edge[0::2])
    pairs = words[:-1] * _PAIR_FACTOR
    pairs += words[1:]
    pairs += _PAIR_SALT
    words *= _WORD_FACTOR
    words += _WORD_SALT
    if not single:
        word_rows = row_of[edge[0::2]]
        together = word_rows[:-1] == word_rows[1:]
        pairs = pairs[together]
        rows = np.concatenate((word_rows, word_rows[1:][together], char_rows))
    every = np.concatenate((words, pairs, chars))
    every ^= every >> _FOLD
    every *= _MIX
    every >>= _DOWN
    if single:
        rows = _NO_ROWS[: len(every)]
    return Grams(every.view(np.int64), len(words) + len(pairs), rows, len(encoded))


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
        """Read what `save` wrote."""
        table = np.load(path, allow_pickle=False)
        return cls(table["bucket"], table["idf"])


def surface(text: str, n_words: int, n_bytes: int, seen_words: float, seen_bytes: float) -> list[float]:
    """Give a text's surface features.

    Parameters
    ----------
    text : str
    n_words, n_bytes : int
        How many word and byte n-grams it has.
    seen_words, seen_bytes : float
        How many of them are in the vocabulary.

    Returns
    -------
    list of float
        In the order of `SURFACE_NAMES`.
    """
    n, words = max(len(text), 1), max(n_words, 1) // 2 + 1
    return [
        log1p(n), log1p(words), sum(map(text.count, "0123456789")) / n,
        0.0 if text.isascii() else 1.0 - len(text.encode("ascii", "ignore")) / n,
        text.count("?"), log1p(text.count("\n")),
        1.0 - seen_words / max(n_words, 1), 1.0 - seen_bytes / max(n_bytes, 1), n / words,
    ]  # fmt: skip


def surfaces(
    texts: Sequence[str],
    n_words: NDArray[np.int64],
    n_bytes: NDArray[np.int64],
    seen_words: NDArray[np.floating[Any]],
    seen_bytes: NDArray[np.floating[Any]],
) -> NDArray[np.float64]:
    """Give what `surface` gives, to the last bit, of n texts; its parameters are arrays of shape (n,) here.

    Returns
    -------
    float64 array of shape (n, len(SURFACE_NAMES))
    """
    raw = [text.encode("utf-8", "surrogatepass") for text in texts]
    data = np.frombuffer(b"".join(raw), dtype=np.uint8)
    ends = np.cumsum(list(map(len, raw)))

    def count(which: NDArray[np.bool_]) -> NDArray[np.int64]:
        so_far = np.zeros(len(data) + 1, dtype=np.int64)
        np.cumsum(which, out=so_far[1:])
        at_end = so_far.take(ends)
        at_end[1:] -= at_end[:-1].copy()
        return at_end

    n_chars = np.array(list(map(len, texts)))
    n, words = np.maximum(n_chars, 1), np.maximum(n_words, 1) // 2 + 1
    n_ascii = n_chars if ends[-1] == n_chars.sum() else count(data < 128)
    out = np.empty((len(texts), len(SURFACE_NAMES)))
    out[:, 0], out[:, 1] = _log1p(n), _log1p(words)
    out[:, 2] = count((data >= ord("0")) & (data <= ord("9"))) / n
    out[:, 3] = np.where(n_ascii == n_chars, 0.0, 1.0 - n_ascii / n)
    out[:, 4], out[:, 5] = count(data == ord("?")), _log1p(count(data == ord("\n")))
    out[:, 6] = 1.0 - seen_words / np.maximum(n_words, 1)
    out[:, 7] = 1.0 - seen_bytes / np.maximum(n_bytes, 1)
    out[:, 8] = n / words
    return out


_LOG1P = np.array([log1p(n) for n in range(2 * MAX_BYTES)])


def _log1p(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    # Not numpy's, which may differ from Python's in the last bit.
    if counts.max() < len(_LOG1P):
        return _LOG1P.take(counts)
    return np.array([log1p(n) for n in counts.tolist()])
