"""Cheap facts about a text, for the difficulty model and the acceptor."""

from __future__ import annotations

from collections.abc import Sequence
from math import log1p
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.ngrams import MAX_BYTES

SURFACE_NAMES = (
    "log_bytes", "log_words", "share_digits", "share_non_ascii", "question_marks", "log_lines",
    "unknown_words", "unknown_bytes", "mean_word_bytes",
)  # fmt: skip
"""Names of the surface features, in their order."""


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
    raw = text.encode("ascii", "ignore")
    return [
        log1p(n), log1p(words), (len(raw) - len(raw.translate(None, b"0123456789"))) / n,
        0.0 if text.isascii() else 1.0 - len(raw) / n,
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
    many = len(texts)
    raw = [text.encode("utf-8", "surrogatepass") for text in texts]
    n_chars = np.fromiter(map(len, texts), dtype=np.int64, count=many)
    n_raw = np.fromiter(map(len, raw), dtype=np.int64, count=many)
    first = np.repeat(np.arange(0, many * _N_KINDS, _N_KINDS), n_raw)
    kinds = first + _KIND_OF_BYTE.take(np.frombuffer(b"".join(raw), dtype=np.uint8))
    count = np.bincount(kinds, minlength=many * _N_KINDS).reshape(many, _N_KINDS).T
    n, words = np.maximum(n_chars, 1), np.maximum(n_words, 1) // 2 + 1
    n_ascii = n_raw - count[_NON_ASCII]
    out = np.empty((many, len(SURFACE_NAMES)))
    out[:, 0], out[:, 1], out[:, 5] = _log1p(n), _log1p(words), _log1p(count[_NEW_LINE])
    out[:, 2] = count[_DIGIT] / n
    out[:, 3] = (1.0 - n_ascii / n) * (n_ascii != n_chars)
    out[:, 4] = count[_QUESTION_MARK]
    out[:, 6] = 1.0 - seen_words / np.maximum(n_words, 1)
    out[:, 7] = 1.0 - seen_bytes / np.maximum(n_bytes, 1)
    out[:, 8] = n / words
    return out


_N_KINDS = 5
_DIGIT, _QUESTION_MARK, _NEW_LINE, _NON_ASCII = range(1, _N_KINDS)
_KIND_OF_BYTE = np.zeros(256, dtype=np.int64)
_KIND_OF_BYTE[ord("0") : ord("9") + 1] = _DIGIT
_KIND_OF_BYTE[ord("?")] = _QUESTION_MARK
_KIND_OF_BYTE[ord("\n")] = _NEW_LINE
_KIND_OF_BYTE[128:] = _NON_ASCII

_LOG1P = np.array([log1p(n) for n in range(2 * MAX_BYTES)])


def _log1p(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    # Not numpy's, which may differ from Python's in the last bit.
    try:
        return _LOG1P.take(counts)
    except IndexError:
        return np.array([log1p(n) for n in counts.tolist()])
