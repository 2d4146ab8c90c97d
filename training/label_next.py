"""Which records of the traffic are worth most to label next.

A label is worth most where the ladder does not know whether it is right, where its rungs contradict each
other, and where it says something that the labels already asked for do not. So each record that nobody has
judged gets

    usefulness = H(confidence) + 1/2 * [rungs disagree],    H in bits

H, the entropy of the acceptor's P(right), is largest near one half and falls towards sure answers: among
what settles it is largest right above the threshold, which is where a label moves the certificate.
Disagreement of the rungs is query by committee, and finds the confident mistakes that entropy does not see.
Records are then picked one at a time by usefulness times distance (1 - cosine) to the nearest record picked
before, so that fifty near copies of one hard message are asked about once.

What the teacher answered is known already and is a candidate only where every rung that ran contradicts it
with a confidence that would settle: one of the two is wrong, and a person can tell which.

References
----------
Lewis and Gale, "A Sequential Algorithm for Training Text Classifiers", SIGIR 1994 (uncertainty). Seung,
Opper, Sompolinsky, "Query by Committee", COLT 1992. Sener and Savarese, "Active Learning for Convolutional
Neural Networks: A Core-Set Approach", ICLR 2018 (diversity).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascade.contract import JsonValue
from cascade.features import Featurizer
from training.linear import to_matrix

Floats = NDArray[np.float64]

MAX_POOL = 2000
"""Newest records that are looked at."""


@dataclass(frozen=True)
class Candidate:
    """A record that may be labelled.

    Attributes
    ----------
    id, text : str
    known : JSON value or None
        The teacher's answer, where it gave one.
    """

    id: str
    text: str
    known: JsonValue | None


@dataclass(frozen=True)
class ToLabel:
    """A record worth labelling.

    Attributes
    ----------
    id, text : str
    answer : str
        What the ladder's surest rung says.
    confidence : float
        The acceptor's P(right) of it.
    why : str
        In plain words.
    """

    id: str
    text: str
    answer: str
    confidence: float
    why: str


def usefulness(
    confidence: Floats, answer: NDArray[np.int64], worth: NDArray[np.bool_], known: NDArray[np.int64],
    thresholds: Sequence[float],
) -> tuple[Floats, list[str]]:  # fmt: skip
    """Score candidates.

    Parameters
    ----------
    confidence, answer, worth : arrays of shape (n, n_rungs)
    known : int array of shape (n,)
        The teacher's label; -1 for one that no rung knows, -2 where the teacher was not asked.
    thresholds : sequence of n_rungs floats

    Returns
    -------
    float array of shape (n,)
        0 for what is not worth asking about.
    list of n str
        Why.
    """
    seen = np.where(worth, confidence, -1.0)
    best = seen.argmax(axis=1)
    at = np.arange(len(seen))
    p = np.clip(seen[at, best], 1e-6, 1 - 1e-6)
    entropy = -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
    disagree = np.array([len(set(a[w].tolist())) > 1 for a, w in zip(answer, worth, strict=True)], dtype=bool)
    score = entropy + 0.5 * disagree
    sure = worth & (confidence >= np.asarray(thresholds))
    against = (
        worth.any(axis=1) & (~worth | (answer != known[:, None])).all(axis=1) & sure.any(axis=1) & ~disagree
    )
    teacher = known > -2
    score = np.where(teacher, np.where(against, 1.0 + p / 2, 0.0), score)
    why = [
        "the ladder would settle it and the teacher says otherwise: one of them is wrong" if t
        else "its rungs disagree" if d
        else f"settled, and nobody has said whether it is right: P(right) {c:.2f}" if s.any()
        else f"the ladder is unsure: P(right) {c:.2f}"
        for t, d, s, c in zip(teacher, disagree, sure, p, strict=True)
    ]  # fmt: skip
    return score, why


def pick(score: Floats, vectors: NDArray[np.float32], n: int) -> list[int]:
    """Pick up to n records, each by score times distance to what was picked before.

    Parameters
    ----------
    score : float array of shape (m,)
        Records of score 0 are never picked.
    vectors : float32 array of shape (m, dim)
        Of length 1.
    """
    picked: list[int] = []
    distance = np.ones(len(score))
    for _ in range(min(n, int((score > 0).sum()))):
        gain = score * distance
        gain[picked] = -1.0
        at = int(gain.argmax())
        if gain[at] <= 1e-6:  # copies of what was picked
            break
        picked.append(at)
        distance = np.minimum(distance, np.clip(1 - vectors @ vectors[at], 0.0, 1.0))
    return picked


def choose(
    candidates: Sequence[Candidate],
    seen: Mapping[str, NDArray[np.float64]],
    worth: NDArray[np.bool_],
    thresholds: Sequence[float],
    labels: Sequence[str],
    vectors: NDArray[np.float32],
    n: int = 50,
) -> list[ToLabel]:
    """Choose what to label next, the most useful first.

    Parameters
    ----------
    candidates : sequence of m Candidate
    seen : mapping
        `confidence` and `answer` of `cascade.ladder.LocalLadder.run_all`.
    worth : bool array of shape (m, n_rungs)
    thresholds : sequence of n_rungs floats
    labels : sequence of str
    vectors : float32 array of shape (m, dim)
    n : int
    """
    if not candidates:
        return []
    index = {label: i for i, label in enumerate(labels)}
    known = np.array(
        [
            -2 if c.known is None else index.get(c.known, -1) if isinstance(c.known, str) else -1
            for c in candidates
        ]
    )
    confidence, answer = seen["confidence"].astype(np.float64), seen["answer"].astype(np.int64)
    score, why = usefulness(confidence, answer, worth, known, thresholds)
    best = np.where(worth, confidence, -1.0).argmax(axis=1)
    return [
        ToLabel(
            candidates[i].id, candidates[i].text, _name(labels, int(answer[i, best[i]])),
            float(confidence[i, best[i]]), why[i],
        )
        for i in pick(score, vectors, n)
    ]  # fmt: skip


def _name(labels: Sequence[str], answer: int) -> str:
    return labels[answer] if answer >= 0 else "-"


def text_vectors(texts: Sequence[str], dim: int = 256, seed: int = 0) -> NDArray[np.float32]:
    """Give unit vectors of texts where there is no encoder: their n-grams, projected at random."""
    featurizer = Featurizer.fit(texts, max_columns=1 << 14, min_texts=1)
    matrix = to_matrix(featurizer(texts), featurizer.n_columns)
    random = np.random.default_rng(seed).standard_normal((featurizer.n_columns, dim)).astype(np.float32)
    found = np.asarray(matrix @ random, dtype=np.float32)
    unit: NDArray[np.float32] = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)
    return unit
