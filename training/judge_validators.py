"""Judges a node's validators on held-out records, in the order in which serving asks them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.config import Config
from cascade.contract import Contract
from cascade.ladder import LocalLadder
from cascade.policy.net_cost import price_of_wrong
from cascade.policy.walk import rungs_that_agree
from cascade.rungs.protocol import Query
from training.evaluate import Scored
from training.own_validators import Refusals
from training.validator_record import Check, Stakes, ValidatorRecord, records

N_TIMED = 40


def stakes_of(config: Config, node: str, teacher_call: float) -> Stakes:
    """Give what is at stake in one decision of a node, at the configured prices."""
    bar = config.nodes[node].bar.agreement
    wrong = price_of_wrong(config.costs.wrong_answer, teacher_call, bar)
    return Stakes(teacher_call, wrong, config.costs.cpu_hour)


def judge_validators(
    scored: Scored,
    thresholds: Sequence[float],
    contract: Contract,
    labels: Sequence[str],
    own: Refusals,
    micros: Mapping[str, float],
    stakes: Stakes,
    agreement: bool = False,
) -> list[ValidatorRecord]:
    """Give the record of contract, out-of-scope detector, acceptor, agreement, and the node's own.

    Parameters
    ----------
    scored : Scored
        Of the held-out records.
    thresholds : sequence of float
        One a local rung.
    contract : Contract
        The node's.
    labels : sequence of str
    own : Refusals
        Of the node's own validators.
    micros : mapping
        From `measure_micros`.
    stakes : Stakes
    agreement : bool
        Whether agreement of the rungs is on.
    """
    asked = np.asarray(thresholds)
    if scored.strictness is not None:
        asked = 1 - (1 - asked) * scored.strictness
    broken = np.array([contract.check(label) is not None for label in labels])
    off_contract = np.where(scored.answer < 0, True, broken[np.maximum(scored.answer, 0)])
    checks = [Check("contract", off_contract, micros["contract"], required=True)]
    agree = rungs_that_agree(scored.worth, scored.answer)
    foreign = _foreign(scored, agree, agreement)
    if "out-of-scope" in micros:
        checks.append(Check("out-of-scope", foreign, micros["out-of-scope"], required=True))
    checks.append(Check("acceptor", scored.confidence < asked, micros["acceptor"], required=True))
    checks.append(Check("agreement", ~agree, on=agreement))
    for v, name in enumerate(own.names):
        checks.append(Check(name, own.stops[:, :, v], own.micros[v]))
    return records(checks, scored.worth, scored.right, stakes, scored.allowed)


def _foreign(scored: Scored, agree: NDArray[np.bool_], agreement: bool) -> NDArray[np.bool_]:
    """Say what the out-of-scope detector stops."""
    if scored.in_scope is not None:
        return ~scored.in_scope
    if scored.admitted is None:
        return np.zeros_like(agree)
    # an older bundle kept both in one column: what both stop is agreement's
    return ~scored.admitted & (agree | (not agreement))


def measure_micros(
    ladder: LocalLadder, contract: Contract, labels: Sequence[str], texts: Sequence[str], scope: bool
) -> dict[str, float]:
    """Give the median microseconds that one check of each built-in validator takes; 0 without any text.

    Parameters
    ----------
    scope : bool
        Whether the out-of-scope detector is in use.
    """
    times: dict[str, list[float]] = {"contract": [], "acceptor": []}
    if scope:
        times["out-of-scope"] = []
    for text in texts[:N_TIMED]:
        prepared = ladder.prepare([Query(text)])
        answers = ladder.rungs[0].answer(prepared.batch)
        for name, check in (
            ("contract", lambda: contract.check(labels[0])),
            (
                "acceptor",
                lambda p=prepared, a=answers: ladder.acceptor.confidence(p.request, 0, p.p_right[:, 0], a),
            ),
            ("out-of-scope", lambda p=prepared, a=answers: _scope(ladder, p, a)),
        ):
            if name in times:
                began = time.perf_counter()
                check()
                times[name].append(1e6 * (time.perf_counter() - began))
    return {name: float(np.median(values)) if values else 0.0 for name, values in times.items()}


def _scope(ladder: Any, prepared: Any, answers: Any) -> None:
    if ladder.scope is not None:
        ladder.scope.in_scope(0, prepared.request, answers.scores, answers.neighbours, answers.scope)
