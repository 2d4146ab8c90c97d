"""Texts laid end to end, normalised: what many texts are hashed from.

`cascade.text.normalise` takes a microsecond a text. Of ASCII it makes letters small and spaces single, and
nearly all texts have single spaces: so they are joined first, and only those that are not ASCII, or have
spaces to spare, are normalised one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascade.ngrams import MAX_BYTES
from cascade.text import normalise

STEP = 8
"""Each text begins at a multiple of this."""
SYMBOLS = b" abcdefghijklmnopqrstuvwxyz0123456789.,?!'-\"()/:#$&@%*+=_<>[]"
"""Bytes that have a symbol of their own: their place here."""
GAP, OTHER = len(SYMBOLS), len(SYMBOLS) + 1
"""The symbols of what stands between texts, and of all other bytes."""

_BETWEEN = 0xFF  # no byte of UTF-8
_NORMALISED = b"".join(b" " if chr(b).isspace() else chr(b).lower().encode() for b in range(128)) + bytes(
    [*range(128, _BETWEEN), ord(" ")]
)
_SYMBOL = bytes(SYMBOLS.find(b) if b in SYMBOLS else OTHER for b in _NORMALISED[:_BETWEEN]) + bytes([GAP])
_AFTER = [" " + chr(_BETWEEN) * (1 + -(3 + n) % STEP) + " " for n in range(STEP)]
"""What stands behind a text of so many bytes: its last space, a gap, and the next one's first space."""


@dataclass(slots=True)
class Joined:
    """Texts laid end to end, each with a space at either end, and at least one byte between two of them.

    Attributes
    ----------
    raw : bytes
        What is between texts is spaces here.
    symbols : uint8 array of shape (len(raw),)
    starts : int64 array of shape (n_texts,)
        Where each text begins, with its first space.
    lengths : int64 array of shape (n_texts,)
        How many bytes each text has, normalised, its spaces included.
    """

    raw: bytes
    symbols: NDArray[np.uint8]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]


def joinable(text: str) -> str:
    """Give a text's bytes as `join` takes them, as characters; none if it is blank or too long for it."""
    if len(text) > MAX_BYTES:  # though it may be shorter without its spaces: to find out takes as long as all
        return ""
    if text.isascii():
        return "" if text.isspace() else text
    raw = normalise(text).encode("utf-8", "replace").decode("latin-1")
    return raw if len(raw) <= MAX_BYTES else ""


def join(raws: Sequence[str]) -> Joined:
    """Join what `joinable` gave of texts, none of it empty."""
    n = len(raws)
    sizes = list(map(len, raws))
    parts = [" "] * (2 * n)
    parts[0::2] = raws
    parts[1::2] = [_AFTER[size % STEP] for size in sizes]
    joined = (" " + "".join(parts)).encode("latin-1")[:-1]
    symbols = np.frombuffer(joined.translate(_SYMBOL), dtype=np.uint8)
    lengths = np.array(sizes) + 2
    widths = (lengths + STEP) & -STEP
    ends = widths.cumsum()
    is_space = symbols == 0
    spare = (is_space[1:] & is_space[:-1]).nonzero()[0]
    if len(spare):
        single = list(raws)
        for i in set(ends.searchsorted(spare, side="right").tolist()):
            words = raws[i].encode("latin-1").translate(_NORMALISED).split()
            single[i] = b" ".join(words).decode("latin-1")
        return join(single)
    return Joined(joined.translate(_NORMALISED), symbols, ends - widths, lengths)
