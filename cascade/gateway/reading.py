"""What a node can do with a call: the question in it, and the shape of the answer that it waits for."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cascade.contract import Contract
from cascade.gateway.kept import kept_shape
from cascade.gateway.question import Frame, NoQuestion, Question, question_of
from cascade.gateway.recognise import Recognised
from cascade.gateway.shape import AnswerShape, Unfit, shape_of
from cascade.server.deciding import Deciding

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Reading:
    """What was read of a call.

    Attributes
    ----------
    shape : AnswerShape, optional
        How an answer of the node's looks here.
    question : Question, optional
        What the node is asked; None where it is not asked.
    why_not : str
        Why it is not.
    contract : Contract, optional
        What even the frontier's answer has to keep: of a call that names the model `cascade/<node>`.
    """

    shape: AnswerShape | None = None
    question: Question | None = None
    why_not: str = ""
    contract: Contract | None = None


def reading_of(
    body: Mapping[str, Any], found: Recognised | None, engine: Deciding, frame: Frame | None, most_bytes: int
) -> Reading:
    """Read a call.

    Parameters
    ----------
    body : JSON object
        The request.
    found : Recognised, optional
        Its node.
    engine : Deciding
        Knows contracts.
    frame : Frame, optional
        The node's prompt.
    most_bytes : int
        How long a node's text may be.

    Raises
    ------
    UnknownNode, InvalidInput
        Only of a call that asks the node itself; any other goes to the frontier, whatever is wrong with it.
    """
    if found is None:
        return Reading(why_not="the call belongs to no node")
    read = Reading()
    if found.how == "model":
        read.contract = engine.contract(found.node)
        if read.contract is not None:
            read.shape = kept_shape(body, read.contract, found.node)
    try:
        contract = engine.contract(found.node)
        if contract is None:
            raise Unfit("the node has no contract yet")
        read.shape = shape_of(body, contract)
        question = question_of(body["messages"], frame)
        if len(question.text.encode("utf-8", "replace")) > most_bytes:
            raise NoQuestion(f"the input is longer than {most_bytes} bytes")
        read.question = question
    except (Unfit, NoQuestion) as error:
        read.why_not = str(error)
    except Exception:
        _log.exception("a question could not be read; the call goes to the frontier")
        read.why_not = "reading the question failed"
    return read
