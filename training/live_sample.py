"""Which records are a fair sample of live traffic: what is held out, and what that is compared with.

Once a ladder serves, the teacher's answers come from what it escalated and from audits. Escalated requests
are harder, so held-out records that were mostly these would differ from training ones for no other reason,
and would say too little about what the serving ladder settles, where a new one may be worse. So an escalated
request counts with the chance that a settled one of its time had of being audited
(`cascade.traffic.live_share`), by the coin that draws audits. The others are learned from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.errors import RetrainRefused
from cascade.rollout.audit import coin
from cascade.text import normalise
from cascade.traffic.records import TrainingRecord
from training.curate import Curated, shown

LEAST = 50
"""Records of a fair sample that the newest traffic must hold: with fewer, its tests see nothing of it."""

MIN_TIMED_SHARE = 0.95
"""Of the records that may be held out, how many must have a time for them to be split by time."""

_DAY = 86_400.0


@dataclass(frozen=True, eq=False)
class LiveSample:
    """A fair sample of live traffic among curated records: arrays of shape (n_records,).

    Attributes
    ----------
    drawn : bool array
    time : float array
        When the latest record with this text that was drawn was asked; NaN without a time.
    asked : float array
        When the latest record with this text was asked, drawn or not.
    stands_for : float array
        How many live requests that one stands for.
    ladder : array of str
        What the serving ladder made of it: see `cascade.traffic.records.LiveShare`.
    """

    drawn: NDArray[np.bool_]
    time: NDArray[np.float64]
    asked: NDArray[np.float64]
    stands_for: NDArray[np.float64]
    ladder: NDArray[np.str_]

    @property
    def whole(self) -> bool:
        """Whether all records are in it, as where no ladder settled anything."""
        return bool(self.drawn.all())

    def __len__(self) -> int:
        return int(self.drawn.sum())

    def newest(self, share: float) -> tuple[int, int, float, float]:
        """Look at the newest `share` of live traffic, of what has a time; there must be some.

        Returns
        -------
        in_sample, requests : int
            How many records of it are in the sample, and how many requests it is.
        since, until : float
        """
        timed = np.flatnonzero(np.isfinite(self.asked))
        order = timed[np.argsort(-self.asked[timed], kind="stable")]
        summed = np.cumsum(self.stands_for[order])
        inside = max(int(np.searchsorted(summed, share * summed[-1], side="right")), 1)
        since, until = float(self.asked[order[inside - 1]]), float(self.asked[order[0]])
        with np.errstate(invalid="ignore"):
            in_sample = int((self.drawn & (self.time >= since)).sum())
        return in_sample, int(summed[inside - 1]), since, until

    def told(self, held_out: NDArray[np.int64]) -> dict[str, Any]:
        """Give what the held-out records are, as the manifest's certificate stores it."""
        of = self.ladder[held_out]
        return {
            "audited": int((of == "settled").sum()), "escalated": int((of == "escalated").sum()),
            "unselected": int((of == "").sum()), "only_learned_from": int((~self.drawn).sum()),
        }  # fmt: skip


def live_sample(records: Sequence[TrainingRecord], curated: Curated) -> LiveSample:
    """Draw the fair sample.

    A text is in it where a record of it with the settled label is.
    """
    at = {normalise(text): i for i, text in enumerate(curated.texts)}
    n = len(curated)
    drawn, missed = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
    time = np.full(n, np.nan)
    asked = np.array([np.nan if r.time is None else r.time for r in curated.records], dtype=np.float64)
    stands_for, ladder = np.ones(n), np.zeros(n, dtype="<U9")
    ids = {record.id: i for i, record in enumerate(curated.records)}
    for record in records:
        i = at.get(normalise(record.text))
        if i is None or shown(record.output) != curated.records[i].label:
            continue
        live = record.live
        if ids.get(record.id) == i:
            stands_for[i] = live.stands_for
        if live.chance < 1 and coin(record.id) >= live.chance:
            missed[i] = True
            continue
        moment = np.nan if record.time is None else record.time
        if not drawn[i] or not moment <= time[i]:
            time[i], ladder[i] = moment, live.ladder
        drawn[i] = True
    time = np.where(missed, time, asked)  # of a text all of whose records are drawn, curation says when
    return LiveSample(drawn, time, asked, stands_for, ladder)


def refuse_too_thin(name: str, sample: LiveSample, share: float, needed: int) -> None:
    """Refuse a sample that holds too little of the newest traffic, or too little at all.

    Parameters
    ----------
    share : float
        The newest share of live traffic that is looked at.
    needed : int
        Records that the sample must hold in all.

    Raises
    ------
    RetrainRefused
    """
    if sample.whole:
        return
    drawn = sample.time[sample.drawn]
    if len(drawn) and float(np.isfinite(drawn).mean()) < MIN_TIMED_SHARE:
        # Drawn by lot, not by time: an import without times, and some live traffic after it.
        if len(sample) >= needed:
            return
        raise RetrainRefused(
            f"node {name}: too few known answers are a fair sample of its traffic: {len(sample):,}, and "
            f"{needed:,} are needed. What the ladder escalates counts no more often there than what it "
            "settles is audited. Raise `rollout.audit.floor` and `rollout.audit.ceiling`, or import more "
            "labelled records. Nothing was changed"
        )
    inside, requests, since, until = sample.newest(share)
    if inside >= LEAST and len(sample) >= needed:
        return
    days = max((until - since) / _DAY, 1e-9)
    lacking = max((LEAST - inside) / share, needed - len(sample))
    wait = (
        f"wait about {math.ceil(lacking * days / inside):,} days at this pace"
        if inside
        else "wait for audits to be answered"
    )
    moment = datetime.fromtimestamp(since, UTC).strftime("%Y-%m-%d %H:%M")
    raise RetrainRefused(
        f"node {name}: too few known answers are a fair sample of its live traffic. Of the newest "
        f"{share:.0%} of it, some {requests:,} requests since {moment} (UTC), {inside:,} are, and {LEAST} "
        f"are needed; in all {len(sample):,} are, and {needed:,} are needed. What the ladder escalates "
        "counts no more often there than what it settles is audited; the other answers are learned from and "
        "prove nothing. Raise `rollout.audit.floor` and `rollout.audit.ceiling` (and where it is spent "
        f"`rollout.audit.daily_usd`), or {wait}. Nothing was changed"
    )
