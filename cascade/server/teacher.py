"""Asking the teacher: the last rung, whose answer a request waits for."""

from __future__ import annotations

import logging
import time
from concurrent.futures import CancelledError, Future

from cascade.ask import Ask, Attempt
from cascade.errors import CascadeError, ContractViolation, DeadlineExceeded, RungError, TeacherUnavailable
from cascade.rungs.protocol import Answer, Query
from cascade.server.gone import CallerGone
from cascade.server.local import Walk
from cascade.server.node import Node
from cascade.waiting import waiting

_log = logging.getLogger(__name__)

Started = tuple[float, "Future[Answer]"] | CascadeError
"""When the teacher was asked, by `time.perf_counter()`, and its answer to come; or why it is not asked."""


def ask_teacher(node: Node, ask: Ask, walk: Walk) -> Started:
    """Start asking the teacher, unless too little time or money is left."""
    now = time.monotonic()
    name = node.teacher.name
    if ask.deadline is not None and (
        ask.deadline <= now or node.latency[node.teacher.name].too_late(ask.deadline, now)
    ):
        walk.attempts.append(
            Attempt(node.teacher.name, reason="deadline: too little time is left for the teacher")
        )
        return DeadlineExceeded(name, f"too little time was left at rung {name!r}, the teacher")
    if node.quotas is not None:
        try:
            node.quotas.check_spending(ask.context.get("tenant", ""))
        except CascadeError as error:
            walk.attempts.append(Attempt(name, reason=f"error: {error}"))
            return error
    query = Query(ask.text, ask.messages, ask.choices, ask.deadline, ask.context.get("traceparent", ""))
    future = (ask.teacher or node.teacher).submit(query)
    if ask.gone is not None:
        ask.gone.tell(future.cancel)  # drops the HTTP request
    return time.perf_counter(), future


def teacher_answer(node: Node, ask: Ask, walk: Walk, started: Started) -> tuple[CascadeError | None, Answer]:
    """Wait for the teacher and put its answer, or why there is none, into the walk."""
    name = node.teacher.name
    if isinstance(started, CascadeError):
        return started, Answer()
    began, future = started
    try:
        with waiting():
            answer = future.result()
    except CancelledError:
        left = ask.gone is not None and ask.gone.fired
        answer = Answer(error=CallerGone() if left else TeacherUnavailable("the server is shutting down"))
    finally:
        if ask.gone is not None:
            ask.gone.forget(future.cancel)
    seconds = time.perf_counter() - began
    error = answer.error
    if error is None:
        node.latency[name].add(seconds)
        broken = node.contract.check(answer.value, ask.choices)
        if broken is not None:
            error = ContractViolation(
                f"even the teacher's answer breaks the contract of node {node.name!r}: {broken}"
            )
    elif not isinstance(error, CascadeError):
        _log.error("node %s: the teacher failed", node.name, exc_info=error)
        error = TeacherUnavailable(f"rung {name!r} failed: {type(error).__name__}")
    elif isinstance(error, RungError) and not isinstance(error, TeacherUnavailable):
        error = TeacherUnavailable(str(error), error.retry_after)
    if error is None:
        walk.output, walk.rung = answer.value, name
    reason = "" if error is None else f"{_word(error)}: {error}"
    named = node.teacher_named.name if ask.teacher is None else ""  # in the caller's own words: not known
    walk.attempts.append(Attempt(name, latency_ms=seconds * 1e3, reason=reason, teacher=named))
    return error, answer


def _word(error: CascadeError) -> str:
    if isinstance(error, ContractViolation):
        return "contract"
    return "deadline" if isinstance(error, DeadlineExceeded) else "error"
