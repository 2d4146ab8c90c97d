"""Certificates per slice, beside the node's: which slices are proven, which are fenced, and what each lacks.

A slice is all answers with one label, or all requests with one value of a configured context key. Three
things are decided about slices, and the node's proof and theirs must hold together:

1. *Judgement on training records.* A slice whose out-of-fold answers break the slice bar gets a stricter
   threshold that keeps it, or a fence where none does, before any held-out record is looked at. Which do is
   found by the Benjamini-Hochberg procedure: being strict without need costs savings and breaks no promise,
   so the false discovery rate is the error that matters. Where every slice must be proven, those are fenced
   as well that could not be, were they as good as out of fold.
2. *The node's threshold* is proven on held-out records without the fenced slices, by `learn_then_test`.
3. *Slices on held-out records.* A slice is proven where the exact binomial test rejects "its agreement is
   below the slice bar" at every level from the one where enough of its records settle down to the node's
   threshold: a fixed sequence, so the claim holds at a threshold that the same records chose. Slices share
   delta by Tarone's rule: those that have too few records to be proven even without an error take no part.
   A slice is refuted where "it keeps the slice bar" is rejected (Benjamini-Hochberg again), and fenced then.

Fencing after a look at the held-out records changes what is settled, and a proof on the same records would
flatter what remains. So each set of late fences F has its own part of delta, fixed beforehand: 95 % for the
empty set, and 5 % 2^-m / C(n_slices, m) for each set of m slices. All sets together spend at most delta, so
whichever set the data choose, what is claimed about node and slices is wrong with probability at most delta
(the union bound over a weighted family: Learn-then-Test with weighted Bonferroni).

Where slices are labels only, they do not overlap, and what is proven about one does not depend on fences
of others. Two shorter ways are open then. If all that is settled lies in proven slices whose bar is the
node's or higher, the node's bar follows from theirs. And if the node's bar is proven (on 95 % of delta)
before any late fence, and Holm's procedure (on the other 5 %) then finds slices below a bar that is the
node's or lower, taking them away can only raise the agreement of the rest.

References
----------
Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 1979.
Tarone, "A modified Bonferroni method for discrete data", Biometrics 1990.
Benjamini and Hochberg, "Controlling the false discovery rate", JRSS B 1995.
Maurer, Hothorn and Lehmacher, "Multiple comparisons in drug clinical trials and preclinical assays: a-priori
ordered hypotheses", 1995 (fixed sequences).
Angelopoulos et al., "Learn then Test", Annals of Applied Statistics 2025.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

import training.slice_rules as rule
from training.certificate import LEVELS, STARTS, Certificate, counts_by_slice, learn_then_test
from training.judge_slices import FENCE_FDR, Judged, refuted
from training.slices import Demand, Members, Slicing, not_fenced, settled_by_slice, strictness_of

State = Literal["proven", "covered", "fenced"]


@dataclass(frozen=True)
class SliceLine:
    """One slice's certificate.

    Attributes
    ----------
    dimension, value : str
        `label` and the label, or a context key and its value.
    state : {"proven", "covered", "fenced"}
        With a proof of its own; settled under the node's certificate, with nothing against it; not settled.
    bar : float
        The agreement asked of it.
    n_settled, n_wrong : int
        Of the held-out records, those settled in this slice and those of them that were wrong; for a fenced
        slice, as they would have been.
    agreement : float or None
    agreement_low, agreement_high : float
        Exact 95 % interval of the agreement, for reading, of this slice alone.
    strictness : float
        1 for the node's thresholds t; else the slice settles from 1 - (1 - t) * strictness on.
    p_proof, p_refuted : float
        P-values of the two tests, valid at the threshold that was chosen; not yet adjusted for how many
        slices there are.
    more_records : int
        About how many more held-out records have to settle in this slice for a proof of its own; 0 where it
        has one, -1 where no number would do unless the models get better.
    more_traffic : int
        About how many more records of the whole node that takes, held-out share and slice's share counted;
        0 and -1 as above.
    reason : str
        In plain words.
    """

    dimension: str
    value: str
    state: State
    bar: float
    n_settled: int
    n_wrong: int
    agreement: float | None
    agreement_low: float
    agreement_high: float
    strictness: float
    p_proof: float
    p_refuted: float
    more_records: int
    more_traffic: int
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Give the line as the manifest stores it."""
        return asdict(self)


@dataclass(frozen=True)
class SlicedCertificate:
    """The node's certificate with its slices'.

    Attributes
    ----------
    certificate : Certificate
        The node's, over what is left when fenced slices are taken away.
    members : Members
    demand : Demand
    lines : tuple of SliceLine
        One a slice, in the order of `members.slices`.
    fenced : bool array of shape (n_slices,)
    strictness : float array of shape (n_slices,)
    """

    certificate: Certificate
    members: Members
    demand: Demand
    lines: tuple[SliceLine, ...]
    fenced: NDArray[np.bool_]
    strictness: NDArray[np.float64]

    def asked(
        self, answer: NDArray[np.int64], contexts: Sequence[Mapping[str, str]] = ()
    ) -> NDArray[np.float64]:
        """Give the strictness that each answer is asked: shape (n, n_rungs), as `Members.of`."""
        return strictness_of(self.members.of(answer, contexts), self.strictness)

    def allowed(
        self, answer: NDArray[np.int64], contexts: Sequence[Mapping[str, str]] = ()
    ) -> NDArray[np.bool_]:
        """Say which answers may settle: shape (n, n_rungs), as `Members.of`."""
        return not_fenced(self.members.of(answer, contexts), self.fenced)

    def to_json(self) -> dict[str, Any]:
        """Give the slices as the manifest's certificate stores them, under `slices`."""
        return {
            "context": list(self.members.dimensions[1:]),
            "require": self.demand.require,
            "bar": self.demand.bar,
            "delta": self.certificate.delta,
            "counts": {
                s: sum(line.state == s for line in self.lines) for s in ("proven", "covered", "fenced")
            },
            "table": [line.to_json() for line in self.lines],
        }


def certify_slices(
    levels: NDArray[np.float64],
    right: NDArray[np.bool_],
    ids: Sequence[NDArray[np.int64]],
    slicing: Slicing,
    bar: float,
    delta: float,
    judged: Judged,
    held_out_share: float = 1.0,
    starts: Sequence[tuple[float, float]] = STARTS,
    least: int | None = None,
) -> SlicedCertificate:
    """Prove the node's bar and the slices' on held-out records.

    Parameters
    ----------
    levels : float array of shape (n, n_rungs)
        From `training.thresholds.to_levels` and `stricter`, -inf where a rung is not run.
    right : bool array of shape (n, n_rungs)
    ids : list of int arrays of shape (n, n_rungs)
        From `Members.of`.
    slicing : Slicing
    bar, delta : float
    judged : Judged
        What out-of-fold answers say; `levels` follow its strictness already.
    held_out_share : float
        Share of the node's records that is held out, for `more_traffic`.
    starts, least
        Where the node's tests begin, fixed beforehand: see `learn_then_test`.
    """
    members, demand, before, strictness = slicing.members, slicing.demand, judged.fenced, judged.strictness
    n_slices = len(members.slices)
    at = int(np.searchsorted(-LEVELS, -judged.expected, side="left"))
    at = min(at, len(LEVELS) - 1)
    settled, wrong = everything, mistakes = settled_by_slice(levels, right, ids, n_slices, None, LEVELS)
    hopeless = np.zeros(n_slices, dtype=bool)
    if demand.require == "proven":
        hopeless = ~before & rule.hopeless(everything[:, at] * ~before, demand.bar, delta, judged.rates)
    first = before | hopeless
    free = int((~first).sum())
    sharing = rule.sharing(everything[:, at] * ~first, demand.bar, delta)
    need = rule.needed(everything[:, at], demand.bar, delta / sharing)
    late = np.zeros(n_slices, dtype=bool)
    by_mixture = demand.require == "proven" and members.disjoint and demand.bar >= bar
    by_removal = demand.require == "not-refuted" and members.disjoint and demand.bar <= bar
    certificate: Certificate | None = None
    while True:
        part = rule.part_of_delta(int(late.sum()), free)
        fenced = first | late
        allowed = not_fenced(ids, fenced)
        if certificate is None or not certificate.valid or not by_mixture:
            certificate = learn_then_test(
                levels, right, bar, delta, starts, allowed, delta * part, held_out_share, least
            )
        stop = at
        if certificate.valid:
            stop = int(np.searchsorted(-LEVELS, -certificate.threshold, side="left"))
        if not members.disjoint:
            settled, wrong = settled_by_slice(levels, right, ids, n_slices, allowed, LEVELS)
        p_proof = rule.p_of_proof(settled, wrong, need, stop, demand.bar)
        p_refuted = rule.p_of_refutation(settled, wrong, stop, demand.bar)
        alpha = delta * (1.0 if members.disjoint else part) / sharing
        proven = ~fenced & (p_proof <= alpha) & certificate.valid
        if by_removal and certificate.valid and not late.any():
            late = ~fenced & rule.holm(np.where(fenced, 1.0, p_refuted), delta * (1 - rule.EMPTY_SHARE))
            break
        new = ~fenced & refuted(np.where(fenced, 1.0, p_refuted), FENCE_FDR)
        if not members.disjoint and new.any():  # the worst may be what makes the others look bad
            new = np.arange(n_slices) == np.where(new, p_refuted, np.inf).argmin()
        elif certificate.valid and demand.require == "proven":
            new |= ~fenced & ~proven
        if not new.any():
            break
        late |= new
    removed = by_removal and part == rule.EMPTY_SHARE  # with a smaller part, what is left has its own proof
    if certificate.valid and late.any() and (by_mixture or removed):
        certificate = _narrowed(certificate, levels, right, not_fenced(ids, first | late), by_mixture)
    if demand.require == "proven" and (first | late).all():
        certificate = _none_proven(certificate)
    lines = []
    rate = mistakes[:, stop].sum() / max(everything[:, stop].sum(), 1)
    for k, (dimension, value) in enumerate(members.slices):
        gone = bool(first[k] or late[k])
        use = (everything, mistakes) if gone else (settled, wrong)  # a fenced one as it would have been
        s, w = int(use[0][k, stop]), int(use[1][k, stop])
        state: State = "fenced" if gone else "proven" if proven[k] else "covered"
        more = 0 if state == "proven" else rule.more_for_slice(s, w, float(rate), demand.bar, alpha)
        traffic = more if more <= 0 else math.ceil(more * len(levels) / max(s, 1) / held_out_share)
        why = "training" if before[k] else "forecast" if hopeless[k] else "held-out" if late[k] else ""
        low = float(beta.ppf(0.025, s - w, w + 1)) if s > w else 0.0
        high = float(beta.ppf(0.975, s - w + 1, w)) if w else 1.0
        lines.append(
            SliceLine(
                dimension, value, state, demand.bar, s, w, (s - w) / s if s else None, low, high,
                float(strictness[k]), float(p_proof[k]), float(p_refuted[k]), more, traffic,
                _reason(state, why, s, w, demand, more, bool(p_refuted[k] <= 0.05), bool(strictness[k] < 1)),
            )
        )  # fmt: skip
    return SlicedCertificate(certificate, members, demand, tuple(lines), first | late, strictness)


def _narrowed(
    certificate: Certificate,
    levels: NDArray[np.float64],
    right: NDArray[np.bool_],
    allowed: NDArray[np.bool_],
    by_mixture: bool,
) -> Certificate:
    """Give the node's certificate where it follows from what is proven already.

    By mixture: all that is left is proven. By removal: the bar is proven of all, and what is taken away is
    below it.
    """
    at = np.array([certificate.threshold])
    settled, wrong = counts_by_slice(levels, right, at, np.zeros(right.shape, dtype=np.int64), 1, allowed)
    s, w, n = int(settled[0, 0]), int(wrong[0, 0]), len(levels)
    bar, delta = certificate.bar, certificate.delta
    why = "as every slice that settles is proven" if by_mixture else "as slices that break it are not settled"
    if s == 0:
        return _none_proven(certificate)
    return replace(
        certificate, n_settled=s, n_wrong=w, agreement_lower=bar,
        reason=f"with confidence {1 - delta:.0%}, at least {bar:.1%} of the answers settled locally agree "
        f"with the teacher, {why}: on {n} held-out records {s} were settled "
        f"and {w} of them disagreed",
    )  # fmt: skip


def _none_proven(certificate: Certificate) -> Certificate:
    return replace(
        certificate, valid=False, threshold=2.0, n_settled=0, n_wrong=0, agreement_lower=0.0, more_records=0,
        reason="no slice could be proven, and `slices.require: proven` settles only proven ones; the slices "
        "say how many more records each needs",
    )  # fmt: skip


def _reason(
    state: State, why: str, s: int, w: int, demand: Demand, more: int, doubtful: bool, strict: bool
) -> str:
    counted = f"{w} of {s} held-out answers disagreed with the teacher"
    need = (
        f"about {more:,} more settled held-out records would prove it"
        if more > 0
        else "more records will not prove it unless the models get better"
    )
    if state == "proven":
        return f"proven to agree at least {demand.bar:.1%}: {counted}"
    if state == "covered":
        doubt = "; it looks worse than its bar" if doubtful else ""
        doubt += "; it settles from a stricter threshold only" if strict else ""
        return f"covered by the node's certificate, no proof of its own: {counted}{doubt}; {need}"
    if why == "training":
        return f"its out-of-fold answers break the bar of {demand.bar:.1%}; {counted}; {need}"
    if why == "forecast":
        return f"too little for the proof that is required of each slice: {counted}; {need}"
    if demand.require == "proven":
        return f"not proven, as is required of each slice: {counted}; {need}"
    return f"it breaks the bar of {demand.bar:.1%}: {counted}; {need}"
