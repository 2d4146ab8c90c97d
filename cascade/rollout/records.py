"""What the shared state is made of, beside events: audits, shadow runs, evidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from cascade.contract import JsonValue

EvidenceSource = Literal["audit", "shadow", "no-verdict"]
"""Which teacher's answer a local one was compared with: of an audit, or the one that the caller got while the
candidate ran beside. `no-verdict`: of an audit that could not be judged."""

BROKEN = "the teacher's answer breaks the contract"
"""Why an audit has no verdict. What the teacher said is not part of it: reasons are stored in plain text."""


@dataclass(frozen=True, slots=True)
class Audit:
    """A locally settled decision that the teacher is to be asked about.

    Attributes
    ----------
    decision_id, node, bundle : str
    step : int
        The rollout's step at which it was settled.
    time : float
        When it was drawn, Unix seconds.
    propensity : float
        With which probability it was drawn, in (0, 1].
    rung : str
        The rung that settled it.
    slices : tuple of str
        The certified slices it belongs to.
    own_words : bool
        Whether the teacher is to be asked in the caller's own words, which are not on disk: only the process
        that answered the caller can do so.
    life : int, optional
        The life that the bundle was in then: `cascade.rollout.state.Life.seq`. None where an older Cascade
        wrote it, which did not say.
    """

    decision_id: str
    node: str
    bundle: str
    step: int
    time: float
    propensity: float
    rung: str
    slices: tuple[str, ...] = ()
    own_words: bool = False
    life: int | None = None


@dataclass(frozen=True, slots=True)
class AuditResult:
    """What became of an audit.

    Attributes
    ----------
    audit : Audit
    time : float
        Unix seconds.
    output : JSON value
        The teacher's answer; meaningless where there is an error.
    right : bool, optional
        Whether both agree; None where the audit was given up or has no verdict, which blames nobody.
    usd : float
    input_tokens, output_tokens : int
    error : str
        Why it was given up or has no verdict; empty where it has one.
    answered : bool
        With an error: whether the teacher did answer, so that there is no verdict because of what was asked
        and not because of the moment.
    """

    audit: Audit
    time: float
    output: JsonValue = None
    right: bool | None = None
    usd: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0
    error: str = ""
    answered: bool = False


@dataclass(frozen=True, slots=True)
class ShadowRun:
    """What a candidate answered beside a decision.

    Attributes
    ----------
    decision_id, node, bundle : str
        The bundle is the candidate.
    step : int
    time : float
    answer : JSON value
        What it would have settled; meaningless where it would not have.
    rung : str
        The rung that would have settled; empty where it would have escalated.
    confidence : float, optional
    latency_ms : float
        How long its local rungs took.
    slices : tuple of str
    right : bool, optional
        Whether it equals the teacher's answer, where the teacher answered and it would have settled.
    propensity : float
        With which probability this decision counts as evidence; 0 where it does not.
    life : int, optional
        The candidate's, as an audit's.
    """

    decision_id: str
    node: str
    bundle: str
    step: int
    time: float
    answer: JsonValue
    rung: str
    confidence: float | None = None
    latency_ms: float = 0.0
    slices: tuple[str, ...] = ()
    right: bool | None = None
    propensity: float = 0.0
    life: int | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """Whether one local answer of a bundle was right.

    Attributes
    ----------
    seq : int
        Its place among all evidence; 0 before it is written.
    decision_id, node, bundle : str
    step : int
        The rollout's step at which the answer was settled.
    source : EvidenceSource
    time : float
        Unix seconds.
    right : bool
        Whether it equals the teacher's answer and was not reported wrong by then; False without a meaning
        where there is no verdict.
    propensity : float
        With which probability the decision came to be looked at, in (0, 1].
    slices : tuple of str
    life : int, optional
        The life in which the bundle settled it, as an audit's.
    """

    seq: int
    decision_id: str
    node: str
    bundle: str
    step: int
    source: EvidenceSource
    time: float
    right: bool
    propensity: float
    slices: tuple[str, ...] = ()
    life: int | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What a caller said about a settled answer.

    Attributes
    ----------
    decision_id, node, bundle : str
    time : float
        Unix seconds.
    right : bool
        Whether what was settled is right.
    """

    decision_id: str
    node: str
    bundle: str
    time: float
    right: bool


@dataclass(frozen=True, slots=True)
class SavedGuard:
    """Where a guard's fold over the evidence on a bundle stands, so that a restart need not begin anew.

    Attributes
    ----------
    node, bundle : str
    seq : int
        The last evidence in it.
    state : JSON object
    """

    node: str
    bundle: str
    seq: int
    state: dict[str, Any]
