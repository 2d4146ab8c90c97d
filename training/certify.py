"""Certification: chooses the shape of the thresholds on training records, proves them on held-out ones.

Near copies and the records of a session are one draw from the traffic, not many: of each group on the
held-out side one record, drawn at random, is counted by the tests of node and slices.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.policy.walk import LadderPolicy, LocalRung, rungs_that_agree
from training.certificate import Certificate
from training.evaluate import Scored, clopper_pearson, settle
from training.fit import FittedLadder
from training.groups import one_a_group
from training.judge_slices import judge
from training.scope import ScopeLimits, choose_limits
from training.slice_certificate import SlicedCertificate, certify_slices
from training.slices import Slicing, label_slices, stricter
from training.thresholds import (
    Starts,
    choose_skips,
    choose_starts,
    choose_strictness,
    no_looser,
    rung_thresholds,
    to_levels,
)


@dataclass(frozen=True)
class EndToEnd:
    """How often the whole cascade disagrees with the teacher, what the teacher answers itself included.

    Attributes
    ----------
    n, n_disagreed : int
        Held-out records, one a group, and those that would have been settled with another answer than the
        teacher's.
    disagreement, low, high : float
        Their share, with its exact 95 % interval.
    """

    n: int
    n_disagreed: int
    disagreement: float
    low: float
    high: float

    @classmethod
    def of(cls, n_disagreed: int, n: int) -> EndToEnd:
        """Compute share and interval."""
        low, high = clopper_pearson(n_disagreed, n) if n else (0.0, 1.0)
        return cls(n, n_disagreed, n_disagreed / n if n else 0.0, low, high)


@dataclass(frozen=True)
class Proof:
    """What certification came to.

    Attributes
    ----------
    sliced : SlicedCertificate
        The node's certificate and its slices'.
    strictness : tuple of float
        See `training.thresholds`.
    thresholds, skip_below : list of float
        One a local rung.
    starts : Starts
        Where the tests began.
    limits : ScopeLimits
        Where the out-of-scope detector draws the line.
    scored : Scored
        What the ladder says about the held-out records, all of them.
    counted : int array
        Which of them the tests counted: one a group.
    end_to_end : EndToEnd
    """

    sliced: SlicedCertificate
    strictness: tuple[float, ...]
    thresholds: list[float]
    skip_below: list[float]
    starts: Starts
    limits: ScopeLimits
    scored: Scored = field(repr=False)
    counted: NDArray[np.int64] = field(repr=False)
    end_to_end: EndToEnd

    @property
    def certificate(self) -> Certificate:
        """The node's certificate."""
        return self.sliced.certificate

    def void(self, reason: str) -> Proof:
        """Give the same without a valid certificate, because what it takes for granted does not hold."""
        void = replace(
            self.certificate, valid=False, threshold=2.0, n_settled=0, n_wrong=0, agreement_lower=0.0,
            more_records=0, reason=f"the certificate is void: {reason}",
        )  # fmt: skip
        return replace(
            self,
            sliced=replace(self.sliced, certificate=void),
            thresholds=[2.0] * len(self.thresholds),
            end_to_end=EndToEnd.of(0, self.end_to_end.n),
        )

    def settled(self) -> tuple[float, float]:
        """Give which share of all held-out records settles, and the agreement among these; 1 where none."""
        first, _ = settle(self.scored, self.thresholds)
        local = np.flatnonzero(first < len(self.scored.rungs))
        wrong = int((~self.scored.right[local, first[local]]).sum())
        return len(local) / max(len(first), 1), 1 - wrong / max(len(local), 1)

    def live_scores(self) -> NDArray[np.float32]:
        """Give what `score_of` in `cascade.policy.exchangeability` would say of each held-out record."""
        scored = self.scored
        _, ran = settle(scored, self.thresholds)
        last = ran.shape[1] - 1 - ran[:, ::-1].argmax(axis=1)
        sure = scored.confidence[np.arange(len(ran)), last]
        return np.where(ran.any(axis=1), sure, scored.p_right[:, 0] - 1).astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        """Give the certificate as the manifest stores it."""
        return self.certificate.to_json() | {
            "held_out_records": len(self.scored.y),
            "slices": self.sliced.to_json(),
            "end_to_end": dict(vars(self.end_to_end)),
        }


def certify(
    fitted: FittedLadder,
    seen: Mapping[str, NDArray[Any]],
    y: NDArray[np.int64],
    rungs: Sequence[tuple[str, str]],
    bar: float,
    delta: float,
    teacher_means: tuple[float, float] | None = None,
    slicing: Slicing | None = None,
    rung_usd: NDArray[np.float64] | None = None,
    out_of_scope: float = 0.0,
    agreement: bool = False,
    refused: NDArray[np.bool_] | None = None,
    refused_out_of_fold: NDArray[np.bool_] | None = None,
    groups: NDArray[np.int64] | None = None,
    seed: int = 0,
) -> Proof:
    """Choose the thresholds' shape on the training records, and prove their level on held-out ones.

    Parameters
    ----------
    fitted : FittedLadder
        With its out-of-fold opinions on the training records.
    seen : mapping
        What `cascade.ladder.LocalLadder.run_all` says about the held-out records.
    y : int array of shape (n,)
        The teacher's answers to them.
    slicing : Slicing, optional
        By default labels only.
    rung_usd : float array of shape (n_rungs,), optional
        What an answer of each rung cost on average.
    out_of_scope : float
        The share of out-of-scope requests to be prepared for.
    agreement : bool
        Whether an answer settles only where the cheaper rungs that ran gave it too.
    refused : bool array of shape (n, n_rungs, n_validators), optional
        Which answers the node's own validators refuse: so the certificate is of what they leave.
    refused_out_of_fold : bool array of shape (n_train, n_rungs), optional
        The same of the out-of-fold answers, by any of them; only the thresholds' shape depends on it.
    groups : int array of shape (n,), optional
        Group of each held-out record; by default each is one of its own.
    seed : int
        Of the draw of one record a group.
    """
    right = fitted.opinions.right
    confidence = fitted.confidence
    if refused_out_of_fold is not None:
        confidence = np.where(refused_out_of_fold, -np.inf, confidence)
    slicing = slicing or label_slices(fitted.opinions.scores[0].shape[1], bar)
    strictness = choose_strictness(confidence, right, bar, delta)
    floors = choose_skips(fitted.p_right, confidence, strictness, right, bar, delta)
    limits = choose_limits(fitted.scope, confidence, right, strictness, out_of_scope, bar)
    policy = LadderPolicy(
        tuple(
            LocalRung(rung, 2.0, floor, least)
            for (rung, _), floor, least in zip(rungs, floors, limits.at_least, strict=True)
        ),
        certified=False,
    )
    in_scope = policy.admits(seen["in_scope"])
    admitted = in_scope.copy() if refused is None else in_scope & ~refused.any(axis=2)
    if agreement:
        admitted &= rungs_that_agree(policy.worth_running(seen["p_right"]), seen["answer"])
    usd, ms = teacher_means or (math.nan, math.nan)
    scored = Scored(
        confidence=seen["confidence"].astype(np.float64),
        right=seen["answer"] == y[:, None],
        p_right=seen["p_right"].astype(np.float64),
        p_top=seen["p_top"].astype(np.float64),
        worth=policy.worth_running(seen["p_right"]),
        y=y,
        answer=seen["answer"],
        rungs=tuple(rung for rung, _ in rungs),
        rung_usd=np.zeros(len(rungs)) if rung_usd is None else rung_usd,
        rung_ms=np.full(len(rungs), math.nan),
        teacher_usd=usd,
        teacher_ms=ms,
        admitted=admitted,
        in_scope=in_scope,
        refused=refused,
    )
    levels = to_levels(np.where(scored.worth & admitted, scored.confidence, -np.inf), strictness)
    judged = judge(to_levels(confidence, strictness), right, fitted.answers, slicing, bar, delta)
    ids = slicing.members.of(scored.answer, slicing.held_out)
    counted = np.arange(len(y), dtype=np.int64)
    if groups is not None:
        counted = np.sort(one_a_group(counted, groups, np.random.default_rng(seed)))
    starts = choose_starts(len(counted), bar, delta)
    sliced = certify_slices(
        no_looser(stricter(levels, ids, judged.strictness), limits.level)[counted], scored.right[counted],
        [each[counted] for each in ids], slicing, bar, delta, judged,
        len(counted) / max(len(y) + len(right), 1), starts.chains, starts.least,
    )  # fmt: skip
    if len(counted) < len(y):
        reason = (
            f"{sliced.certificate.reason} (of {len(y):,} held-out records one counts of each of "
            f"{len(counted):,} groups of near copies and sessions)"
        )
        sliced = replace(sliced, certificate=replace(sliced.certificate, reason=reason))
    scored = scored.sliced(
        sliced.allowed(scored.answer, slicing.held_out), sliced.asked(scored.answer, slicing.held_out)
    )
    if sliced.certificate.valid:  # nothing settles between the two levels, and nothing may
        level = max(sliced.certificate.threshold, limits.level)
        sliced = replace(sliced, certificate=replace(sliced.certificate, threshold=level))
    thresholds = rung_thresholds(sliced.certificate.threshold, strictness)
    first, _ = settle(scored, thresholds)
    local = counted[first[counted] < len(rungs)]
    wrong = int((~scored.right[local, first[local]]).sum())
    end_to_end = EndToEnd.of(wrong, len(counted))
    return Proof(
        sliced, strictness, thresholds, floors, starts, limits, scored, counted, end_to_end
    )  # fmt: skip
