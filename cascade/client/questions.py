"""What a caller asks, and the request messages it becomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cascade import json_value
from cascade.v1 import decision_pb2 as pb

Chat = Sequence[Mapping[str, str] | tuple[str, str]]
"""Messages, oldest first: `{"role": ..., "content": ...}` or `(role, content)`."""


@dataclass(frozen=True)
class Question:
    """One input of a node. Exactly one of `text` and `messages` is to be given.

    Attributes
    ----------
    node : str
    text : str, optional
    messages : sequence of mappings or pairs, optional
        A chat: `{"role": ..., "content": ...}` or `(role, content)`, oldest first.
    context : mapping of str to str
        Tenant, session and whatever flags target.
    request_id : str
        A repeated id of the same node gets the first answer again.
    choices : sequence of str
        The labels that are allowed now; empty for all.
    """

    node: str
    text: str | None = None
    messages: Chat | None = None
    context: Mapping[str, str] = field(default_factory=dict)
    request_id: str = ""
    choices: Sequence[str] = ()


def request_of(question: Question) -> pb.DecideRequest:
    """Make a question a request message."""
    if question.text is not None and question.messages is not None:
        raise ValueError("give either text or messages, not both")
    if isinstance(question.choices, str):
        raise ValueError("choices is a list of labels, not one string")
    request = pb.DecideRequest(
        node=question.node,
        text=question.text,
        context=question.context,
        request_id=question.request_id,
        choices=question.choices,
    )
    if question.messages is not None:
        request.messages.SetInParent()
        for message in question.messages:
            if isinstance(message, Mapping):
                role, content = message["role"], message["content"]
            else:
                role, content = message
            request.messages.messages.add(role=role, content=content)
    return request


def batch_request_of(
    node: str,
    texts: Sequence[str] | None,
    inputs: Sequence[str | Chat] | None,
    context: Mapping[str, str] | None,
    request_ids: Sequence[str] | None,
    choices: Sequence[str],
) -> pb.BatchDecideRequest:
    """Make many inputs of one node a request message."""
    if (texts is None) == (inputs is None):
        raise ValueError("give either texts or inputs")
    if isinstance(texts, str):
        raise ValueError("texts is a list of texts, not one string")
    asked: Sequence[str | Chat] = texts if texts is not None else inputs or ()
    if request_ids is not None and len(request_ids) != len(asked):
        raise ValueError(f"{len(asked)} inputs, but {len(request_ids)} request_ids")
    requests = []
    for index, item in enumerate(asked):
        text, messages = (item, None) if isinstance(item, str) else (None, item)
        request_id = request_ids[index] if request_ids is not None else ""
        requests.append(request_of(Question(node, text, messages, context or {}, request_id, choices)))
    return pb.BatchDecideRequest(requests=requests)


def outcome_request_of(
    decision_id: str, label: str | None, output: Any, right: bool | None, time: datetime | float | None
) -> pb.ReportOutcomeRequest:
    """Make a report a request message."""
    if sum(outcome is not None for outcome in (label, output, right)) != 1:
        raise ValueError("give exactly one of label, output and right")
    request = pb.ReportOutcomeRequest(decision_id=decision_id, label=label)
    if right is not None:
        request.right = right
    if output is not None:
        request.output.CopyFrom(json_value.to_message(output))
    if isinstance(time, datetime):
        time = time.timestamp()  # a naive time is local time, as everywhere in datetime
    if time is not None:
        request.time.FromNanoseconds(int(time * 1e9))
    return request
