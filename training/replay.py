"""Replays logged decisions through a bundle's ladder: what it would have cost, got wrong and escalated.

The ladder is the served one, `cascade.server.local.walk_local` with the node's contract and validators. No
chat model is asked: where the log knows the right answer, the teacher's part is known too, and a chat rung
below the teacher is taken to fail.

What is known is not a random part of the log: a ladder that was live has the teacher's answers to what it
escalated, and only audits and reported outcomes about what it settled. So rightness is estimated in two
strata, decisions that the teacher answered and decisions that were settled locally, each with its own
share, and a stratum in which nothing is known is named. Decisions whose text the bundle was trained on are
left out, as they would look too easy.

References
----------
Horvitz and Thompson, "A Generalization of Sampling Without Replacement From a Finite Universe", JASA 1952.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.ask import Ask
from cascade.bundle import Bundle
from cascade.contract import Contract, JsonValue
from cascade.redaction import PLACEHOLDER
from cascade.server.latency import LatencyRecord
from cascade.server.local import Walk, walk_local
from cascade.text import flatten_messages
from cascade.traffic import Decision
from cascade.validators import Validator
from training.evaluate import clopper_pearson
from training.held_out import Hashes, text_hashes

Floats = NDArray[np.float64]
Interval = tuple[float, float]
Progress = Callable[[str], None]

AT_ONCE = 256
N_BOOTSTRAP = 300
N_EXAMPLES = 200
"""Wrong answers that are kept, at most."""


@dataclass(frozen=True)
class Truth:
    """What the right answer to a logged decision is.

    Attributes
    ----------
    output : JSON value
    weight : float
        1 / the chance that it became known: above 1 for an audited decision.
    """

    output: JsonValue
    weight: float = 1.0


@dataclass(frozen=True)
class Figure:
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def interval(self) -> Interval:
        """Low and high."""
        return self.low, self.high


@dataclass(frozen=True)
class Charges:
    """What a ladder is charged besides the teacher's answers.

    Attributes
    ----------
    cpu_hour : float
        Dollars for an hour of one core.
    rung_ms : mapping of rung to float
        Milliseconds of one core that one run of each local rung takes.
    audit_share : float
        Share of what settles that the teacher is asked about as well.
    retraining : float
        Dollars a decision.
    """

    cpu_hour: float
    rung_ms: Mapping[str, float]
    audit_share: float = 0.0
    retraining: float = 0.0


@dataclass(frozen=True)
class Replay:
    """What a bundle would have done with a part of the log.

    Attributes
    ----------
    node, version : str
    n : int
        Decisions that were replayed.
    n_trained_on, n_without_answer : int
        Decisions that were left out: their text was trained on; they failed and have no input to judge.
    n_known, n_unknown_label : int
        Replayed decisions whose right answer is known; those of them with an answer that no local rung gives.
    knows_training : bool
        Whether the bundle says what it was trained on; without that, some of what it learned may be replayed.
    settled : Figure
        Share that settles locally.
    escalated : Figure
        Share that goes to the teacher.
    by_rung : dict of str to float
        Share that each local rung settles.
    wrong : Figure, optional
        Share of all decisions that would be answered otherwise than the truth; None where nothing is known.
    agreement : Figure, optional
        Agreement among what settles; None where nothing of it is known.
    usd, always_teacher_usd, saved : Figure
        Dollars per 1,000 decisions: of this ladder (the teacher with its retries, local rungs, failed drafts,
        audits, retraining), of the teacher alone, and the difference.
    local_ms : float
        Mean milliseconds of local rungs a decision.
    reasons : list of (str, int)
        Why local answers did not settle, the commonest first.
    blind : str
        Which stratum nothing is known about; empty for none.
    fence : str
        Why the bundle would settle nothing if it was served with the present configuration; empty where it
        would settle as it does here.
    n_other_teacher : int
        Right answers in the window that another teacher than the configured one gave.
    price_from : {"log", "traffic", "price list"}
        What tells the price of the teacher's answers: the replayed decisions, the node's other traffic, or
        the price per token.
    wrong_examples : list of dict
        The first `N_EXAMPLES` decisions that would have been settled wrong: id, text, truth, answer, rung and
        confidence.
    """

    node: str
    version: str
    n: int
    n_trained_on: int
    n_without_answer: int
    n_known: int
    knows_training: bool
    settled: Figure
    escalated: Figure
    by_rung: dict[str, float]
    wrong: Figure | None
    agreement: Figure | None
    usd: Figure
    always_teacher_usd: Figure
    saved: Figure
    local_ms: float
    reasons: list[tuple[str, int]]
    blind: str
    wrong_examples: list[dict[str, Any]] = field(repr=False)
    fence: str = ""
    n_other_teacher: int = 0
    n_unknown_label: int = 0
    price_from: str = ""

    def to_json(self) -> dict[str, Any]:
        """Give everything as JSON values."""
        return asdict(self)


@dataclass
class _Log:
    """Columns of what was replayed, one entry a decision."""

    by_teacher: list[bool] = field(default_factory=list)
    local_before: list[bool] = field(default_factory=list)  # neither where nobody answered
    rung: list[int] = field(default_factory=list)
    right: list[float] = field(default_factory=list)  # NaN: not known
    weight: list[float] = field(default_factory=list)
    local_ms: list[float] = field(default_factory=list)
    local_usd: list[float] = field(default_factory=list)
    n_bytes: list[int] = field(default_factory=list)
    paid: list[float] = field(default_factory=list)  # NaN: the teacher was not asked


def replay(
    decisions: Iterable[Decision],
    truths: Mapping[str, Truth],
    bundle: Bundle,
    contract: Contract,
    validators: Sequence[Validator],
    charges: Charges,
    fallback_usd: float,
    trained: Hashes | None = None,
    seed: int = 0,
    progress: Progress = lambda _: None,
    per_byte_usd: float = 0.0,
) -> Replay:
    """Take logged decisions through a ladder.

    Parameters
    ----------
    decisions : iterable of Decision
        Of the bundle's node.
    truths : mapping of decision id to Truth
    bundle : Bundle
    contract : Contract
        The node's.
    validators : sequence of callable
        The node's own.
    charges : Charges
    fallback_usd, per_byte_usd : float
        What a teacher's answer costs, where the log does not tell: to an empty text, and by the byte.
    trained : uint64 array, optional
        Hashes of the texts that the bundle was trained on.
    seed : int
        Of the bootstrap.
    """
    log, reasons, examples = _Log(), Counter[str](), list[dict[str, Any]]()
    latency = {rung.name: LatencyRecord() for rung in bundle.policy.rungs}
    index = {rung.name: r for r, rung in enumerate(bundle.policy.rungs)}
    labels = list(bundle.contract.labels)
    n_trained = n_failed = n_unknown = 0
    for part in parts(iter(decisions)):
        usable = [d for d in part if d.text is not None or d.messages]
        n_failed += len(part) - len(usable)
        texts = [decision_text(decision) for decision in usable]
        if trained is not None and usable:
            keep = ~np.isin(text_hashes(texts), trained)
            n_trained += int((~keep).sum())
            usable = [d for d, kept in zip(usable, keep, strict=True) if kept]
            texts = [text for text, kept in zip(texts, keep, strict=True) if kept]
        asks = [
            Ask(d.node, text, d.messages or (), d.context, choices=d.choices)
            for d, text in zip(usable, texts, strict=True)
        ]
        for decision, text, walk in zip(
            usable,
            texts,
            walk_local(asks, bundle, contract, validators, latency) if asks else [],
            strict=True,
        ):
            truth = truths.get(decision.decision_id)
            _note(log, decision, text, walk, truth, index, charges)
            n_unknown += truth is not None and truth.output not in labels
            reasons.update(_word(attempt.reason) for attempt in walk.attempts if attempt.reason)
            if walk.rung and truth is not None and walk.output != truth.output and len(examples) < N_EXAMPLES:
                examples.append({
                    "id": decision.decision_id, "text": text, "truth": truth.output, "answer": walk.output,
                    "rung": walk.rung, "confidence": walk.confidence,
                })  # fmt: skip
        progress(f"replayed {len(log.rung):,} decisions")
    found = _figures(
        log, reasons, examples, bundle, charges, (fallback_usd, per_byte_usd), n_trained, n_failed,
        trained is not None, seed,
    )  # fmt: skip
    return replace(found, n_unknown_label=n_unknown)


def parts(decisions: Iterator[Decision]) -> Iterator[list[Decision]]:
    """Give a log in pieces of `AT_ONCE`."""
    while part := list(islice(decisions, AT_ONCE)):
        yield part


def decision_text(decision: Decision) -> str:
    """Give a decision's input as local rungs read it."""
    text = flatten_messages(decision.messages) if decision.messages else decision.text or ""
    return PLACEHOLDER.sub(r"<\1>", text)  # as rungs read it when it was asked


def stratum(decision: Decision) -> int:
    """Say who answered: 0 the teacher, 1 a local rung, -1 nobody."""
    return -1 if decision.error is not None else 0 if decision.by_teacher else 1


def _note(
    log: _Log,
    decision: Decision,
    text: str,
    walk: Walk,
    truth: Truth | None,
    index: Mapping[str, int],
    charges: Charges,
) -> None:
    ms = sum(charges.rung_ms.get(attempt.rung, 0.0) for attempt in walk.attempts if attempt.latency_ms > 0)
    log.by_teacher.append(stratum(decision) == 0)
    log.local_before.append(stratum(decision) == 1)
    log.rung.append(index.get(walk.rung, -1))
    log.right.append(np.nan if truth is None else float(not walk.rung or walk.output == truth.output))
    log.weight.append(0.0 if truth is None else truth.weight)
    log.local_ms.append(ms)
    log.local_usd.append(ms * charges.cpu_hour / 3_600_000 + walk.usd)
    log.n_bytes.append(len(text.encode("utf-8", "replace")))
    log.paid.append(decision.usd if decision.by_teacher and decision.usd > 0 else np.nan)


def _word(reason: str) -> str:
    """Shorten a reason to what can be counted: `confidence`, `validator: name`, `uncertified: slice x=y`."""
    words = reason.split(":")
    if words[0] == "validator" and len(words) > 1:
        return f"validator: {words[1].split(' raised ')[0].strip()}"
    if words[0] == "uncertified" and len(words) > 1 and words[1].startswith(" slice "):
        return ":".join(words[:2])
    return words[0].split(" ")[0]


def teacher_usd(n_bytes: Floats, paid: Floats, fallback: float, per_byte: float = 0.0) -> Floats:
    """Estimate what the teacher asks for each decision, from what it asked where it was asked.

    A line over the length of the input, because what a live ladder escalates may be longer than what it
    settles; the mean, where there is too little to fit one.

    Parameters
    ----------
    n_bytes, paid : float arrays of shape (n,)
        Length of the input, and dollars paid, NaN where the teacher was not asked.
    fallback, per_byte : float
        Dollars where nothing was ever paid: of an empty input, and what each byte of it adds.
    """
    known = np.isfinite(paid)
    if not known.any():
        return fallback + per_byte * n_bytes
    mean = float(paid[known].mean())
    if known.sum() < 30 or np.ptp(n_bytes[known]) == 0:
        return np.where(known, paid, mean)
    slope, start = np.polyfit(n_bytes[known], paid[known], 1)
    line = np.clip(start + slope * n_bytes, paid[known].min(), paid[known].max())
    return np.where(known, paid, line)


def _figures(
    log: _Log,
    reasons: Counter[str],
    examples: list[dict[str, Any]],
    bundle: Bundle,
    charges: Charges,
    fallback: tuple[float, float],
    n_trained: int,
    n_failed: int,
    knows_training: bool,
    seed: int,
) -> Replay:
    rung, right = np.array(log.rung, dtype=np.int64), np.array(log.right, dtype=np.float64)
    by_teacher, before = np.array(log.by_teacher, dtype=bool), np.array(log.local_before, dtype=bool)
    n, local = len(rung), rung >= 0
    strata = ((each, int(each.sum())) for each in (by_teacher, before))
    weight = strata_weights(np.array(log.weight, dtype=np.float64), strata)
    teacher = teacher_usd(np.array(log.n_bytes, dtype=np.float64), np.array(log.paid), *fallback)
    spent = np.array(log.local_usd, dtype=np.float64) + charges.retraining
    spent += np.where(local, charges.audit_share * teacher, teacher)
    rng = np.random.default_rng(seed)
    draws = [rng.integers(0, n, n) for _ in range(N_BOOTSTRAP)] if n else []

    def dollars(each: Floats) -> Figure:
        if not n:
            return Figure(0.0, 0.0, 0.0)
        low, high = np.percentile([each[draw].mean() for draw in draws], [2.5, 97.5])
        return Figure(1000 * float(each.mean()), 1000 * float(low), 1000 * float(high))

    blind = []
    for name, stratum in (("what the teacher answered", by_teacher), ("what was settled locally", before)):
        if stratum.any() and not (weight[stratum] > 0).any():
            blind.append(name)
    return Replay(
        node=bundle.node, version=bundle.version, n=n, n_trained_on=n_trained, n_without_answer=n_failed,
        n_known=int(np.isfinite(right).sum()), knows_training=knows_training,
        settled=_share(local, np.ones(n)), escalated=_share(~local, np.ones(n)),
        by_rung={r.name: float((rung == i).mean()) if n else 0.0 for i, r in enumerate(bundle.policy.rungs)},
        wrong=_rate(right == 0, weight, np.ones(n, dtype=bool)), agreement=_rate(right == 1, weight, local),
        usd=dollars(spent), always_teacher_usd=dollars(teacher), saved=dollars(teacher - spent),
        local_ms=float(np.mean(log.local_ms)) if n else 0.0, reasons=reasons.most_common(),
        blind=" and ".join(blind), wrong_examples=examples,
        price_from="log" if np.isfinite(log.paid).any() else "",
    )  # fmt: skip


def strata_weights(weight: Floats, strata: Iterable[tuple[NDArray[np.bool_], int]]) -> Floats:
    """Scale the weights of what is known so that each stratum counts as large as it is in the log.

    Parameters
    ----------
    weight : float array of shape (n,)
        0 where nothing is known.
    strata : iterable of (bool array of shape (n,), int)
        Which belong to a stratum, and how many decisions of the log do.
    """
    out = np.zeros_like(weight)
    for which, size in strata:
        total = weight[which].sum()
        if total > 0:
            out[which] = weight[which] / total * size
    return out


def _share(which: NDArray[np.bool_], weight: Floats) -> Figure:
    found = _rate(which, weight, np.ones(len(which), dtype=bool))
    return found or Figure(0.0, 0.0, 1.0)


def _rate(hit: NDArray[np.bool_], weight: Floats, among: NDArray[np.bool_]) -> Figure | None:
    """Give the weighted share of hits, with the exact interval of as many records as the weights count."""
    w = np.where(among, weight, 0.0)
    total = float(w.sum())
    if total <= 0:
        return None
    share = min(float((w * hit).sum()) / total, 1.0)
    n_effective = total**2 / float((w**2).sum())
    low, high = clopper_pearson(share * n_effective, n_effective)
    return Figure(share, low, high)
