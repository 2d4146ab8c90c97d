"""What traffic is made of: decisions, reported outcomes, imported records, and what retraining reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from cascade.contract import JsonValue

Messages = tuple[tuple[str, str], ...]
"""A chat: `(role, content)` of each message, in order."""

Source = Literal["teacher", "outcome", "import"]
"""Where the truth of a training record comes from."""


@dataclass(slots=True)
class Decision:
    """One answered (or failed) request, as the server logs it. Nobody changes one: see `cascade.ask`.

    Attributes
    ----------
    decision_id : str
        Unique over all nodes.
    node : str
        The node that was asked.
    time : float
        Unix seconds.
    request_id : str or None
        The caller's idempotency key, if it gave one.
    text, messages : str or None, Messages or None
        The input; one of the two.
    choices : tuple of str
        The labels that were allowed; empty when all were.
    context : dict
        The caller's context; `context["session"]` becomes the training record's session.
    output : JSON value
        The answer; None where there is an error.
    rung : str
        The rung that settled it.
    by_teacher : bool
        Whether that rung is the teacher.
    confidence : float or None
        P(right) as the acceptor saw it, in [0, 1].
    bundle_version, mode : str
        What served it.
    attempts : list of dict
        Every attempt, as JSON objects.
    usd : float
        What it cost, in dollars.
    input_tokens, output_tokens : int
        Tokens over all attempts.
    latency_ms : float
        Milliseconds from request to answer.
    error : str or None
        Why there is no answer.
    """

    decision_id: str
    node: str
    time: float
    request_id: str | None
    text: str | None
    messages: Messages | None
    choices: tuple[str, ...]
    context: dict[str, str]
    output: JsonValue
    rung: str
    by_teacher: bool
    confidence: float | None
    bundle_version: str
    mode: str
    attempts: list[dict[str, Any]]
    usd: float
    input_tokens: int
    output_tokens: int
    latency_ms: float
    error: str | None


@dataclass(frozen=True, slots=True)
class Call:
    """One raw call of an agent to a chat model, as the gateway captured it: what discovery reads.

    Attributes
    ----------
    call_id : str
        Unique.
    time : float
        Unix seconds.
    tenant : str or None
        Whose call it was.
    node : str or None
        The node that the caller named or that was recognised; None where neither is known.
    model : str
        The model that was asked for.
    messages : list of JSON objects
        As sent: `role`, `content` (a text or parts), `tool_calls`, ...
    tools : list of JSON objects or None
        The tools that were offered, as sent.
    response_format : JSON value
        As sent; None where it was not.
    output : JSON value
        The assistant's message (`content`, `tool_calls`); None where there is an error.
    context : dict of str to str
        What else is known: session, user agent, trace id.
    usd : float
        What it cost, in dollars.
    input_tokens, output_tokens : int
        As the model reported them.
    latency_ms : float
        Milliseconds from request to the last byte of the answer.
    error : str or None
        Why there is no answer.
    """

    call_id: str
    time: float
    tenant: str | None
    node: str | None
    model: str
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None
    response_format: JsonValue
    output: JsonValue
    context: dict[str, str] = field(default_factory=dict)
    usd: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0
    latency_ms: float = 0.0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a caller later reported about a decision.

    Attributes
    ----------
    outcome_id, decision_id : str
        Its own id, and the decision's.
    time : float
        Unix seconds.
    output : JSON value or None
        The answer that would have been right; None when the caller does not say (so the JSON value null
        cannot be reported as the right answer).
    right : bool or None
        Whether the decision's answer was right; None when the caller does not say. `output` wins over it.
    node, tenant : str or None
        The decision's, where the reporter knows them: whether the output is a label, which is never redacted,
        and whose placeholders it gets.
    """

    outcome_id: str
    decision_id: str
    time: float
    output: JsonValue | None
    right: bool | None
    node: str | None = None
    tenant: str | None = None


@dataclass(frozen=True, slots=True)
class Labelled:
    """One imported record: an input and its right output.

    Attributes
    ----------
    node, id : str
        Unique together.
    text, messages : str or None, Messages or None
        The input; one of the two.
    output : JSON value
        The right answer.
    session : str or None
        Records of one session stay on one side of a split.
    time : float or None
        Unix seconds.
    tenant : str or None
        Whose record it is.
    context : mapping of str to str
        What else is known of the request, as a decision's context; slices are named by it.
    """

    node: str
    id: str
    text: str | None
    messages: Messages | None
    output: JsonValue
    session: str | None = None
    time: float | None = None
    tenant: str | None = None
    context: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LiveShare:
    """What a known answer says about live traffic: see `cascade.traffic.live_share`.

    Attributes
    ----------
    ladder : {"", "settled", "escalated"}
        What a serving ladder made of the request; empty where none settled anything then: imports, the time
        before the first bundle, and that of a fenced one.
    chance : float
        With which it belongs to a fair sample of live traffic.
    stands_for : float
        How many live requests it stands for.
    """

    ladder: Literal["", "settled", "escalated"] = ""
    chance: float = 1.0
    stands_for: float = 1.0


@dataclass(frozen=True, slots=True)
class TrainingRecord:
    """An input whose right output is known, whatever it came from.

    Attributes
    ----------
    id : str
        The decision's id, or the imported record's.
    text : str
        The input as local rungs read it; a chat is flattened.
    messages : Messages or None
        The chat, if the input was one.
    output : JSON value
        The right answer.
    source : {"teacher", "outcome", "import"}
        Who says that it is right.
    session : str or None
        Records of one session stay on one side of a split.
    time : float or None
        Unix seconds; None only for imported records that carry none.
    context : mapping of str to str
        The request's context: what slices are named by.
    teacher : str
        Which teacher answered, by `cascade.fences.Teacher.name`; empty where that is not known.
    propensity : float
        With which probability it came to be known, in (0, 1]: below 1 for what was settled locally and
        audited. Whoever estimates something about all traffic weighs it by one over this.
    live : LiveShare
        Its part in a fair sample of live traffic.
    """

    id: str
    text: str
    messages: Messages | None
    output: JsonValue
    source: Source
    session: str | None
    time: float | None
    context: Mapping[str, str] = field(default_factory=dict)
    teacher: str = ""
    propensity: float = 1.0
    live: LiveShare = LiveShare()


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line of a traffic file that is refused: its number, from 1, and why."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class ImportCount:
    """What an import did.

    Attributes
    ----------
    added : int
        Records that are new.
    already_there : int
        Records whose `(node, id)` was there before.
    bad_lines : tuple of BadLine
        Lines that were skipped; only files have them.
    differing : tuple of str
        Ids of those that were there with another output: replaced where that was asked for, else left.
    """

    added: int
    already_there: int
    bad_lines: tuple[BadLine, ...] = field(default=())
    differing: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class StoreStats:
    """What became of the records given to a store since it was opened: decisions, outcomes, calls together.

    Attributes
    ----------
    written : int
        Committed to disk.
    dropped : int
        Never taken: the queue was full or the store closed.
    failed : int
        Taken but not written: the disk failed, the record cannot be stored, or the outcome's decision is
        unknown.
    waiting : int
        Taken and not settled yet.
    """

    written: int
    dropped: int
    failed: int
    waiting: int
