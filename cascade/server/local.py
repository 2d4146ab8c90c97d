"""The local part of a request's way: difficulty, rungs, validation, settle or go on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cascade.ask import Ask, Attempt
from cascade.bundle import Bundle
from cascade.contract import Contract, JsonValue
from cascade.errors import RungError
from cascade.ladder import Prepared
from cascade.redaction import Redactor
from cascade.rungs.linear import LinearRung
from cascade.rungs.protocol import NobodyWaits
from cascade.server.checks import ends_here, why_not_each
from cascade.server.latency import LatencyRecord
from cascade.server.queries import Queries
from cascade.validators import Validator
from cascade.waiting import waiting

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Walk:
    """One request on its way up.

    Attributes
    ----------
    attempts : list of Attempt
    output : JSON value
        Meaningful once `rung` is set.
    rung : str
        The local rung that settled it; empty while none has.
    confidence : float, optional
    usd, input_tokens, output_tokens
        What local chat rungs cost on the way, whether they settled or not.
    answers : tuple of JSON value
        What the rungs that ran and did not settle it answered; None for one that failed.
    left : bool
        Whether nobody waits for the answer any more, so that no further rung is asked.
    in_time : bool
        Whether its caller left time for every rung of the bundle, when it came.
    """

    attempts: list[Attempt] = field(default_factory=list)
    output: JsonValue = None
    rung: str = ""
    confidence: float | None = None
    usd: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0
    answers: tuple[JsonValue, ...] = ()
    left: bool = False
    in_time: bool = True


def walk_local(
    asks: Sequence[Ask],
    bundle: Bundle,
    contract: Contract,
    validators: Sequence[Validator],
    latency: dict[str, LatencyRecord],
    redactor: Redactor | None = None,
    settled: Callable[[Sequence[int], Sequence[Walk]], object] = lambda at, walks: None,
    slow: Callable[[], object] = lambda: None,
) -> list[Walk]:
    """Take requests up the local rungs of a bundle, together.

    A rung or model that fails escalates its requests; nothing here raises on their account.

    Parameters
    ----------
    asks : sequence of Ask
        Of one node.
    bundle : Bundle
        With a valid certificate.
    contract : Contract
        The node's.
    validators : sequence of Validator
    latency : dict of str to LatencyRecord
        Updated for each rung that runs.
    redactor : Redactor, optional
        Local rungs read the questions as it leaves them, since they learned from what was stored.
    settled : callable
        Told of the requests that a rung settled, by their places in `asks`, before a higher rung is asked
        about the others.
    slow : callable
        Called before the first rung that takes long: longer than all else together.
    """
    walks = [Walk() for _ in asks]
    if bundle.policy.too_dear:
        for walk in walks:
            walk.attempts.append(
                Attempt(bundle.policy.rungs[0].name, reason=f"uneconomic: {bundle.policy.too_dear}")
            )
        return walks
    fenced = bundle.fences.reason
    if fenced:
        for walk in walks:
            for rung in bundle.policy.rungs:
                walk.attempts.append(Attempt(rung.name, reason=f"uncertified: {fenced}"))
        return walks
    try:
        queries = Queries(asks, redactor)
        prepared = bundle.ladder.prepare(queries, queries.texts)
        p_right = prepared.p_right.T.tolist()  # one list for each rung, not for each request
        starts = bundle.policy.starts(p_right)
    except Exception:
        _log.exception("node %s: features or difficulty failed; the teacher answers", bundle.node)
        for walk in walks:
            walk.attempts.append(Attempt("difficulty", reason="error: features or difficulty failed"))
        return walks
    open_at = list(range(len(asks)))
    now = time.monotonic()
    slowest = max(latency[rung.name].at_best(now) for rung in bundle.policy.rungs)
    for ask, walk in zip(asks, walks, strict=True):
        if ask.deadline is not None and ask.deadline - now <= slowest:
            walk.in_time = False
    told_slow = False
    for r, rung in enumerate(bundle.policy.rungs):
        if not open_at:
            break
        now, lately = time.monotonic(), latency[rung.name]
        run_at = [
            i
            for i in open_at
            if starts[i] <= r
            and ((deadline := asks[i].deadline) is None or not lately.too_late(deadline, now))
        ]
        if len(run_at) < len(open_at):
            for i in sorted(set(open_at).difference(run_at)):
                reason = "deadline: too little time is left for this rung"
                if r < starts[i]:
                    reason = f"skipped: P(right) {p_right[r][i]:.4f} is below {rung.skip_below:.4f}"
                walks[i].attempts.append(Attempt(rung.name, p_right[r][i], reason=reason))
        if run_at:
            if not told_slow and not isinstance(bundle.ladder.rungs[r], LinearRung):
                told_slow = True
                slow()
            done = _run_rung(r, run_at, asks, prepared, bundle, contract, validators, latency, walks)
            open_at = [i for i in open_at if i not in done]  # settled, for the teacher alone, or for nobody
            at = [i for i in done if walks[i].rung]
            if at:
                settled(at, [walks[i] for i in at])
    return walks


def _run_rung(
    r: int,
    run_at: list[int],
    asks: Sequence[Ask],
    prepared: Prepared,
    bundle: Bundle,
    contract: Contract,
    validators: Sequence[Validator],
    latency: dict[str, LatencyRecord],
    walks: list[Walk],
) -> dict[int, None]:
    name, rung = bundle.policy.rungs[r].name, bundle.ladder.rungs[r]
    part = prepared.take(run_at)
    done: dict[int, None] = {}
    began = time.perf_counter()
    try:
        if isinstance(rung, LinearRung):
            answers, confidences = bundle.ladder.run(r, part)
        else:
            for i in run_at:
                if (gone := asks[i].gone) is not None:
                    gone.watch()
            with waiting():  # the thread is in onnxruntime, or behind another that is: Python is free
                answers, confidences = bundle.ladder.run(r, part)
    except NobodyWaits:
        for i in run_at:
            _leave(walks[i], name, float(prepared.p_right[i, r]))
        return dict.fromkeys(run_at)
    except Exception as error:
        if not isinstance(error, RungError):
            _log.exception("node %s: rung %s failed", bundle.node, name)
        spent = (time.perf_counter() - began) * 1e3
        for i in run_at:
            why = f"error: {error if isinstance(error, RungError) else type(error).__name__}"
            walks[i].attempts.append(Attempt(name, float(prepared.p_right[i, r]), None, spent, why))
            walks[i].answers += (None,)
        return {}
    seconds = time.perf_counter() - began
    latency[name].add(seconds)
    if answers.places is not None:
        kept = [run_at[place] for place in answers.places]
        for i in set(run_at).difference(kept):
            done[i] = None
            _leave(walks[i], name, float(prepared.p_right[i, r]))
        run_at, part = kept, part.take(answers.places)
    before, sure = part.p_right[:, r].tolist(), confidences.tolist()
    in_scope = [1.0] * len(run_at) if answers.in_scope is None else answers.in_scope.tolist()
    asked, some, ms = [asks[i] for i in run_at], [walks[i] for i in run_at], seconds * 1e3
    earlier = [walk.answers for walk in some]
    reasons = why_not_each(asked, earlier, answers.each, contract, bundle, r, sure, in_scope, validators)
    for walk, answer, reason, expected, confidence in zip(
        some, answers.each, reasons, before, sure, strict=True
    ):
        walk.attempts.append(Attempt(name, expected, confidence, ms, reason))
        if reason:
            walk.answers += (None if answer.error is not None else answer.value,)
        else:
            walk.output, walk.rung, walk.confidence = answer.value, name, confidence
    if not isinstance(rung, LinearRung):
        for walk, answer in zip(some, answers.each, strict=True):
            walk.usd += answer.usd
            walk.input_tokens += answer.input_tokens
            walk.output_tokens += answer.output_tokens
    for i, why in zip(run_at, reasons, strict=True):
        if not why or ends_here(why):
            done[i] = None
    return done


def _leave(walk: Walk, rung: str, p_right: float) -> None:
    walk.left = True
    walk.attempts.append(Attempt(rung, p_right, reason="deadline: nobody waits for the answer any more"))
