"""What is left of a record once it is redacted: what the traffic log stores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from operator import methodcaller
from typing import Any, cast

from cascade.contract import JsonValue
from cascade.redaction.redactor import Redactor
from cascade.traffic.records import Call, Labelled, Messages, Outcome

Said = tuple[
    Sequence[str | None],
    Sequence[Messages | None],
    Sequence[Mapping[str, str]],
    Sequence[JsonValue],
    Sequence[Sequence[Mapping[str, Any]]],
    Sequence[str | None],
]
"""What of decisions may repeat what was said: their texts, chats, contexts, outputs, attempts and errors."""


def redacted_said(said: Said, nodes: Sequence[str], redactor: Redactor) -> Said:
    """Redact what was said to and by nodes: an answer unless it is a label, and of attempts the reasons."""
    texts, chats, contexts, outputs, attempts, errors = said
    tenants = [""] * len(nodes)
    if any(contexts):
        tenants = [context.get("tenant", "") for context in contexts]
        contexts = redactor.contexts(contexts)
    if any(map(_reason, chain.from_iterable(attempts))):
        attempts = [_attempts(tried, redactor, of) for tried, of in zip(attempts, tenants, strict=True)]
    if chats.count(None) < len(chats):
        chats = [
            None if chat is None else redactor.messages(chat, of)
            for chat, of in zip(chats, tenants, strict=True)
        ]
    outputs = redactor.outputs(nodes, outputs, tenants)
    return (
        _texts(texts, redactor, tenants), chats, contexts, outputs, attempts,
        _texts(errors, redactor, tenants),
    )  # fmt: skip


_reason = methodcaller("get", "reason")


def _attempts(
    attempts: Sequence[Mapping[str, Any]], redactor: Redactor, tenant: str
) -> Sequence[Mapping[str, Any]]:
    return [
        {**each, "reason": redactor.text(each["reason"], tenant)} if each.get("reason") else each
        for each in attempts
    ]


def _texts(texts: Sequence[str | None], redactor: Redactor, tenants: Sequence[str]) -> Sequence[str | None]:
    if None not in texts:
        return redactor.texts(cast(Sequence[str], texts), tenants)
    if not any(texts):
        return texts
    return [_text(text, redactor, of) for text, of in zip(texts, tenants, strict=True)]


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
