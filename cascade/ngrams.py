"""Hashed n-grams of texts: words, pairs of words, and byte 2- to 5-grams.

A text is normalised, and all its n-grams are hashed with one polynomial hash over prefix sums, vectorised
over the whole batch, so that a short text costs tens of microseconds and a batch much less each. All steps
are integer arithmetic, so a text's n-grams are the same alone and in any batch.

References
----------
Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", ICML 2009.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascade.text import normalise

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
