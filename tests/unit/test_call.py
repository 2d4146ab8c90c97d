"""What a handler in a thread learns of its call."""

import pytest

from cascade.server.call import Call
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
