"""Turns traffic into a data set: one record per text, one label per record, and groups that stay together.

Exact duplicates are merged, contradictions are settled or dropped, and texts that are nearly the same, or
that come from one session, get one group id. `training.split` moves whole groups only, so that no model is
calibrated on a near copy of what it was trained on.

References
----------
Broder, "On the resemblance and containment of documents", SEQUENCES 1997 (MinHash).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from cascade.contract import Contract
from cascade.errors import RetrainRefused
from cascade.ngrams import BUCKET_BITS, hash_grams
from cascade.text import normalise
from cascade.traffic.records import Messages, Source, TrainingRecord

N_BANDS, BAND_ROWS = 16, 4
MIN_JACCARD = 0.85
MAX_SESSION_SHARE = 0.05
MIN_BIG_SESSION = 20
"""A session is never ignored below this size: 5 % of a small data set is a handful of records."""

MAX_LABELS = 1_000
"""Labels that are learned where traffic brings them. A caller may report any number of them as right, and
4,000 over 20,000 n-grams want 15 GiB to be learned."""

_WINDOW = 32  # how many followers in its bucket a text is compared with: bounds the cost of huge buckets
_MIN_EQUAL = 44  # of 64 minima; a pair at the threshold has fewer with a chance below 0.1 %
_PAIRS_AT_ONCE = 1 << 13


@dataclass(frozen=True, slots=True)
class CuratedRecord:
    """One distinct text with its settled label.

    Attributes
    ----------
    id, text, messages, source, session, time
        Those of the latest training record that carries the settled label.
    label : str
        The settled label.
    count : int
        How many records had this text, up to normalisation.
    context : mapping of str to str
        That of the record the id is of.
    """

    id: str
    text: str
    messages: Messages | None
    label: str
    source: Source
    session: str | None
    time: float | None
    count: int
    context: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CurationCounts:
    """What became of the records.

    `seen == kept + exact_duplicates + conflicts + off_contract + rare_labels`.

    Attributes
    ----------
    seen : int
        Records that came in.
    kept : int
        Records that are left, each with another text.
    exact_duplicates : int
        Records beyond the first of each text.
    conflicts : int
        Texts that were dropped because no label has more than half of the votes.
    near_duplicate_groups : int
        Sets of two or more kept texts that are nearly the same.
    near_conflicts : int
        Those of them that hold different labels; they are kept.
    off_contract : int
        Records whose output is not a label of the contract.
    rare_labels : int
        Texts dropped because their label occurs too rarely; 0 where the contract lists the labels.
    ignored_sessions : int
        Sessions that hold so many records that they are not kept together.
    """

    seen: int
    kept: int
    exact_duplicates: int
    conflicts: int
    near_duplicate_groups: int
    near_conflicts: int
    off_contract: int
    rare_labels: int
    ignored_sessions: int


@dataclass(frozen=True, eq=False)
class Curated:
    """A data set that is ready to be split.

    Attributes
    ----------
    records : tuple of CuratedRecord
        By time, then id; records without a time stand first.
    labels : tuple of str
        The contract's labels in its order, or those of the records, sorted.
    y : int64 array of shape (n_records,)
        Index into `labels`.
    groups : int64 array of shape (n_records,)
        Group of each record, in [0, n_groups); a group must stay on one side of a split.
    counts : CurationCounts
        What was merged and dropped.
    dataset_hash : str
        SHA-256 of the kept texts, labels, sessions and times.
    """

    records: tuple[CuratedRecord, ...]
    labels: tuple[str, ...]
    y: NDArray[np.int64]
    groups: NDArray[np.int64]
    counts: CurationCounts
    dataset_hash: str

    def __len__(self) -> int:
        return len(self.records)

    @property
    def texts(self) -> list[str]:
        """The text of each record."""
        return [record.text for record in self.records]


def curate(
    records: Sequence[TrainingRecord], contract: Contract | None, seed: int = 0, min_label_count: int = 2
) -> Curated:
    """Merge, settle and group training records.

    The result does not depend on the order of `records`. Of one text's conflicting labels, a reported
    outcome's wins; without one, or where outcomes disagree, the label with more than half of the votes.

    Parameters
    ----------
    records : sequence of TrainingRecord
        Records of one node.
    contract : Contract or None
        A label contract; None, or open labels, takes the labels from the records.
    seed : int
        Seed of the MinHash functions that find candidates for near duplicates.
    min_label_count : int
        Records that a label needs, where labels come from the records.

    Returns
    -------
    Curated
        Possibly empty.

    Raises
    ------
    RetrainRefused
        The contract is a JSON Schema, which has no classes to learn, or the records bring too many labels.
    """
    if contract is not None and not contract.is_labels:
        raise RetrainRefused("the contract is a JSON Schema; local rungs learn labels only")
    fixed = contract.labels if contract is not None else ()
    rule = contract or Contract(open_labels=True)

    by_text: dict[str, list[TrainingRecord]] = defaultdict(list)
    on_contract = sorted((r for r in records if rule.check(r.output) is None), key=_order)
    for record in on_contract:
        by_text[normalise(record.text)].append(record)

    kept: list[CuratedRecord] = []
    votes: Counter[str] = Counter()
    conflicts = 0
    for same in by_text.values():
        voters = [r for r in same if r.source == "outcome"] or same
        label, n_votes = Counter(r.output for r in voters).most_common(1)[0]
        if 2 * n_votes <= len(voters):
            conflicts += 1
            continue
        votes[label] += sum(r.output == label for r in same)
        last = next(r for r in reversed(voters) if r.output == label)
        kept.append(
            CuratedRecord(
                last.id,
                last.text,
                last.messages,
                label,
                last.source,
                last.session,
                last.time,
                len(same),
                last.context,
            )
        )
    settled = len(kept)
    labels = fixed or tuple(sorted(label for label, n in votes.items() if n >= min_label_count))
    if not fixed and len(labels) > MAX_LABELS:
        rarest = sorted(labels, key=lambda label: (votes[label], label))[:3]
        raise RetrainRefused(
            f"the traffic brings {len(labels):,} different labels, and at most {MAX_LABELS:,} are learned; "
            f"the rarest: {', '.join(repr(label[:40]) for label in rarest)}. Where some of them are none, "
            "list those that are: `contract: {labels: [...]}`. Nothing was changed"
        )
    column = {label: i for i, label in enumerate(labels)}
    kept = sorted((r for r in kept if r.label in column), key=_order_kept)
    y = np.array([column[r.label] for r in kept], dtype=np.int64)

    near = near_duplicates([r.text for r in kept], seed)
    links, ignored = _session_links([r.session for r in kept])
    first_of_near = np.unique(near, return_index=True)[1]
    links = np.concatenate((links, np.stack((np.arange(len(kept)), first_of_near[near]), axis=1)))
    sizes = np.bincount(near)
    labels_of_near = np.bincount(np.unique(np.stack((near, y), axis=1), axis=0)[:, 0]) if kept else sizes
    counts = CurationCounts(
        seen=len(records),
        kept=len(kept),
        exact_duplicates=len(on_contract) - len(by_text),
        conflicts=conflicts,
        near_duplicate_groups=int((sizes > 1).sum()),
        near_conflicts=int((labels_of_near > 1).sum()),
        off_contract=len(records) - len(on_contract),
        rare_labels=settled - len(kept),
        ignored_sessions=ignored,
    )
    return Curated(tuple(kept), labels, y, _components(len(kept), links), counts, _hash(kept))


def learned_from(records: Sequence[TrainingRecord], curated: Curated) -> list[str]:
    """Give the ids of the records whose text is in the data set, those that were merged into one included."""
    kept = {normalise(text) for text in curated.texts}
    return [record.id for record in records if normalise(record.text) in kept]


def _order(record: TrainingRecord) -> tuple[Any, ...]:
    """Order by time and id; the rest only decides between records that share both."""
    r = record
    return (r.time is not None, r.time or 0.0, r.id, r.text, r.output, r.source, r.session or "", repr(r))


def _order_kept(record: CuratedRecord) -> tuple[Any, ...]:
    return (record.time is not None, record.time or 0.0, record.id, record.text)


def _hash(records: Sequence[CuratedRecord]) -> str:
    """Hash the content; lines are sorted, as ids (which order records of one time) are not part of it."""
    lines = sorted(
        json.dumps(
            {"label": r.label, "session": r.session, "text": r.text, "time": r.time},
            sort_keys=True,
            separators=(",", ":"),
        )
        for r in records
    )
    return hashlib.sha256("".join(line + "\n" for line in lines).encode()).hexdigest()


def _session_links(sessions: Sequence[str | None]) -> tuple[NDArray[np.int64], int]:
    """Link each record to its session's first; leave out sessions too big to keep together."""
    members: dict[str, list[int]] = defaultdict(list)
    for i, session in enumerate(sessions):
        if session is not None:
            members[session].append(i)
    limit = max(MIN_BIG_SESSION, MAX_SESSION_SHARE * len(sessions))
    links = [(rows[0], i) for rows in members.values() if len(rows) <= limit for i in rows[1:]]
    ignored = sum(len(rows) > limit for rows in members.values())
    return np.array(links, dtype=np.int64).reshape(-1, 2), ignored


def _components(n: int, links: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number the connected components in the order of their first members."""
    if n == 0:
        return np.empty(0, dtype=np.int64)
    graph = csr_matrix((np.ones(len(links), dtype=np.int8), (links[:, 0], links[:, 1])), shape=(n, n))
    found = connected_components(graph, directed=False)[1]
    _, first, which = np.unique(found, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[which].astype(np.int64)


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
        found = _components(n, links)
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
