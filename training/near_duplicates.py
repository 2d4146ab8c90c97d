"""Finds texts that are nearly the same, by MinHash and exact comparison of what it finds.

References
----------
Broder, "On the resemblance and containment of documents", SEQUENCES 1997 (MinHash).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from cascade.ngrams import BUCKET_BITS, hash_grams

N_BANDS, BAND_ROWS = 16, 4
MIN_JACCARD = 0.85

_WINDOW = 32  # how many followers in its bucket a text is compared with: bounds the cost of huge buckets
_MIN_EQUAL = 44  # of 64 minima; a pair at the threshold has fewer with a chance below 0.1 %
_PAIRS_AT_ONCE = 1 << 13


def near_duplicates(texts: Sequence[str], seed: int = 0) -> NDArray[np.int64]:
    """Find texts whose sets of hashed n-grams are nearly equal.

    Texts that share a band of MinHash values are compared, and linked where the Jaccard index of their
    n-gram sets is at least `MIN_JACCARD`; links are transitive. In a bucket, each text is compared with its
    32 neighbours only, so a pair in a large bucket may be missed.

    Returns
    -------
    int64 array of shape (n_texts,)
        Number of the set that each text belongs to, in the order of first members.
    """
    n = len(texts)
    found = np.arange(n, dtype=np.int64)
    if n < 2:
        return found
    minima, grams = _sketch(texts, seed)
    bands = minima.reshape(n, N_BANDS, BAND_ROWS)
    keys = np.stack([np.unique(bands[:, b], axis=0, return_inverse=True)[1].ravel() for b in range(N_BANDS)])
    # ties are ordered by the next band, so that the most alike stand together in a large bucket
    orders = [np.lexsort((keys[(b + 1) % N_BANDS], keys[b])) for b in range(N_BANDS)]
    links = np.empty((0, 2), dtype=np.int64)
    for step in range(1, min(_WINDOW, n - 1) + 1):
        pairs = []
        for key, order in zip(keys, orders, strict=True):
            a, b = order[:-step], order[step:]
            same = key[a] == key[b]
            pairs.append(np.stack((a[same], b[same]), axis=1))
        met = np.concatenate(pairs)
        if not len(met):
            break  # no bucket has members this far apart
        met = np.sort(met[found[met[:, 0]] != found[met[:, 1]]], axis=1)
        met = np.unique(met, axis=0)
        new = [_alike(part, minima, grams) for part in _parts(met)]
        links = np.concatenate((links, *new))
        found = components(n, links)
    return found


def _parts(pairs: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [pairs[i : i + _PAIRS_AT_ONCE] for i in range(0, len(pairs), _PAIRS_AT_ONCE)]


def _alike(pairs: NDArray[np.int64], minima: NDArray[np.uint32], grams: Any) -> NDArray[np.int64]:
    """Keep the pairs whose Jaccard index is high enough; the minima spare most of the exact checks."""
    a, b = pairs[:, 0], pairs[:, 1]
    pairs = pairs[(minima[a] == minima[b]).sum(axis=1) >= _MIN_EQUAL]
    if not len(pairs):
        return pairs
    left, right = grams[pairs[:, 0]], grams[pairs[:, 1]]
    shared = np.asarray(left.multiply(right).sum(axis=1)).ravel()
    union = np.diff(left.indptr) + np.diff(right.indptr) - shared
    close: NDArray[np.int64] = pairs[shared >= MIN_JACCARD * union]
    return close


def _sketch(texts: Sequence[str], seed: int) -> tuple[NDArray[np.uint32], Any]:
    """Give each text's MinHash values, shape (n_texts, 64), and its buckets, as sparse rows of ones."""
    rng = np.random.default_rng(seed)
    n_hashes = N_BANDS * BAND_ROWS
    # a random 32-bit name per bucket first: the linear functions alone keep neighbours together
    names = rng.integers(0, 2**32, size=1 << BUCKET_BITS, dtype=np.uint32)
    factors = rng.integers(0, 2**31, size=n_hashes, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    shifts = rng.integers(0, 2**32, size=n_hashes, dtype=np.uint32)
    minima, columns, sizes = [], [], []
    for chunk in hash_grams(texts):
        cells = np.unique((chunk.rows << BUCKET_BITS) | chunk.buckets)
        size = np.bincount(cells >> BUCKET_BITS, minlength=chunk.n_texts)
        starts = np.cumsum(size) - size  # no text is without n-grams: its outer spaces give one
        column = cells & ((1 << BUCKET_BITS) - 1)
        named = names[column]
        low = np.empty((chunk.n_texts, n_hashes), dtype=np.uint32)
        for h in range(n_hashes):
            low[:, h] = np.minimum.reduceat(named * factors[h] + shifts[h], starts)
        minima.append(low)
        columns.append(column.astype(np.int32))
        sizes.append(size)
    ends = np.concatenate(([0], np.cumsum(np.concatenate(sizes))))
    flat = np.concatenate(columns)
    ones = np.ones(len(flat), dtype=np.int32)
    return np.concatenate(minima), csr_matrix((ones, flat, ends), shape=(len(texts), 1 << BUCKET_BITS))


def components(n: int, links: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number the connected components in the order of their first members."""
    if n == 0:
        return np.empty(0, dtype=np.int64)
    graph = csr_matrix((np.ones(len(links), dtype=np.int8), (links[:, 0], links[:, 1])), shape=(n, n))
    found = connected_components(graph, directed=False)[1]
    _, first, which = np.unique(found, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[which].astype(np.int64)
