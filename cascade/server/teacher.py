"""Asking the teacher: the last rung, whose answer a request waits for, though no thread does."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from cascade.ask import Ask, Attempt
from cascade.errors import (
    CascadeError,
    ContractViolation,
    DeadlineExceeded,
    RungError,
    ShuttingDown,
    TeacherUnavailable,
    UnreadableAnswer,
)
from cascade.rungs.protocol import Answer, Query
from cascade.server.gone import CallerGone
from cascade.server.local import Walk
from cascade.server.node import Node

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Asked:
    """A question that the teacher was asked.

    Attributes
    ----------
    answer : Future, optional
        None once it was read: it holds whom to tell, who holds this, and the bundle with it.
    began, ended : float
        When it was asked and when the answer came, by `time.perf_counter()`.
    """

    answer: Future[Answer] | None
    began: float
    ended: float = 0.0


Started = Asked | CascadeError
"""What the teacher was asked, or why it was not."""


def ask_teacher(node: Node, ask: Ask, walk: Walk) -> Started:
    """Start asking the teacher, unless too little time or money is left, or too many wait for it."""
    now = time.monotonic()
    name = node.teacher.name
    if ask.deadline is not None and (
        ask.deadline <= now or node.latency[node.teacher.name].too_late(ask.deadline, now)
    ):
        walk.attempts.append(
            Attempt(node.teacher.name, reason="deadline: too little time is left for the teacher")
        )
        return DeadlineExceeded(name, f"too little time was left at rung {name!r}, the teacher")
    try:
        if node.quotas is not None:
            node.quotas.check_spending(ask.context.get("tenant", ""))
        future = _submit(node, ask)
    except CascadeError as error:
        walk.attempts.append(Attempt(name, reason=f"error: {error}"))
        return error
    if ask.gone is not None:
        ask.gone.tell(future.cancel)  # drops the HTTP request
    if ask.on_wait is not None:
        ask.on_wait()
    return Asked(future, time.perf_counter())


def no_longer_awaited(ask: Ask, walk: Walk) -> CascadeError:
    """Say why a question is given up, that a rung did not ask because nobody waited for its answer."""
    if ask.gone is not None and ask.gone.fired:
        return CallerGone()
    name = walk.attempts[-1].rung
    return DeadlineExceeded(name, f"no time was left once it was its turn at rung {name!r}")


def _submit(node: Node, ask: Ask) -> Future[Answer]:
    query = Query(ask.text, ask.messages, ask.choices, ask.deadline, ask.context.get("traceparent", ""))
    if ask.teacher is not None:  # who asks in his own words is bounded where he comes in
        return ask.teacher.submit(query)
    asked: Future[Answer] = Future()
    number = node.teacher_queue.enter(
        ask.deadline, ask.context.get("tenant", ""), partial(_begin, node, query, asked)
    )
    asked.add_done_callback(lambda _: node.teacher_queue.leave(number))
    return asked


def _begin(node: Node, query: Query, asked: Future[Answer]) -> None:
    """Ask the teacher, now that there is a place; what becomes of the call becomes of `asked`."""
    if asked.done():  # not waited for any more
        return
    try:
        call = node.teacher.submit(query)
    except BaseException as error:
        _settle(asked, partial(asked.set_exception, error))
        return

    under_way = [call]  # emptied, so that the two do not hold each other

    def answered(call: Future[Answer]) -> None:
        under_way.clear()
        if call.cancelled():
            asked.cancel()
        elif (error := call.exception()) is not None:  # else the place would be kept for ever
            _settle(asked, partial(asked.set_exception, error))
        else:
            _settle(asked, partial(asked.set_result, call.result()))

    def dropped(asked: Future[Answer]) -> None:
        if asked.cancelled():
            for each in tuple(under_way):
                each.cancel()

    asked.add_done_callback(dropped)
    call.add_done_callback(answered)


def _settle(asked: Future[Answer], settle: Callable[[], object]) -> None:
    if not asked.done():
        with suppress(InvalidStateError):  # cancelled meanwhile
            settle()


def when_answered(started: Started, then: Callable[[], object]) -> None:
    """Have something called once the teacher has answered or will not; until then no thread is held.

    It is called in whatever thread brings the answer, and must not take long.
    """
    if isinstance(started, CascadeError):
        then()
        return

    def answered(_: Future[Answer]) -> None:
        started.ended = time.perf_counter()
        then()

    assert started.answer is not None
    started.answer.add_done_callback(answered)


def teacher_answer(node: Node, ask: Ask, walk: Walk, started: Started) -> tuple[CascadeError | None, Answer]:
    """Put the teacher's answer, or why there is none, into the walk. Called once it is there."""
    name = node.teacher.name
    if isinstance(started, CascadeError):
        return started, Answer()
    future, started.answer = started.answer, None
    assert future is not None
    try:
        answer = future.result()
    except CancelledError:
        left = ask.gone is not None and ask.gone.fired
        answer = Answer(error=CallerGone() if left else ShuttingDown())
    finally:
        if ask.gone is not None:
            ask.gone.forget(future.cancel)
    seconds = started.ended - started.began
    error = answer.error
    if error is None:
        node.latency[name].add(seconds)
        broken = node.contract.check(answer.value, ask.choices)
        if broken is not None:
            error = ContractViolation(node.name, broken)
    elif isinstance(error, UnreadableAnswer):
        error = ContractViolation(node.name, str(error))
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
