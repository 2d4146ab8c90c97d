"""One question to a node and its decision, as everything below the gRPC layer sees them.

Nobody changes one that is made. They are not frozen, because making one that is takes five times as long.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from cascade.contract import JsonValue
from cascade.rungs.protocol import Answer, Query

if TYPE_CHECKING:
    from cascade.server.gone import Gone

Mode = Literal["passthrough", "shadow", "live"]
"""How a request is served: by the teacher, by the teacher with a candidate beside it, or by the ladder."""


class Teacher(Protocol):
    """Whoever asks the frontier model for this one question."""

    def submit(self, query: Query) -> Future[Answer]:
        """Ask; the future gives an answer, failures included, and never raises but when it is cancelled."""
        ...


@dataclass(slots=True)
class Ask:
    """A valid question.

    Attributes
    ----------
    node : str
        The node's name.
    text : str
        The plain text; a chat is flattened by `cascade.text.flatten_messages`.
    messages : tuple of (role, content)
        The chat, where the input is one; empty otherwise.
    context : mapping of str to str
        Tenant, session and whatever flags target.
    request_id : str
        The caller's id, empty for none.
    choices : tuple of str
        The labels that are allowed now, empty for all.
    deadline : float, optional
        `time.monotonic()` at which the caller gives up.
    gone : Gone, optional
        Tells when the caller goes away.
    teacher : Teacher, optional
        Asks the teacher in the caller's own words instead of the node's prompt.
    audit_teacher : Teacher, optional
        Asks the same once more for an audit, when the call is over: it may be asked again and again, and
        keeps nothing of the call open. None where an audit asks with the node's prompt.
    refuses : callable, optional
        The caller's own check of a local answer: why it cannot take it, or None where it can.
    on_wait : callable, optional
        Called, in any thread, once nothing is left to do for the question but to wait: for the teacher, or
        for another caller who is having the same one decided. Must not take long.
    """

    node: str
    text: str
    messages: tuple[tuple[str, str], ...] = ()
    context: Mapping[str, str] = field(default_factory=dict)
    request_id: str = ""
    choices: tuple[str, ...] = ()
    deadline: float | None = None
    gone: Gone | None = field(default=None, compare=False)
    teacher: Teacher | None = field(default=None, compare=False)
    audit_teacher: Teacher | None = field(default=None, compare=False)
    refuses: Callable[[JsonValue], str | None] | None = field(default=None, compare=False)
    on_wait: Callable[[], object] | None = field(default=None, compare=False)

    @property
    def scoped_request_id(self) -> str:
        """The request id as it is logged: within its tenant, so that no tenant gets another's answer."""
        tenant = self.context.get("tenant")
        return f"{tenant}/{self.request_id}" if tenant and self.request_id else self.request_id


@dataclass(slots=True)
class Attempt:
    """One rung's try.

    Attributes
    ----------
    rung : str
    p_right_before, confidence_after : float, optional
        The difficulty model's and the acceptor's probability, where they gave one.
    latency_ms : float
        How long the rung took, waiting included.
    reason : str
        Why it did not settle; empty where it did. Starts with a stable word: `skipped`, `contract`,
        `confidence`, `validator`, `error`, `deadline`, `uncertified`, `uneconomic`,
        `out-of-scope`.
        `validator: not certified: ` means that a validator that the certificate does not know refused it;
        the request went straight to the teacher then.
        `uncertified: slice <dimension>=<value>: ...` means that the answer lies in a part of the traffic that
        the certificate does not cover; the request went straight to the teacher then. With other words after
        `uncertified: `, the whole bundle is fenced off, for instance because the teacher changed.
    teacher : str
        For the teacher: which one answered, by `cascade.fences.Teacher.name`, so that retraining after a
        change does not learn from the old one.
    """

    rung: str
    p_right_before: float | None = None
    confidence_after: float | None = None
    latency_ms: float = 0.0
    reason: str = ""
    teacher: str = ""


@dataclass(slots=True)
class Decided:
    """A decision.

    Attributes
    ----------
    decision_id : str
    output : JSON value
        Satisfies the node's contract.
    rung : str
        The rung that gave it.
    confidence : float, optional
        The acceptor's P(right) for a local rung; None for the teacher.
    bundle_version : str
        Empty where the node has none.
    mode : Mode
    attempts : tuple of Attempt
        Every rung that was tried, in order; the last one settled.
    usd : float
    input_tokens, output_tokens : int
    request_id : str
        Echo of the caller's id.
    """

    decision_id: str
    output: JsonValue
    rung: str
    confidence: float | None
    bundle_version: str
    mode: Mode
    attempts: tuple[Attempt, ...]
    usd: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0
    request_id: str = ""
