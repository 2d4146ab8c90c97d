"""Captured calls become a node's labelled records: what the frontier answered before there was the node."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cascade.config import Config
from cascade.contract import Contract
from cascade.errors import UnknownNode
from cascade.gateway.fixed_part import CONTEXT_KEY
from cascade.gateway.question import NoQuestion, question_of
from cascade.gateway.recognise import Recogniser
from cascade.gateway.shape import Unfit, shape_of
from cascade.traffic.records import Call, Labelled
from cascade.traffic.store import TrafficStore

_OF_THE_CAPTURE = (CONTEXT_KEY, "served_by", "decision_id")
"""Keys that capturing adds to a call's own context."""


@dataclass
class CapturedCount:
    """What an import of captured calls did.

    Attributes
    ----------
    calls : int
        Captured calls of the node.
    added, already_there : int
        Records that are new, and those that were there.
    unread : int
        Calls whose answer is no value of the node's contract.
    """

    calls: int = 0
    added: int = 0
    already_there: int = 0
    unread: int = 0


def import_captured(config: Config, store: TrafficStore, node: str) -> CapturedCount:
    """Import the captured calls that a node recognises. Doing it again adds what is new.

    Calls that were the node's already when they came are its traffic without this.

    Raises
    ------
    UnknownNode, StoreError
    """
    if node not in config.nodes:
        raise UnknownNode(node, list(config.nodes))
    contract = config.nodes[node].contract.load(config.base) or Contract(open_labels=True)
    recogniser = Recogniser(config)
    found = CapturedCount()

    def records() -> Iterator[Labelled]:
        for call in store.calls():
            if call.node is None and call.error is None and _is_of(recogniser, call, node):
                found.calls += 1
                record = _record(call, node, contract, recogniser)
                if record is None:
                    found.unread += 1
                else:
                    yield record

    counted = store.import_labelled(list(records()))
    found.added, found.already_there = counted.added, counted.already_there
    return found


def _body(call: Call) -> dict[str, object]:
    return {
        "model": call.model,
        "messages": call.messages,
        "tools": call.tools,
        "response_format": call.response_format,
    }


def _is_of(recogniser: Recogniser, call: Call, node: str) -> bool:
    known = recogniser.by_fingerprint(call.context.get(CONTEXT_KEY, ""))
    if known is None:
        recognised = recogniser.node_of(_body(call))
        known = recognised.node if recognised else None
    return known == node


def _record(call: Call, node: str, contract: Contract, recogniser: Recogniser) -> Labelled | None:
    try:
        question = question_of(call.messages, recogniser.frames[node])
        value = shape_of(_body(call), contract).read(call.output)
    except (NoQuestion, Unfit):
        return None
    if contract.check(value) is not None:
        return None
    text = None if question.messages else question.text
    session = call.context.get("session")
    messages = question.messages or None
    context = {key: value for key, value in call.context.items() if key not in _OF_THE_CAPTURE}
    return Labelled(node, call.call_id, text, messages, value, session, call.time, call.tenant, context)
