"""What a handler in a thread learns of its call."""

import asyncio
from typing import Any

import grpc
import pytest

from cascade.errors import DeadlineExceeded
from cascade.server.call import Call, end_with
from cascade.server.requests import deadline_of


class Context:
    """A call that came with so many seconds left."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds

    def invocation_metadata(self) -> None:
        return None

    def time_remaining(self) -> float | None:
        return self._seconds


def test_the_time_that_a_call_waits_for_a_thread_is_taken_from_its_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    call = Call(Context(5.0))
    now = 103.0
    assert call.time_remaining() == 2.0
    assert deadline_of(call) == 105.0
    now = 106.0
    assert call.time_remaining() == 0.0
    assert Call(Context(None)).time_remaining() is None


@pytest.mark.parametrize("said", [grpc.aio.InternalError("Failed execute_batch"), grpc.aio.AbortError()])
def test_that_a_caller_has_gone_who_is_told_of_an_error_is_none(said: Exception) -> None:
    class Gone:
        async def abort(self, *_: Any) -> None:
            raise said

    as_usual = isinstance(said, grpc.aio.AbortError)
    with pytest.raises(grpc.aio.AbortError if as_usual else asyncio.CancelledError):
        asyncio.run(end_with(Gone(), DeadlineExceeded("linear"), "Decide"))  # type: ignore[arg-type]
