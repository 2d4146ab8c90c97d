"""Which row each byte of a text adds to its sums, found in three lookups.

The byte n-grams that end at a byte are those of two to five bytes, and where the vocabulary knows the longest
of them it knows the others: whatever is in some texts has its parts in as many. So the strings behind a
vocabulary can be found again, though it only has hashes of them: of all strings of common symbols, those of
two known bytes, of them those of three known ones, and so on. What all n-grams that end with such a string
add is one row, listed here. What is listed has the rows that hashing gives it; what is not must be hashed.

References
----------
Aho and Corasick, "Efficient string matching: an aid to bibliographic search", CACM 1975.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.joined_texts import GAP, OTHER, SYMBOLS
from cascade.ngrams import hash_extended

_BITS = 6
_N = 1 << _BITS
_SPACE, _GAP_BEFORE, _SPACE_BEFORE = 0, 1, 2
"""The symbol of a space; the numbers of the strings that are a gap, and that are a space behind one."""
_BYTES = np.frombuffer(SYMBOLS + bytes(_N - len(SYMBOLS)), dtype=np.uint8)
_UNLISTED = -1
_Ids = NDArray[np.int32]


@dataclass(slots=True)
class ListedStrings:
    """Finds rows by the last five symbols.

    Attributes
    ----------
    of_three : unsigned array of shape (64**3,)
        Number of each string of three symbols; 0 of what is not listed.
    of_four : unsigned array of shape (n_of_three * 64,)
        Number of each string of four: a listed one of three, and one more symbol.
    rows : unsigned array of shape (n_of_four * 64,)
        Likewise the row of each string of five; 0 of what is not listed.
    """

    of_three: NDArray[np.unsignedinteger[Any]]
    of_four: NDArray[np.unsignedinteger[Any]]
    rows: NDArray[np.unsignedinteger[Any]]

    def find(self, symbols: NDArray[np.uint8]) -> NDArray[np.unsignedinteger[Any]]:
        """Give the row of what ends at each symbol of joined texts; 0 where it is not listed."""
        padded = np.full(len(symbols) + 2, GAP, dtype=np.int64)
        padded[2:] = symbols
        at = padded[:-2] << _BITS
        at |= padded[1:-1]
        at <<= _BITS
        at |= padded[2:]
        found = self.of_three.take(at)
        for table in (self.of_four, self.rows):
            at[0] = _GAP_BEFORE
            at[1:] = found[:-1]
            at <<= _BITS
            at |= padded[2:]
            found = table.take(at)
        return found


@dataclass(slots=True)
class Listing:
    """What `list_strings` found.

    Attributes
    ----------
    shorter, own : list of 3 int32 arrays
        Of strings of three, four and five symbols. A new row is the sum of two: that of all that ends with
        its string but for the first symbol, which may be a new one as well, and that of the string itself.
        New rows are numbered behind the others.
    of_three, of_four, rows : int32 array
        As in `ListedStrings`, but that `rows` is -1 of what is not listed.
    """

    shorter: list[_Ids]
    own: list[_Ids]
    of_three: _Ids
    of_four: _Ids
    rows: _Ids


def list_strings(row_of_bucket: NDArray[np.int32], is_common: NDArray[np.bool_]) -> Listing:
    """Find the strings of a vocabulary.

    Parameters
    ----------
    row_of_bucket : int32 array
        The row of each bucket; 0 where it has none.
    is_common : bool array of shape (n_rows,)
        Which rows are of n-grams that are to be listed; row 0 is of none.
    """
    shorter: list[_Ids] = []
    own: list[_Ids] = []

    def extend(strings: _Ids, rows: _Ids, known: NDArray[np.bool_]) -> tuple[_Ids, NDArray[np.bool_], _Ids]:
        """Put every symbol behind each of n strings.

        Takes the rows of the longer strings but for their first symbol, shape (n, 64), and whether their
        parts are known; changes the rows to those of the longer ones. Gives which of these are known, twice:
        as a mask and as strings.
        """
        found = np.empty(rows.shape, dtype=np.int32)
        for at in range(0, len(found), 1024):
            found[at : at + 1024] = row_of_bucket.take(hash_extended(_BYTES[strings[at : at + 1024]], _BYTES))
        found[:, GAP:] = 0
        found[(strings >= GAP).any(axis=1)] = 0
        known = known & is_common[found]
        # What is in no text that the vocabulary saw may fall into the bucket of what is.
        rows[(found > 0) & ~known] = _UNLISTED
        which, symbol = known.nonzero()
        shorter.append(rows[which, symbol])
        own.append(found[which, symbol])
        rows[which, symbol] = np.arange(len(which)) + (len(is_common) + sum(map(len, own[:-1])))
        return rows, known, np.column_stack([strings[which], symbol.astype(np.int32)])

    every = np.arange(_N, dtype=np.int32)
    rows_2 = row_of_bucket.take(hash_extended(_BYTES[every[:, None]], _BYTES))
    known_2 = is_common[rows_2]
    known_2[GAP:] = known_2[:, GAP:] = False
    rows_2[GAP:] = rows_2[:, OTHER] = _UNLISTED
    rows_2[:, GAP] = rows_2[GAP, _SPACE] = 0  # behind a gap stands a space

    pairs = np.column_stack([np.repeat(every, _N), np.tile(every, _N)])
    rows_3 = np.broadcast_to(rows_2, (_N, _N, _N)).copy()
    known_3 = known_2[:, :, None] & known_2
    rows_3, known_3, three = extend(pairs, rows_3.reshape(-1, _N), known_3.reshape(-1, _N))
    rows_3, known_3 = rows_3.reshape(_N, _N, _N), known_3.reshape(_N, _N, _N)
    # Numbers 0 (not listed), `_GAP_BEFORE` and `_SPACE_BEFORE`, then how texts begin, then what is in them.
    first = known_2[_SPACE].nonzero()[0]
    begun = _after(GAP, _after(_SPACE, first[:, None]))
    three = np.concatenate([[[GAP] * 3] * 2, [[GAP, GAP, _SPACE]], begun, three]).astype(np.int32)
    of_three = np.zeros((_N, _N, _N), dtype=np.int32)
    of_three[tuple(three.T)] = np.arange(len(three))
    of_three[:, GAP, _SPACE], of_three[:, :, GAP] = _SPACE_BEFORE, _GAP_BEFORE

    after = three[:, 1], three[:, 2]
    rows_4, known_4, four = extend(three, rows_3[after], known_3[after])
    rows_4[0], rows_4[0, GAP] = _UNLISTED, 0
    second = np.column_stack(known_3[_SPACE].nonzero())
    begun = np.concatenate([_after(GAP, begun), _after(GAP, _after(_SPACE, second))])
    four = np.concatenate([[[GAP] * 4] * 2, [[GAP, GAP, GAP, _SPACE]], begun, four]).astype(np.int32)
    of_four = np.zeros((len(three), _N), dtype=np.int32)
    of_four[of_three[tuple(four[:, :3].T)], four[:, 3]] = np.arange(len(four))
    of_four[:, GAP] = _GAP_BEFORE

    after_4 = of_three[tuple(four[:, 1:].T)]
    rows_5, _, _ = extend(four, rows_4[after_4], known_4[after_4])
    rows_5[0], rows_5[0, GAP] = _UNLISTED, 0
    return Listing(shorter, own, of_three.ravel(), of_four.ravel(), rows_5.ravel())


def _after(symbol: int, strings: NDArray[np.signedinteger[Any]]) -> NDArray[np.signedinteger[Any]]:
    """Give n strings as they stand after a symbol."""
    return np.pad(strings, ((0, 0), (1, 0)), constant_values=symbol)
