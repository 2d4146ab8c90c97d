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
N_BLOCKS = 3
"""Words, pairs of words, and byte n-grams."""
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
    raw = f" {normalise(text)} ".encode("utf-8", "replace")
    if len(raw) > MAX_BYTES + 2:  # both ends: what is asked tends to stand last
        raw = raw[: 1 + MAX_BYTES // 2] + b" " + raw[-MAX_BYTES // 2 - 1 :]
    return raw


@dataclass(slots=True)
class Grams:
    """Hashed n-grams of some texts that were hashed together.

    Attributes
    ----------
    buckets : int64 array of shape (n_grams,)
        Bucket of each n-gram, in [0, 2**20): first all words, then all pairs of words, then all byte n-grams;
        within each of these blocks text after text.
    counts : int64 array of shape (n_texts, N_BLOCKS)
        How many n-grams of each block each text has.
    """

    buckets: NDArray[np.int64]
    counts: NDArray[np.int64]

    @property
    def n_texts(self) -> int:
        """How many texts there are."""
        return len(self.counts)

    @property
    def n_words(self) -> int:
        """How many n-grams are of words: the words and their pairs."""
        return int(self.counts[:, :2].sum())

    @property
    def rows(self) -> NDArray[np.int64]:
        """Which of these texts each n-gram belongs to, shape (n_grams,)."""
        texts = np.arange(self.n_texts, dtype=np.int64)
        return np.repeat(np.tile(texts, N_BLOCKS), self.counts.T.ravel())


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


_SHORT = 512
_SHORT_WINDOWS = _windows(_SHORT)
_N_WINDOWS = [sum(max(n - size + 1, 0) for size in CHAR_SIZES) for n in range(MAX_BYTES + 4)]
"""How many byte n-grams so many bytes have; a text has a space more at either end, and one in its cut."""
_N_WINDOWS_OF = np.array(_N_WINDOWS)
_SALTS = [np.uint64(size) for size in CHAR_SIZES]
_BEFORE = np.array(
    [
        at * len(CHAR_SIZES) + j
        for at in range(CHAR_SIZES[-1] - 1)
        for j, size in enumerate(CHAR_SIZES)
        if size > at + 1
    ]
)
"""Which of a text's first windows, counted from its first byte's, begin before it."""


def _hash_chunk(encoded: Sequence[bytes]) -> Grams:
    # Of short texts the calls of numpy cost more than their arithmetic: `take` is the cheapest of lookups.
    single = len(encoded) == 1
    data = np.frombuffer(encoded[0] if single else b"".join(encoded), dtype=np.uint8)
    n = len(data)
    prefix = np.empty(n + 1, dtype=np.uint64)
    prefix[0] = 0
    (data * _POWERS[:n]).cumsum(out=prefix[1:])
    if single and n <= _SHORT:
        starts, ends, rescale, salt = (part[: _N_WINDOWS[n]] for part in _SHORT_WINDOWS)
        chars = prefix.take(ends)
        chars -= prefix.take(starts)
        chars *= rescale
        chars += salt
    else:  # the same windows in the same order, each size as one shifted subtraction instead of gathers
        lengths = np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded))
        every_window = np.empty((n, len(CHAR_SIZES)), dtype=np.uint64)
        for j, size in enumerate(CHAR_SIZES):
            part = prefix[size:] - prefix[:-size]
            part *= _INVERSES[: n + 1 - size]
            np.add(part, _SALTS[j], out=every_window[size - 1 :, j])
        # A window must not reach into the text before. Of a text that is shorter than the longest window,
        # this marks some of the next one's too, which begin before that one all the more.
        inside = np.ones((n + CHAR_SIZES[-1]) * len(CHAR_SIZES), dtype=bool)
        first = (lengths.cumsum() - lengths) * len(CHAR_SIZES)
        inside[(first[:, None] + _BEFORE).ravel()] = False
        chars = every_window.ravel()[inside[: every_window.size]]
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
    counts = np.empty((len(encoded), N_BLOCKS), dtype=np.int64)
    if single:
        counts[0] = len(words), len(pairs), len(chars)
    else:
        row_of = np.repeat(np.arange(len(encoded), dtype=np.int64), lengths).take(edge[0::2])
        pairs = pairs[row_of[:-1] == row_of[1:]]
        of_words = np.bincount(row_of, minlength=len(encoded))
        counts[:, 0] = of_words
        counts[:, 1] = np.maximum(of_words - 1, 0)
        counts[:, 2] = _N_WINDOWS_OF.take(lengths)
    every = np.concatenate((words, pairs, chars))
    every ^= every >> _FOLD
    every *= _MIX
    every >>= _DOWN
    return Grams(every.view(np.int64), counts)
