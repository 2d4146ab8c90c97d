"""Readable names by class-based TF-IDF: the words that tell one group from the others.

References
----------
Grootendorst, "BERTopic: Neural topic modeling with a class-based TF-IDF procedure", arXiv 2203.05794.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, CountVectorizer

_WORD = r"(?u)\b[^\W\d_]{3,}\b"
_COMMON = """
answer assistant call customer customers does exactly following given helpful json know known like message
messages name named need output please read reply respond return text ticket today use user users want wants
word words work
"""


def telling_words(documents: Sequence[str], n: int = 3) -> list[list[str]]:
    """Give the words that tell each document from the others, the best first; fewer where there are fewer."""
    stop = [*ENGLISH_STOP_WORDS, *_COMMON.split()]
    vectorizer = CountVectorizer(token_pattern=_WORD, stop_words=stop)
    try:
        counts = vectorizer.fit_transform(documents).toarray().astype(np.float64)
    except ValueError:  # no word is left
        return [[] for _ in documents]
    totals = counts.sum(axis=1, keepdims=True)
    scores = counts / np.maximum(totals, 1) * np.log(1 + totals.mean() / np.maximum(counts.sum(axis=0), 1))
    words = vectorizer.get_feature_names_out()
    order = np.lexsort((np.broadcast_to(np.arange(len(words)), scores.shape), -scores), axis=1)
    return [[str(words[j]) for j in row[:n] if scores[i, j] > 0] for i, row in enumerate(order)]


def slug(words: Sequence[str], taken: set[str]) -> str:
    """Make a node's name of words: a name that is not taken yet, of the letters that names are made of."""
    base = re.sub(r"[^a-z0-9]+", "-", "-".join(words).lower()).strip("-")[:48] or "node"
    name, number = base, 2
    while name in taken:
        name, number = f"{base}-{number}", number + 1
    taken.add(name)
    return name
