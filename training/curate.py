"""Turns traffic into a data set: one record per text, one label per record, and groups that stay together.

Exact duplicates are merged, contradictions are settled or dropped, and texts that are nearly the same, or
that come from one session, get one group id. `training.split` moves whole groups only, so that no model is
calibrated on a near copy of what it was trained on.
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

from cascade.contract import Contract
from cascade.errors import RetrainRefused
from cascade.text import normalise
from cascade.traffic.records import Messages, Source, TrainingRecord
from training.near_duplicates import components, near_duplicates

MAX_SESSION_SHARE = 0.05
MIN_BIG_SESSION = 20
"""A session is never ignored below this size: 5 % of a small data set is a handful of records."""

MAX_LABELS = 1_000
"""Labels that are learned where traffic brings them. A caller may report any number of them as right, and
4,000 over 20,000 n-grams want 15 GiB to be learned."""

NO_LABEL = -1
"""Stands in `Curated.y` where no rung can give the teacher's answer: it is too rare, or off the contract."""


@dataclass(frozen=True, slots=True)
class CuratedRecord:
    """One distinct text with its settled label.

    Attributes
    ----------
    id, text, messages, source, session, time
        Those of the latest training record that carries the settled label.
    label : str
        The settled label; of one that is no string, its JSON.
    count : int
        How many records had this text, up to normalisation.
    context : mapping of str to str
        That of the record the id is of.
    on_contract : bool
        Whether any answer to this text was on the contract.
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
    on_contract: bool = True


@dataclass(frozen=True, slots=True)
class CurationCounts:
    """What became of the records.

    `seen == kept + exact_duplicates + conflicts`.

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
        Of those kept, texts whose every output is off the contract.
    rare_labels : int
        Of those kept, texts whose label occurs too rarely; 0 where the contract lists the labels.
    ignored_sessions : int
        Sessions that hold so many records that they are not kept together.
    ignored_session_records : int
        Of those kept, records of these sessions.
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
    ignored_session_records: int


@dataclass(frozen=True, eq=False)
class Curated:
    """A data set that is ready to be split.

    It holds every text that the teacher answered in one way, also those with an answer that no rung can
    learn: without them, a certificate would not be about the node's traffic.

    Attributes
    ----------
    records : tuple of CuratedRecord
        By time, then id; records without a time stand first.
    labels : tuple of str
        The contract's labels in its order, or those of the records, sorted.
    y : int64 array of shape (n_records,)
        Index into `labels`; `NO_LABEL` where no rung can be right. No model learns an answer from such a
        record, and those that judge answers learn that all of them are wrong.
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
        Records that a label needs to be learned, where labels come from the records.

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
    for record in sorted(records, key=_order):
        by_text[normalise(record.text)].append(record)

    kept: list[CuratedRecord] = []
    votes: Counter[str] = Counter()
    conflicts = 0
    for every in by_text.values():
        same = [r for r in every if rule.check(r.output) is None]
        if not same:  # whichever of the outputs is taken, no rung can give it
            last, label = every[-1], shown(every[-1].output)
        else:
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
                len(same or every),
                last.context,
                bool(same),
            )
        )
    labels = fixed or tuple(sorted(label for label, n in votes.items() if n >= min_label_count))
    if not fixed and len(labels) > MAX_LABELS:
        rarest = sorted(labels, key=lambda label: (votes[label], label))[:3]
        raise RetrainRefused(
            f"the traffic brings {len(labels):,} different labels, and at most {MAX_LABELS:,} are learned; "
            f"the rarest: {', '.join(repr(label[:40]) for label in rarest)}. Where some of them are none, "
            "list those that are: `contract: {labels: [...]}`. Nothing was changed"
        )
    column = {label: i for i, label in enumerate(labels)}
    kept.sort(key=_order_kept)
    y = np.array([column.get(r.label, NO_LABEL) if r.on_contract else NO_LABEL for r in kept], dtype=np.int64)
    off_contract = sum(not r.on_contract for r in kept)

    near = near_duplicates([r.text for r in kept], seed)
    links, ignored, of_ignored = _session_links([r.session for r in kept])
    first_of_near = np.unique(near, return_index=True)[1]
    links = np.concatenate((links, np.stack((np.arange(len(kept)), first_of_near[near]), axis=1)))
    sizes = np.bincount(near)
    labels_of_near = np.bincount(np.unique(np.stack((near, y), axis=1), axis=0)[:, 0]) if kept else sizes
    counts = CurationCounts(
        seen=len(records),
        kept=len(kept),
        exact_duplicates=len(records) - len(by_text),
        conflicts=conflicts,
        near_duplicate_groups=int((sizes > 1).sum()),
        near_conflicts=int((labels_of_near > 1).sum()),
        off_contract=off_contract,
        rare_labels=int((y == NO_LABEL).sum()) - off_contract,
        ignored_sessions=ignored,
        ignored_session_records=of_ignored,
    )
    return Curated(tuple(kept), labels, y, components(len(kept), links), counts, _hash(kept))


def learned_from(records: Sequence[TrainingRecord], curated: Curated) -> list[str]:
    """Give the ids of the records whose text is in the data set, those that were merged into one included."""
    kept = {normalise(text) for text in curated.texts}
    return [record.id for record in records if normalise(record.text) in kept]


def big_sessions(sessions: Sequence[str | None]) -> frozenset[str]:
    """Give the sessions that hold too many of the records to be kept together."""
    limit = max(MIN_BIG_SESSION, MAX_SESSION_SHARE * len(sessions))
    counts = Counter(session for session in sessions if session is not None)
    return frozenset(session for session, n in counts.items() if n > limit)


def shown(output: Any) -> str:
    """Give an output as a label: a text as it is, anything else as JSON."""
    return output if isinstance(output, str) else json.dumps(output, sort_keys=True)


def _order(record: TrainingRecord) -> tuple[Any, ...]:
    """Order by time and id; the rest only decides between records that share both."""
    r = record
    rest = (r.id, r.text, shown(r.output), r.source, r.session or "", repr(r))
    return (r.time is not None, r.time or 0.0, *rest)


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


def _session_links(sessions: Sequence[str | None]) -> tuple[NDArray[np.int64], int, int]:
    """Link each record to its session's first; leave out, and count, sessions too big to keep together."""
    members: dict[str, list[int]] = defaultdict(list)
    for i, session in enumerate(sessions):
        if session is not None:
            members[session].append(i)
    big = big_sessions(sessions)
    links = [(rows[0], i) for name, rows in members.items() if name not in big for i in rows[1:]]
    return np.array(links, dtype=np.int64).reshape(-1, 2), len(big), sum(len(members[name]) for name in big)
