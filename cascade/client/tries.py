"""How often a client tries one call, and when."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import grpc

from cascade.client.channel import Metadata, was_ended, was_refused
from cascade.client.results import DecisionError, error_of
from cascade.client.retry_budget import RetryBudget
from cascade.v1 import decision_pb2 as pb

_MOST = 5  # as gRPC's own retries allow
_MOST_REFUSED = 30
"""Tries of a call that gRPC refuses, some 25 s: no code of the server's sees them."""

_FIRST_SECONDS, _MOST_SECONDS = 0.1, 1.0
_BUSY_SECONDS = 1.0
"""What waits in gRPC for too long is ended after a second at the earliest, what it refuses at once."""


class Tries:
    """The tries of one call, within its time.

    A call whose server went away under it, or that met nobody, is tried again where a `request_id` makes that
    safe: its answer is the first one's, if there was one. One that the server's gRPC refused, because this
    connection has too many, too much waits, or the server drains, was not looked at and is always tried
    again; one that it ended after a wait, once. Where the first such try finds too much waiting, too, others
    are made within the client's budget. What the server itself says, such as that the teacher does not
    answer, it has tried already.
    gRPC's retry policy knows methods only, neither what is asked nor who says UNAVAILABLE.

    Parameters
    ----------
    request : message
    seconds : float, optional
        What the call may take, all tries together.
    budget : RetryBudget, optional
        The client's, of tries after the second of a call that the server's gRPC ended.
    """

    def __init__(self, request: object, seconds: float | None, budget: RetryBudget | None = None) -> None:
        self._budget = budget or RetryBudget()
        self._end = None if seconds is None else time.monotonic() + seconds
        self._repeatable = _repeatable(request)
        self._lost = self._refused = 0
        self._waited = False
        self._began = time.monotonic()

    def left(self) -> float | None:
        """Give what is left of the time, for the next try."""
        self._began = time.monotonic()
        return None if self._end is None else max(0.0, self._end - self._began)

    def pause(self, error: grpc.RpcError) -> float:
        """Give the seconds after which the call is to be tried again.

        Raises
        ------
        DecisionError
            It is not.
        """
        failure = error_of(error)
        left = None if self._end is None else self._end - time.monotonic()
        ended = was_ended(error)
        if ended and time.monotonic() - self._began >= _BUSY_SECONDS:
            if self._waited:
                raise failure from None
            self._waited = True
            wait = _soon(_MOST_SECONDS, left)
        elif ended and not self._refused:  # a drain ends many at once, and the next server answers them
            self._refused = 1
            wait = random.random() * _soon(_FIRST_SECONDS, left)
        elif ended or was_refused(error):
            self._refused += 1
            wait = _wait(self._refused, _MOST_REFUSED, failure)
            if ended and not self._budget.spend():
                raise failure from None
        elif self._repeatable and _lost(failure):
            self._lost += 1
            wait = _wait(self._lost, _MOST, failure)
        else:
            raise failure from None
        wait *= random.uniform(0.8, 1.2)
        if left is not None and wait >= left:
            raise failure from None
        return wait


def call(method: Callable[..., Any], request: object, seconds: float, metadata: Metadata = ()) -> Any:
    """Make a call of any service's method, and make it again as `Tries` says.

    Raises
    ------
    grpc.RpcError
        Of the last try.
    """
    tries = Tries(request, seconds)
    while True:
        try:
            return method(request, timeout=tries.left(), metadata=metadata)
        except grpc.RpcError as error:
            try:
                pause = tries.pause(error)
            except DecisionError:
                raise error from None
        time.sleep(pause)


def _soon(seconds: float, left: float | None) -> float:
    return seconds if left is None else min(seconds, left / 4)


def _wait(times: int, most: int, failure: DecisionError) -> float:
    if times >= most:
        raise failure from None
    return min(_MOST_SECONDS, _FIRST_SECONDS * 2.0 ** (times - 1))


def _repeatable(request: object) -> bool:
    if isinstance(request, pb.BatchDecideRequest):
        return all(each.request_id for each in request.requests)
    return isinstance(request, pb.DecideRequest) and bool(request.request_id)


def _lost(failure: DecisionError) -> bool:
    """Whether it is not the server who says UNAVAILABLE: that one gives a reason."""
    return failure.code is grpc.StatusCode.UNAVAILABLE and not failure.reason
