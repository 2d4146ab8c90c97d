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
from functools import lru_cache

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
_IS_WORD = bytes(
    chr(b).isalnum() or b >= 128 or chr(b) in "'_" for b in range(256)
)  # a multi-byte character is always part of a word


def _encode(text: str) -> bytes:
    raw = f" {normalise(text)} ".encode("utf-8", "replace")
    if len(raw) > MAX_BYTES + 2:  # both ends: what is asked tends to stand last
        raw = raw[: 1 + MAX_BYTES // 2] + b" " + raw[-MAX_BYTES // 2 - 1 :]
    return raw


NO_GRAM = 1 << BUCKET_BITS
"""Stands where there is no n-gram: one more than the largest bucket."""


@dataclass(slots=True)
class Grams:
    """Hashed n-grams of some texts that were hashed together.

    They lie so that what is said of them can be added up in whole arrays: see `laid_out`.

    Attributes
    ----------
    laid_out : int64 array of shape (2 * of_words.sum() + len(CHAR_SIZES) * lengths.sum(),)
        Bucket of each n-gram, in [0, 2**20), in rows: all words; of each word, its pair with the next one;
        for each of `CHAR_SIZES`, of each byte, the n-gram that ends there. Within each row text after text,
        and `NO_GRAM` where a pair or a byte n-gram would reach into another text.
    of_words : int64 array of shape (n_texts,)
        How many words each text has.
    lengths : int64 array of shape (n_texts,)
        How many bytes each text has, normalised.
    """

    laid_out: NDArray[np.int64]
    of_words: NDArray[np.int64]
    lengths: NDArray[np.int64]

    @property
    def n_texts(self) -> int:
        """How many texts there are."""
        return len(self.lengths)

    @property
    def n_word_slots(self) -> int:
        """How many of `laid_out` are of words and their pairs."""
        return 2 * int(self.of_words.sum())

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many n-grams of each block each text has, shape (n_texts, N_BLOCKS)."""
        return count_grams(self.of_words, self.lengths)

    @property
    def n_words(self) -> int:
        """How many of `buckets` are of words: the words and their pairs."""
        return int(self.counts[:, :2].sum())

    @property
    def buckets(self) -> NDArray[np.int64]:
        """Bucket of each n-gram, shape (n_grams,): words, then pairs, then bytes, each text after text."""
        of_words = self.laid_out[: self.n_word_slots]
        by_end = self.laid_out[self.n_word_slots :].reshape(len(CHAR_SIZES), -1).T.ravel()
        every = np.concatenate((of_words, by_end))
        return every[every < NO_GRAM]

    @property
    def rows(self) -> NDArray[np.int64]:
        """Which of these texts each of `buckets` belongs to, shape (n_grams,)."""
        texts = np.arange(self.n_texts, dtype=np.int64)
        return np.repeat(np.tile(texts, N_BLOCKS), self.counts.T.ravel())


def count_grams(of_words: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give how many n-grams of each block texts of so many words and bytes have, (n_texts, N_BLOCKS)."""
    counts = np.empty((len(lengths), N_BLOCKS), dtype=np.int64)
    counts[:, 0] = of_words
    counts[:, 1] = np.maximum(of_words - 1, 0)
    counts[:, 2] = _N_WINDOWS_OF.take(lengths)
    return counts


def count_windows(n_bytes: int) -> int:
    """Give how many byte n-grams a text of so many bytes has."""
    return int(_N_WINDOWS_OF[n_bytes])


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


def hash_one(text: str) -> tuple[NDArray[np.int64], int, int]:
    """Give `laid_out` of one text's n-grams, and how many words and bytes it has, in fewer steps."""
    raw = _encode(text)
    n = len(raw)
    powers, rescale, before = _frame(n)
    laid_out, begins = _hash(raw, powers, rescale)
    n_words = len(begins)
    if n_words:
        laid_out[2 * n_words - 1] = NO_GRAM
    laid_out[2 * n_words :][before] = NO_GRAM
    return laid_out, n_words, n


_LONGEST = max(CHAR_SIZES)
_N_WINDOWS_OF = np.array([sum(max(n - size + 1, 0) for size in CHAR_SIZES) for n in range(MAX_BYTES + 4)])
"""How many byte n-grams so many bytes have; a text has a space more at either end, and one in its cut."""
_FACTORS = np.array([[_WORD_FACTOR], [_PAIR_FACTOR]])
_WORD_SALTS = np.array([[_WORD_SALT], [_PAIR_SALT]])
_SIZES = np.array(CHAR_SIZES)[:, None]
_SALTS = _SIZES.astype(np.uint64)
_RESCALE = np.concatenate([np.zeros(_LONGEST - 1, dtype=np.uint64), _INVERSES])
_RESCALE_NEXT = _INVERSES[1:]
_BEFORE_SIZE, _BEFORE_END = np.array(
    [(j, at) for j, size in enumerate(CHAR_SIZES) for at in range(size - 1)]
).T.copy()
"""Size, and end counted from a text's first byte, of the windows that begin before it."""


def _by_end(of_start: NDArray[np.uint64], n: int) -> NDArray[np.uint64]:
    """Give, for the windows of each size that end at each of n bytes, what an array says of their start.

    Parameters
    ----------
    of_start : uint64 array of shape (at least n + _LONGEST - 1,)
        Begins at the start of the longest window that ends at the first byte.

    Returns
    -------
    uint64 array of shape (len(CHAR_SIZES), n)
        A view. Each size is one longer than the one before it, so its windows begin one byte earlier.
    """
    step = of_start.itemsize
    offset = (_LONGEST - CHAR_SIZES[0]) * step
    return np.ndarray((len(CHAR_SIZES), n), np.uint64, of_start, offset, (-step, step))


def _before(starts: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Give the places of windows that begin before their text, of texts that begin so within n bytes."""
    # Of a text that is shorter than the longest window, this marks some of the next one's too, which begin
    # before that one all the more.
    places: NDArray[np.int64] = np.minimum(starts[:, None] + _BEFORE_END, n - 1) + _BEFORE_SIZE * n
    return places


@lru_cache(maxsize=512)
def _frame(n: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.int64]]:
    """Give what is the same for all single texts of n bytes: powers, their inverses, and `_before`."""
    return _POWERS[:n], _by_end(_RESCALE, n).copy(), _before(np.zeros(1, dtype=np.int64), n)[0]


def _hash(
    raw: bytes, powers: NDArray[np.uint64], rescale: NDArray[np.uint64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Hash all n-grams, as if it were one text; give them laid out, and one less than where words begin."""
    n = len(raw)
    every, begins, padded = _hash_words(raw, powers, len(CHAR_SIZES) * n)
    windows = every[2 * len(begins) :].reshape(len(CHAR_SIZES), n)
    np.subtract(padded[_LONGEST:], _by_end(padded, n), out=windows)
    windows *= rescale
    windows += _SALTS
    return _mix(every), begins


def _hash_words(
    raw: bytes, powers: NDArray[np.uint64], n_more: int
) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.uint64]]:
    """Hash words and their pairs, not mixed yet.

    Returns
    -------
    every : uint64 array of shape (2 * n_words + n_more,)
        What is behind the pairs is not set.
    begins : int64 array of shape (n_words,)
        One less than where words begin.
    padded : uint64 array of shape (len(raw) + _LONGEST,)
        Zeros, then the prefix sum that ends with each byte.
    """
    # Of short texts the calls of numpy cost more than their arithmetic: `take` is the cheapest of lookups.
    padded = np.zeros(len(raw) + _LONGEST, dtype=np.uint64)
    until = padded[_LONGEST:]
    np.add.accumulate(
        np.frombuffer(raw, np.uint8) * powers, 0, None, until
    )  # the method takes a microsecond more
    word = np.frombuffer(raw.translate(_IS_WORD), dtype=bool)
    edge = (word[1:] != word[:-1]).nonzero()[0]  # texts begin and end with a space, so edges pair up
    at_edge, begins = until.take(edge), edge[0::2]
    n_words = len(begins)
    every = np.empty(2 * n_words + n_more, dtype=np.uint64)
    words = at_edge[1::2] - at_edge[0::2]
    words *= _RESCALE_NEXT.take(begins)
    of_words = every[: 2 * n_words].reshape(2, n_words)
    np.multiply(words, _FACTORS, out=of_words)
    of_words += _WORD_SALTS
    of_words[1, :-1] += words[1:]
    return every, begins, padded


def _mix(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Make hashes the buckets that they fall into, in place."""
    hashes ^= hashes >> _FOLD
    hashes *= _MIX
    hashes >>= _DOWN
    return hashes.view(np.int64)


def hash_words(raw: bytes) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint64]]:
    """Hash the words of at most 65,536 bytes, as if they were one text that spaces begin and end.

    Returns
    -------
    buckets : int64 array of shape (2, n_words)
        Of words, and of each word's pair with the next one.
    begins : int64 array of shape (n_words,)
        One less than where words begin.
    prefixes : uint64 array
        For `hash_ending`.
    """
    every, begins, prefixes = _hash_words(raw, _POWERS[: len(raw)], 0)
    return _mix(every).reshape(2, -1), begins, prefixes


def hash_ending(prefixes: NDArray[np.uint64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give the buckets of the byte n-grams that end at these bytes, shape (len(CHAR_SIZES), len(ends))."""
    until = ends + _LONGEST
    starts = until - _SIZES
    return _mix((prefixes.take(until) - prefixes.take(starts)) * _RESCALE.take(starts) + _SALTS)


def hash_extended(strings: NDArray[np.uint8], last: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Give the buckets of n strings with each of m bytes behind them, as byte n-grams, shape (n, m).

    Parameters
    ----------
    strings : uint8 array of shape (n, size - 1)
    last : uint8 array of shape (m,)
    """
    n_before = strings.shape[1]
    hashes = (strings * _POWERS[:n_before]).sum(axis=1, dtype=np.uint64) + np.uint64(n_before + 1)
    return _mix(hashes[:, None] + last * _POWERS[n_before])


def _hash_chunk(encoded: Sequence[bytes]) -> Grams:
    raw = b"".join(encoded)
    n = len(raw)
    laid_out, begins = _hash(raw, _POWERS[:n], _by_end(_RESCALE, n))
    n_words = len(begins)
    lengths = np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded))
    ends = lengths.cumsum()
    words_until = begins.searchsorted(ends - 1)
    of_words = words_until.copy()
    of_words[1:] -= words_until[:-1]
    if n_words:  # a text without words marks the last pair of another one once more
        laid_out[n_words : 2 * n_words][words_until - 1] = NO_GRAM
    laid_out[2 * n_words :][_before(ends - lengths, n)] = NO_GRAM
    return Grams(laid_out, of_words, lengths)
