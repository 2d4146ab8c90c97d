"""What is left of a record once it is redacted: what the traffic log stores."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from cascade.redaction.redactor import Redactor
from cascade.traffic.records import Call, Decision, Labelled, Outcome


def redacted_decision(decision: Decision, redactor: Redactor) -> Decision:
    """Redact the question, the answer unless it is a label, the context, and the reasons."""
    tenant = decision.context.get("tenant", "")
    text = _text(decision.text, redactor, tenant)
    messages = None if decision.messages is None else redactor.messages(decision.messages, tenant)
    context = redactor.context(decision.context) if decision.context else decision.context
    output = redactor.output(decision.node, decision.output, tenant)
    attempts = decision.attempts
    if any([attempt.get("reason") for attempt in attempts]):  # noqa: C419  a list takes half as long
        attempts = [
            {**attempt, "reason": redactor.text(attempt["reason"], tenant)}
            if attempt.get("reason")
            else attempt
            for attempt in attempts
        ]
    error = _text(decision.error, redactor, tenant)
    said = (decision.text, decision.messages, decision.context, decision.output, decision.error)
    if said == (text, messages, context, output, error) and attempts == decision.attempts:
        return decision
    return replace(
        decision, text=text, messages=messages, context=context, output=output, attempts=attempts, error=error
    )


def redacted_outcome(outcome: Outcome, redactor: Redactor) -> Outcome:
    """Redact the right answer unless it is a label."""
    return replace(outcome, output=redactor.output(outcome.node, outcome.output, outcome.tenant or ""))


def redacted_labelled(record: Labelled, redactor: Redactor) -> Labelled:
    """Redact an imported record like a decision."""
    tenant = record.tenant or ""
    return replace(
        record,
        text=_text(record.text, redactor, tenant),
        messages=None if record.messages is None else redactor.messages(record.messages, tenant),
        output=redactor.output(record.node, record.output, tenant),
        session=_text(record.session, redactor, tenant),
        context=redactor.context(record.context, tenant),
    )


def redacted_call(call: Call, redactor: Redactor) -> Call:
    """Redact the chat, the answer and the context; tools and formats are the program's, not a person's."""
    tenant = call.tenant or call.context.get("tenant", "")
    return replace(
        call,
        messages=cast(list[dict[str, Any]], redactor.value(call.messages, tenant)),
        output=redactor.value(call.output, tenant),
        context=redactor.context(call.context, tenant),
        error=_text(call.error, redactor, tenant),
    )


def _text(text: str | None, redactor: Redactor, tenant: str) -> str | None:
    return None if text is None else redactor.text(text, tenant)
