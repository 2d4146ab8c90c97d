"""Sums over the n-grams of texts: each adds its row of one table to its text's sums.

The table holds whole numbers. Their sums are exact, whatever is added to what first, so that a text has the
same bits alone and in any batch although these are computed in different ways: one text, and few, by a row
for each n-gram; many by one row for all that end at the same byte (`cascade.listed_strings`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import frexp, isfinite, ldexp
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.features import Featurizer
from cascade.joined_texts import STEP, Joined, join, joinable
from cascade.listed_strings import ListedStrings, list_strings
from cascade.ngrams import (
    CHAR_SIZES,
    MAX_BYTES,
    N_BLOCKS,
    NO_GRAM,
    Grams,
    count_grams,
    count_windows,
    hash_ending,
    hash_grams,
    hash_one,
    hash_words,
)

MANY = 24
"""From so many texts on, they are joined: of fewer, the calls of numpy cost more."""
_GROUP_BYTES = 24576
"""Joined texts are looked at in groups of about this size: of fewer, the calls of numpy cost more."""
_BITS = 25
"""Of a whole number in the table: 32 n-grams are added up in 32 bits, which are all that end within a step of
joined texts, and on from there in 64."""
_LISTED_BYTES = 1 << 22
"""About so many bytes of strings are listed at most: the commonest."""
_AT_ONCE = 8192
"""So many rows are gathered at once; of more, they would not stay in the processor's cache."""
_SIZES = np.array(CHAR_SIZES)[:, None]


@dataclass(slots=True)
class Added:
    """What the n-grams of n texts add up to.

    Attributes
    ----------
    facts : int64 array of shape (n, 2, n_facts)
        Of words with their pairs, and of byte n-grams; in steps (`GramSums.fact_step`).
    weights : float32 array of shape (n, N_BLOCKS, n_labels)
        In other steps (`GramSums.weight_step`). Those of pairs are with their words; their own block means
        nothing.
    counts : int64 array of shape (n, N_BLOCKS)
        How many n-grams each block has.
    peaks : float32 array of shape (n,)
        The largest rarity.
    """

    facts: NDArray[np.int64]
    weights: NDArray[np.float32]
    counts: NDArray[np.int64]
    peaks: NDArray[np.float32]


class GramSums:
    """Adds up what a table says of each n-gram of a text.

    Parameters
    ----------
    featurizer : Featurizer
    facts : float32 array of shape (featurizer.n_columns, n_facts)
    weights : float32 array of shape (featurizer.n_columns, n_labels)
        What each n-gram of the vocabulary adds; all others add nothing. Both are rounded to 2**24 or more
        steps from zero to the largest of all.

    Attributes
    ----------
    fact_step, weight_step : float
        What a step is worth; powers of two.
    """

    def __init__(
        self, featurizer: Featurizer, facts: NDArray[np.float32], weights: NDArray[np.float32]
    ) -> None:
        n, self._n_facts = facts.shape
        whole_facts, self.fact_step = _in_steps(facts)
        whole_weights, self.weight_step = _in_steps(weights)
        row_of_bucket = np.zeros(NO_GRAM + 1, dtype=np.int32)
        row_of_bucket[:NO_GRAM] = featurizer.columns_of_buckets(unknown=-1)
        row_of_bucket[:NO_GRAM] += 1
        order = np.append(0, 1 + featurizer.idf.argsort(kind="stable"))
        is_common = np.zeros(n + 1, dtype=bool)
        is_common[order[1 : 1 + _LISTED_BYTES // (4 * (self._n_facts + weights.shape[1]))]] = True
        listing = list_strings(row_of_bucket, is_common)
        n_rows = n + 1 + sum(map(len, listing.own))
        # Row 0 is that of unknown n-grams.
        table = np.zeros((n_rows, self._n_facts + weights.shape[1]), dtype=np.int32)
        rarity = np.zeros(n_rows, dtype=np.float32)
        table[1 : n + 1, : self._n_facts], table[1 : n + 1, self._n_facts :] = whole_facts, whole_weights
        rarity[1 : n + 1] = featurizer.idf
        start = n + 1
        for shorter, own in zip(listing.shorter, listing.own, strict=True):
            end = start + len(own)
            table[start:end] = table[shorter] + table[own]
            rarity[start:end] = np.maximum(rarity[shorter], rarity[own])
            start = end
        self._grams = _Rows(table[order], rarity[order])
        self._row_of_bucket = _places(order, n + 1)[row_of_bucket]
        is_listed = np.zeros(n_rows + 1, dtype=bool)
        is_listed[listing.rows] = True
        listed = is_listed[:n_rows].nonzero()[0]
        # The first row, without anything as well, is for what is not listed.
        order = np.append(0, listed[rarity[listed].argsort(kind="stable")])
        self._strings = _Rows(table[order], rarity[order])
        self._listed = ListedStrings(
            _narrowed(listing.of_three), _narrowed(listing.of_four), _places(order, n_rows + 1)[listing.rows]
        )

    def of_text(self, text: str) -> tuple[list[list[float]], NDArray[np.float32], list[int], float]:
        """Add up what the n-grams of one text say, as `Added` has it, in fewer calls."""
        laid_out, n_words, n_bytes = hash_one(text)
        rows = self._row_of_bucket.take(laid_out)
        gathered, slots = self._grams.values.take(rows, axis=0), 2 * n_words
        # What ends at one byte is added up first, in whole arrays.
        of_two = gathered[slots : slots + 2 * n_bytes]
        of_two += gathered[slots + 2 * n_bytes :]
        by_end = of_two[:n_bytes]
        by_end += of_two[n_bytes:]
        if slots:  # between the two, `reduceat` gives a row for the block that means nothing
            added = _by_text(gathered[: slots + n_bytes], (0, slots, slots))
        else:
            added = np.zeros((N_BLOCKS, gathered.shape[1]), dtype=np.int64)
            added[2:] = _by_text(by_end, (0,))
        facts = added[::2, : self._n_facts].tolist()
        weights = added[None, :, self._n_facts :].astype(np.float32)
        counts = [n_words, max(n_words - 1, 0), count_windows(n_bytes)]
        return facts, weights, counts, self._grams.rarity.item(rows.item(rows.argmax()))

    def of_texts(self, texts: Sequence[str]) -> Added:
        """Add up what the n-grams of n texts say."""
        n = len(texts)
        total = _Total(
            np.zeros((n, N_BLOCKS, self._grams.values.shape[1]), dtype=np.int64),
            np.empty((n, N_BLOCKS), dtype=np.int64),
            np.empty(n, dtype=np.float32),
        )
        if n < MANY or _are_of_other_scripts(texts):
            start = 0
            for grams in hash_grams(texts, _GROUP_BYTES):
                self._add_grams(grams, total[start : start + grams.n_texts])
                start += grams.n_texts
        else:
            raws = [
                text if text.isascii() and len(text) <= MAX_BYTES and not text.isspace() else joinable(text)
                for text in texts
            ]
            for group in _groups(list(map(len, raws))):
                self._add_joined(join(raws[group]), total[group])
            for i, raw in enumerate(raws):
                if not raw:
                    (grams,) = hash_grams([texts[i]])
                    self._add_grams(grams, total[i : i + 1])
        weights = total.sums[:, :, self._n_facts :].astype(np.float32)
        return Added(total.sums[:, ::2, : self._n_facts], weights, total.counts, total.peaks)

    def _add_grams(self, grams: Grams, total: _Total) -> None:
        """Add texts that were hashed together."""
        rows = self._row_of_bucket.take(grams.laid_out)
        slots, starts = grams.n_word_slots, grams.lengths.cumsum() - grams.lengths
        of_bytes = rows[slots:].reshape(len(CHAR_SIZES), -1)
        total.sums[:, 2] = _by_text(self._grams.add(of_bytes), starts)
        total.peaks[:] = self._grams.peaks(of_bytes, starts)
        self._add_words(rows[:slots].reshape(2, -1), grams.of_words, total)
        total.counts[:] = grams.counts

    def _add_joined(self, joined: Joined, total: _Total) -> None:
        """Add joined texts."""
        words, begins, prefixes = hash_words(joined.raw)
        rows = self._listed.find(joined.symbols)
        unlisted = (rows == 0).nonzero()[0]
        # Whole arrays are added up first, of every eighth byte: text by text, a number costs five times as
        # much.
        rows, starts = np.ascontiguousarray(rows.reshape(-1, STEP).T), joined.starts // STEP
        total.sums[:, 2] = _by_text(self._strings.add(rows), starts)
        total.peaks[:] = self._strings.peaks(rows, starts)
        if len(unlisted):
            self._add_unlisted(joined, unlisted, prefixes, total)
        until = np.append(begins.searchsorted(joined.starts), len(begins))
        of_words = until[1:] - until[:-1]
        if len(begins):  # a text without words marks the last pair of another one once more
            words[1, until[1:] - 1] = NO_GRAM
        self._add_words(self._row_of_bucket.take(words), of_words, total)
        total.counts[:] = count_grams(of_words, joined.lengths)

    def _add_unlisted(
        self, joined: Joined, ends: NDArray[np.int64], prefixes: NDArray[np.uint64], total: _Total
    ) -> None:
        """Add the byte n-grams that end at these bytes, hashed."""
        buckets = hash_ending(prefixes, ends)
        texts = joined.starts.searchsorted(ends, side="right") - 1
        buckets[ends - joined.starts.take(texts) < _SIZES - 1] = NO_GRAM
        rows = self._row_of_bucket.take(buckets)
        first = np.append(True, texts[1:] != texts[:-1]).nonzero()[0]
        which = texts.take(first)
        total.sums[which, 2] += _by_text(self._grams.add(rows), first)
        total.peaks[which] = np.maximum(total.peaks[which], self._grams.peaks(rows, first))

    def _add_words(
        self, rows: NDArray[np.unsignedinteger[Any]], of_words: NDArray[np.int64], total: _Total
    ) -> None:
        """Add words and their pairs, which have rows of shape (2, n_words)."""
        # reduceat cannot say that a text has no words
        filled = slice(None) if of_words.all() else of_words.nonzero()[0]
        starts = (of_words.cumsum() - of_words)[filled]
        if len(starts):
            total.sums[filled, 0] = _by_text(self._grams.add(rows), starts)
            total.peaks[filled] = np.maximum(total.peaks[filled], self._grams.peaks(rows, starts))


@dataclass(slots=True)
class _Total:
    """What is added up, of n texts: sums (n, N_BLOCKS, width) in steps, and as `Added` has it."""

    sums: NDArray[np.int64]
    counts: NDArray[np.int64]
    peaks: NDArray[np.float32]

    def __getitem__(self, at: slice) -> _Total:
        return _Total(self.sums[at], self.counts[at], self.peaks[at])


@dataclass(slots=True)
class _Rows:
    """Rows of a table. The commonest come first, so that most of what is looked up lies close together.

    Attributes
    ----------
    values : int32 array of shape (n_rows, width)
    rarity : float32 array of shape (n_rows,)
        Ascending.
    """

    values: NDArray[np.int32]
    rarity: NDArray[np.float32]

    def add(self, rows: NDArray[np.unsignedinteger[Any]]) -> NDArray[np.int32]:
        """Add up the values of rows of shape (k, n) to shape (n, width)."""
        if rows.size <= _AT_ONCE:
            gathered = self.values.take(rows, axis=0)
            first: NDArray[np.int32] = gathered[0]
            for each in gathered[1:]:  # `reduce` takes twice as long
                first += each
            return first
        added: NDArray[np.int32] = self.values.take(rows[0], axis=0)
        each = np.empty_like(added)
        for of_each in rows[1:]:
            self.values.take(of_each, axis=0, out=each, mode="clip")
            added += each
        return added

    def peaks(self, rows: NDArray[np.unsignedinteger[Any]], starts: NDArray[np.int64]) -> NDArray[np.float32]:
        """Give the largest rarity of rows of shape (k, n) from each start on to the next one."""
        return self.rarity.take(np.maximum.reduceat(np.maximum.reduce(rows), starts))


def _by_text(rows: NDArray[np.int32], starts: NDArray[np.int64] | tuple[int, ...]) -> NDArray[np.int64]:
    """Add up rows from each start on to the next one."""
    added: NDArray[np.int64] = np.add.reduceat(rows.astype(np.int64), starts)  # it would cast piece by piece
    return added


def _are_of_other_scripts(texts: Sequence[str]) -> bool:
    """Say whether most letters have no symbol, so that strings are looked up in vain and then hashed."""
    whole = "".join(texts)
    return not whole.isascii() and len(whole.encode("utf-8", "replace")) > 1.4 * len(whole)


def _places(order: NDArray[np.int64], n: int) -> NDArray[np.unsignedinteger[Any]]:
    """Give the place of each of n numbers in an order; 0 of those that are not in it."""
    places = np.zeros(n, dtype=np.int64)
    places[order] = np.arange(len(order))
    return _narrowed(places)


def _narrowed(numbers: NDArray[np.signedinteger[Any]]) -> NDArray[np.unsignedinteger[Any]]:
    return numbers.astype(np.min_scalar_type(int(numbers.max())))


def _in_steps(values: NDArray[np.float32]) -> tuple[NDArray[np.int32], float]:
    """Give values as whole numbers of steps, and what a step is worth."""
    largest = float(np.abs(values).max(initial=0.0))
    if not isfinite(largest):
        raise ValueError("they are no numbers")
    exponent = min(_BITS - frexp(largest)[1], 200)
    return np.rint(np.ldexp(values.astype(np.float64), exponent)).astype(np.int32), ldexp(1.0, -exponent)


def _groups(sizes: Sequence[int]) -> Iterator[slice]:
    """Give texts of so many bytes in groups, without those of none."""
    start, n_bytes = 0, 0
    for i, size in enumerate(sizes):
        width = size + STEP + 2  # with its spaces, and what is between texts
        if i > start and (not size or n_bytes + width > _GROUP_BYTES):
            yield slice(start, i)
            start, n_bytes = i, 0
        if not size:
            start = i + 1
        n_bytes += width
    if start < len(sizes):
        yield slice(start, len(sizes))
