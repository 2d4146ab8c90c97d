"""Why an answer of a local rung does not settle: contract, scope, acceptor, agreement, own validators."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from cascade.ask import Ask
from cascade.bundle import Bundle
from cascade.contract import Contract, JsonValue
from cascade.policy.slices import FENCED_SLICE
from cascade.rungs.protocol import Answer
from cascade.server.watchdog import watchdog
from cascade.validators import Validator, identity, name_of

UNCERTIFIED_VALIDATOR = "validator: not certified: "
"""How a reason begins where a validator refused that the bundle was not certified with."""

BLOCKED = "is not asked, because earlier calls of it do not return"
"""How a reason ends where a validator gave no verdict."""

_log = logging.getLogger(__name__)


def ends_here(reason: str) -> bool:
    """Say whether no rung above may settle what was refused: see `LadderPolicy.uncovered`, `_refused`."""
    return reason.startswith((FENCED_SLICE, UNCERTIFIED_VALIDATOR)) or reason.endswith(BLOCKED)


def why_not_each(
    asks: Sequence[Ask],
    earlier: Sequence[Sequence[JsonValue]],
    answers: Sequence[Answer],
    contract: Contract,
    bundle: Bundle,
    rung: int,
    confidences: Sequence[float],
    in_scope: Sequence[float],
    validators: Sequence[Validator],
) -> list[str]:
    """Say why each answer does not settle, empty where it does.

    Asked are contract, scope, acceptor, agreement, then the node's own checks.
    """
    policy = bundle.policy
    values = [answer.value for answer in answers]
    broken = contract.check_each(values, [ask.choices for ask in asks])
    unsure = policy.accepts_each(rung, confidences, values, [ask.context for ask in asks], in_scope)
    more = bool(validators) or policy.agreement or not policy.slices.settle_all

    def why_not(
        ask: Ask, answer: Answer, wrong: str | None, refused: str | None, given: Sequence[JsonValue]
    ) -> str:
        value = answer.value
        if answer.error is not None:
            return f"{'deadline' if getattr(answer.error, 'by_deadline', False) else 'error'}: {answer.error}"
        if wrong is None and ask.refuses is not None:
            wrong = ask.refuses(value)
        if wrong is not None:
            return f"contract: {wrong}"
        if refused is not None:
            return refused
        if policy.agreement and any(other != value for other in given):
            return "validator: agreement: a cheaper rung answered otherwise"
        objection = _objection(validators, ask, value, bundle) if validators else ""
        # Last, as certification has it.
        return objection or policy.uncovered(value, ask.context)

    return [
        why_not(ask, answer, wrong, refused, given)
        if more or wrong or refused or answer.error is not None or ask.refuses is not None
        else ""
        for ask, answer, wrong, refused, given in zip(asks, answers, broken, unsure, earlier, strict=True)
    ]


def _objection(validators: Sequence[Validator], ask: Ask, value: JsonValue, bundle: Bundle) -> str:
    for validator in validators:
        why = _refused(validator, ask, value, bundle.node)
        if why:
            known = identity(validator) in bundle.manifest.get("validators", ())
            return f"{'validator: ' if known else UNCERTIFIED_VALIDATOR}{why}"
    return ""


def _refused(validator: Validator, ask: Ask, value: JsonValue, node: str) -> str:
    """Ask one of the node's own validators; say why it refuses, or nothing.

    Where the bundle was certified with it, the next rung is asked, as in certification. What any other
    refuses, or one that gives no verdict, goes straight to the teacher: so no answer comes about that was
    never certified, and fewer settle wrongly than without it, never more.
    """
    name = name_of(validator)
    label = f"validator {name} of node {node}"
    if watchdog.blocked(label):
        return f"{name} {BLOCKED}"
    try:
        with watchdog.watch(label):
            verdict = validator(ask, value)
    except Exception as failure:
        _log.warning("node %s: validator %s raised", node, name, exc_info=True)
        return f"{name} raised {type(failure).__name__}"
    return "" if verdict is None or verdict is True else f"{name}: {verdict or 'refused'}"
