"""What even the frontier's answer has to keep, where a call names the model `cascade/<node>`.

Such a call asks the node itself, as over gRPC: what it gets keeps the node's contract, or is an error. What
the node does not take (too long, pictures) the frontier answers; what it answers is read all the same.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from cascade.code_fence import unfenced
from cascade.contract import Contract
from cascade.errors import CascadeError, ContractViolation, InvalidInput, TeacherUnavailable, UnusableAnswer
from cascade.gateway.accumulate import data_of
from cascade.gateway.recognise import HEADER
from cascade.gateway.relay import Relay
from cascade.gateway.shape import AnswerShape, UnfitRequest, shape_of
from cascade.traffic.strict_json import parse


def kept_shape(body: Mapping[str, Any], contract: Contract, node: str) -> AnswerShape:
    """Give the shape that the frontier's answer is read by.

    Raises
    ------
    InvalidInput
        The request asks for what cannot be read as one answer of the node.
    """
    try:
        return shape_of(body, contract, by_ladder=False)
    except UnfitRequest as error:
        raise InvalidInput(
            error.field,
            f"{error}, which cannot be held to the contract of node {node!r}; leave it out, or name a model "
            f"of the frontier's, and the node in the header {HEADER}",
        ) from None


def why_not_kept(relay: Relay, contract: Contract, node: str) -> CascadeError | None:
    """Say what a caller is told instead of the frontier's response; None where it is given.

    Parameters
    ----------
    relay : Relay
        Done, and with the shape of `kept_shape`. An error of the frontier's is no answer: it is told as ever.
    contract : Contract
        The node's.
    node : str
    """
    if relay.status == 0 or relay.status >= 400:
        return None
    answer = relay.read()
    if isinstance(answer.error, UnusableAnswer):
        return ContractViolation(node, str(answer.error))
    if isinstance(answer.error, TeacherUnavailable):
        return answer.error
    if answer.error is not None:
        return TeacherUnavailable(str(answer.error))
    broken = contract.check(answer.value)
    return None if broken is None else ContractViolation(node, broken)


def bare_json(relay: Relay, shape: AnswerShape) -> str | None:
    """Give the JSON of an answer that stands in a fence, which is no JSON itself; None where none does."""
    said = relay.said.message.get("content")
    if relay.status != 200 or not shape.says_json or not isinstance(said, str):
        return None
    bare = unfenced(said)
    return None if bare == said else bare


def body_with(body: bytes, text: str) -> bytes:
    """Give a completion whose message says another text."""
    completion = parse(body, repeated_keys=True)
    completion["choices"][0]["message"]["content"] = text
    return json.dumps(completion, ensure_ascii=False).encode()


async def events_with(events: AsyncIterator[bytes], text: str) -> AsyncIterator[bytes]:
    """Give a stream whose message says another text, where it first says anything."""
    left = text
    async for event in events:
        data = data_of(event)
        choices = data.get("choices") if isinstance(data, dict) else None
        first = choices[0] if isinstance(choices, list) and choices else None
        delta = first.get("delta") if isinstance(first, dict) else None
        if not isinstance(delta, dict) or not isinstance(delta.get("content"), str):
            yield event
            continue
        if delta["content"]:
            delta["content"], left = left, ""
        yield b"data: " + json.dumps(data, ensure_ascii=False).encode() + b"\n\n"
