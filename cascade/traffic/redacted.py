"""What is left of a record once it is redacted: what the traffic log stores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from cascade.contract import JsonValue
from cascade.redaction.redactor import Redactor
from cascade.traffic.records import Call, Decision, Labelled, Messages, Outcome

Said = tuple[str | None, Messages | None, dict[str, str], JsonValue, Sequence[Mapping[str, Any]], str | None]
"""What of a decision may repeat what was said: text, messages, context, output, attempts, error."""


def said_in(decision: Decision, redactor: Redactor | None) -> Said:
    """Give what was said, redacted where there is a redactor: an answer unless it is a label, and reasons."""
    text, messages, context = decision.text, decision.messages, decision.context
    output, attempts, error = decision.output, decision.attempts, decision.error
    if redactor is None:
        return text, messages, context, output, attempts, error
    tenant = context.get("tenant", "")
    return (
        None if text is None else redactor.text(text, tenant),
        None if messages is None else redactor.messages(messages, tenant),
        redactor.context(context) if context else context,
        redactor.output(decision.node, output, tenant),
        _attempts(attempts, redactor, tenant),
        None if error is None else redactor.text(error, tenant),
    )


def _attempts(
    attempts: Sequence[Mapping[str, Any]], redactor: Redactor, tenant: str
) -> Sequence[Mapping[str, Any]]:
    for each in attempts:
        if each.get("reason"):
            break
    else:
        return attempts
    return [
        {**each, "reason": redactor.text(each["reason"], tenant)} if each.get("reason") else each
        for each in attempts
    ]


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
