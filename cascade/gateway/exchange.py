"""One chat completion on its way: what is known of it, and what its headers and the log say of it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cascade.ask import Decided
from cascade.contract import Contract
from cascade.errors import CascadeError, ContractViolation
from cascade.gateway.audit_call import AuditCall
from cascade.gateway.fixed_part import CONTEXT_KEY, fingerprint, has_fixed_part
from cascade.gateway.question import Question
from cascade.gateway.recognise import Recognised
from cascade.gateway.relay import Relay
from cascade.gateway.replies import header_text
from cascade.gateway.shape import AnswerShape
from cascade.server.gone import Gone
from cascade.traffic.records import Call


@dataclass
class Exchange:
    """One request on its way.

    Attributes
    ----------
    body : dict
        What the agent sent.
    relay : Relay
        Passes it on to the frontier, once that is wanted.
    began : float
        Unix seconds.
    found : Recognised, optional
        The node it belongs to, and how that was seen.
    why_not : str
        Why no node decides it; empty where one may.
    question : Question, optional
        What the node is asked.
    shape : AnswerShape, optional
        What an answer of the node's has to look like here.
    contract : Contract, optional
        What even the frontier's answer has to keep; None where that is given as it comes.
    audit_call : AuditCall, optional
        Asks the frontier for an audit.
    decided : Decided, optional
    error : CascadeError, optional
        Why the node did not decide.
    context : dict of str to str
        Logged with the decision and the call.
    request_id : str
    gone : Gone
        Fires when the agent has gone.
    logged : bool
        Whether the log has it; it takes each once.
    """

    body: dict[str, Any]
    relay: Relay
    began: float
    found: Recognised | None = None
    why_not: str = ""
    question: Question | None = None
    shape: AnswerShape | None = None
    contract: Contract | None = None
    audit_call: AuditCall | None = None
    decided: Decided | None = None
    error: CascadeError | None = None
    context: dict[str, str] = field(default_factory=dict)
    request_id: str = ""
    gone: Gone = field(default_factory=Gone)
    logged: bool = False

    @property
    def tenant(self) -> str:
        """Who pays; empty for nobody."""
        return self.context.get("tenant", "")

    @property
    def streams(self) -> bool:
        """Whether the answer is wanted as a stream of events."""
        return bool(self.body.get("stream"))


def headers_of(exchange: Exchange) -> dict[str, str]:
    """Say in headers who answered, and why not somebody else."""
    headers = {"x-cascade-served-by": "frontier"}
    if exchange.found is None:
        body = exchange.body
        fixed = body["messages"], body.get("tools"), body.get("response_format")
        headers["x-cascade-fingerprint"] = fingerprint(*fixed) if has_fixed_part(*fixed) else ""
    else:
        headers |= {"x-cascade-node": exchange.found.node, "x-cascade-recognised-by": exchange.found.how}
    decided = exchange.decided
    if decided is not None:
        local = not exchange.relay.asked
        headers |= {
            "x-cascade-served-by": "ladder" if local else "frontier",
            "x-cascade-rung": decided.rung,
            "x-cascade-mode": decided.mode,
            "x-cascade-decision-id": decided.decision_id,
            "x-cascade-bundle": decided.bundle_version,
        }
        if decided.confidence is not None:
            headers["x-cascade-confidence"] = f"{decided.confidence:.4f}"
        reasons = [f"{attempt.rung}: {attempt.reason}" for attempt in decided.attempts if attempt.reason]
        if reasons:
            headers["x-cascade-why"] = "; ".join(reasons)
    elif exchange.error is not None:
        headers["x-cascade-why"] = f"{exchange.error.reason.lower()}: {exchange.error}"
    elif exchange.why_not:
        headers["x-cascade-why"] = exchange.why_not
    if isinstance(exchange.error, ContractViolation):
        headers["x-cascade-contract"] = "broken"
    return {name: header_text(value) for name, value in headers.items() if value}


def call_of(exchange: Exchange, message: Mapping[str, Any] | None) -> Call:
    """Make a call a record of the traffic log.

    Parameters
    ----------
    message : mapping, optional
        The message that the ladder answered with; None where the answer is the frontier's.
    """
    relay, body = exchange.relay, exchange.body
    error = relay.error() if relay.asked else None
    context = exchange.context | {"served_by": "frontier" if message is None else "ladder"}
    asked = (body["messages"], body.get("tools"), body.get("response_format"))
    if has_fixed_part(*asked):  # of what was sent: what is stored is redacted
        context[CONTEXT_KEY] = fingerprint(*asked)
    if exchange.decided is not None:
        context["decision_id"] = exchange.decided.decision_id
    output = relay.said.message if message is None else message
    read, written = relay.used()
    return Call(
        call_id=f"{time.time_ns():016x}{secrets.token_hex(8)}",
        time=exchange.began,
        tenant=exchange.context.get("tenant"),
        node=exchange.found.node if exchange.found else None,
        model=relay.said.model or str(body.get("model", "")),
        messages=body["messages"],
        tools=body.get("tools"),
        response_format=body.get("response_format"),
        output=None if error else dict(output),
        context=context,
        usd=relay.usd(),
        input_tokens=read,
        output_tokens=written,
        latency_ms=(time.time() - exchange.began) * 1e3,
        error=f"{error.reason}: {error}" if error else None,
    )
