"""Which calls a client makes again, when, and how often."""

from contextlib import suppress

import grpc
import pytest

from cascade.client import DecisionError
from cascade.client.results import error_of
from cascade.client.retry_budget import RetryBudget
from cascade.client.tries import Tries
from cascade.v1 import decision_pb2 as pb


def test_all_tries_together_have_the_time_of_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("cascade.client.tries.time.monotonic", lambda: now)
    tries = Tries(pb.DecideRequest(request_id="r"), 2.0)
    assert tries.left() == 2.0
    now += 1.5
    assert tries.left() == 0.5
    now += 1.0
    assert tries.left() == 0.0
    assert Tries(pb.DecideRequest(), None).left() is None


class Ended(grpc.RpcError):  # type: ignore[misc]
    """What a call gets that the server's core ends by itself."""

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.CANCELLED

    def details(self) -> str:
        return "CANCELLED"

    def trailing_metadata(self) -> None:
        return None


def test_a_call_that_waited_too_long_in_a_busy_server_is_asked_again_once_after_a_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr("cascade.client.tries.time.monotonic", lambda: now)
    tries = Tries(pb.DecideRequest(), 10.0)
    tries.left()
    now += 2.0
    assert 0.8 <= tries.pause(Ended()) <= 1.2
    tries.left()
    now += 2.0
    with pytest.raises(DecisionError, match="CANCELLED"):
        tries.pause(Ended())
    hurried = Tries(pb.DecideRequest(), 2.4)
    hurried.left()
    now += 2.0
    assert 0.08 <= hurried.pause(Ended()) <= 0.12, "a quarter of what is left"
    late = Tries(pb.DecideRequest(), 2.0)
    late.left()
    now += 2.0
    with pytest.raises(DecisionError, match="CANCELLED"):
        late.pause(Ended())


class Lost(Ended):
    """What a call gets whose server went away."""

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNAVAILABLE


class Refused(Lost):
    """What a call gets whose connection has too many."""

    def details(self) -> str:
        return "Received RST_STREAM with error code 7 (Refused stream)"


def tries_of(error: grpc.RpcError, request: object, seconds: float | None) -> list[float]:
    return tries_until_the_end(Tries(request, seconds), error)


def tries_until_the_end(tries: Tries, error: grpc.RpcError | None = None) -> list[float]:
    pauses: list[float] = []
    with suppress(DecisionError):
        while len(pauses) < 100:
            pauses.append(tries.pause(error or Ended()))
    return pauses


class Garbled(Lost):
    """What a call gets where something between puts what is no message into its details."""

    def trailing_metadata(self) -> tuple[tuple[str, bytes], ...]:  # type: ignore[override]
        return (("grpc-status-details-bin", b"\xff\xff"),)


def test_details_that_are_no_message_are_left_out() -> None:
    found = error_of(Garbled())
    assert (found.code, found.reason) == (grpc.StatusCode.UNAVAILABLE, "")


def test_a_call_that_its_connection_has_no_room_for_is_held_back_for_long() -> None:
    for request in (pb.DecideRequest(), pb.DecideRequest(request_id="r")):
        pauses = tries_of(Refused(), request, None)
        assert 20 < sum(pauses) < 33
        assert max(pauses) <= 1.2
    assert len(tries_of(Lost(), pb.DecideRequest(request_id="r"), None)) == 4
    assert tries_of(Lost(), pb.DecideRequest(), None) == []
    assert tries_of(Refused(), pb.DecideRequest(), 0.01) == [], "a try after the end is none"


def test_a_call_that_meets_a_drain_is_asked_again_soon_and_where_too_much_waits_for_long() -> None:
    for request in (pb.DecideRequest(), pb.DecideRequest(request_id="r")):
        first, *pauses = tries_of(Ended(), request, None)
        assert first <= 0.12
        assert 20 < sum(pauses) < 33
        assert min(pauses) >= 0.15
        assert max(pauses) <= 1.2


def test_a_call_that_meets_a_drain_near_its_end_is_asked_again_in_what_is_left() -> None:
    pauses = [Tries(pb.DecideRequest(), 0.02).pause(Ended()) for _ in range(100)]
    assert 0.0 <= min(pauses) <= max(pauses) <= 0.006


def test_where_many_calls_of_a_client_are_refused_each_is_made_again_once() -> None:
    budget = RetryBudget()
    for _ in range(4):
        with suppress(DecisionError):
            tries = Tries(pb.DecideRequest(), None, budget)
            while True:
                tries.pause(Ended())
    for _ in range(300):  # as many as a drain ends at once
        tries = Tries(pb.DecideRequest(), None, budget)
        assert tries.pause(Ended()) <= 0.12
        assert len(tries_until_the_end(tries)) <= 8, "what the seconds of this test may give"
    assert Tries(pb.DecideRequest(), None, budget).pause(Refused()) > 0, "that is this connection's alone"


def test_what_grpc_refuses_uses_up_no_tries_of_a_lost_server() -> None:
    tries = Tries(pb.DecideRequest(request_id="r"), None)
    for _ in range(10):
        tries.pause(Refused())
        tries.pause(Ended())
    assert 0.08 <= tries.pause(Lost()) <= 0.12
    for _ in range(3):
        tries.pause(Lost())
    with pytest.raises(DecisionError):
        tries.pause(Lost())


def test_how_long_a_call_waited_is_told_of_its_last_try(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("cascade.client.tries.time.monotonic", lambda: now)
    tries = Tries(pb.DecideRequest(request_id="r"), 60.0)
    tries.left()
    now += 5.0
    assert tries.pause(Lost()) > 0.0
    tries.left()
    now += 0.1
    assert tries.pause(Ended()) <= 0.12, "a drain, and no busy server"
