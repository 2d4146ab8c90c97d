"""A client whose server goes away under a call: what is asked again, how often, and for how long."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest

from cascade import json_value
from cascade.client import AsyncClient, Client, Decision, DecisionError
from cascade.client.results import error_of
from cascade.client.retry_budget import RetryBudget
from cascade.client.tries import Tries
from cascade.config import Config
from cascade.v1 import decision_pb2 as pb
from tests.conftest import NODE
from tests.service.fake_engine import LONG, Running
from tests.service.worker_processes import Service
from tests.soon import comes

pytestmark = pytest.mark.alone

ANSWER = pb.DecideResponse(output=json_value.to_message("x"), label="x")
Ask = Callable[..., Any]


class Vanishing:
    """A server that says UNAVAILABLE so many times, and not why, as gRPC does of one that is gone."""

    def __init__(self, times: int) -> None:
        self.left, self.calls, self.times = times, 0, []
        self._server = grpc.server(ThreadPoolExecutor(2))
        handlers = {
            "Decide": grpc.unary_unary_rpc_method_handler(lambda _, c: self._answer(c, ANSWER)),
            "BatchDecide": grpc.unary_unary_rpc_method_handler(
                lambda _, c: self._answer(c, pb.BatchDecideResponse())
            ),
            "ReportOutcome": grpc.unary_unary_rpc_method_handler(
                lambda _, c: self._answer(c, pb.ReportOutcomeResponse())
            ),
        }
        self._server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler("cascade.v1.DecisionService", handlers)]
        )
        self.target = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def _answer(self, context: grpc.ServicerContext, response: Any) -> bytes:
        self.calls += 1
        self.times.append(time.monotonic())
        if self.left:
            self.left -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
        return bytes(response.SerializeToString())

    def stop(self) -> None:
        self._server.stop(0)


@pytest.fixture
def vanishing() -> Iterator[Callable[[int], Vanishing]]:
    made: list[Vanishing] = []

    def make(times: int) -> Vanishing:
        made.append(Vanishing(times))
        return made[-1]

    yield make
    for each in made:
        each.stop()


def blocking(target: str, method: str, **asked: Any) -> Any:
    with Client(target, timeout=asked.pop("client_timeout", LONG)) as client:
        return getattr(client, method)(**asked)


def by_asyncio(target: str, method: str, **asked: Any) -> Any:
    async def ask() -> Any:
        async with AsyncClient(target, timeout=asked.pop("client_timeout", LONG)) as client:
            return await getattr(client, method)(**asked)

    return asyncio.run(ask())


both = pytest.mark.parametrize("ask", [blocking, by_asyncio])


@both
def test_a_call_with_a_request_id_is_tried_again_and_waits_longer_each_time(
    vanishing: Callable[[int], Vanishing], ask: Ask
) -> None:
    server = vanishing(3)
    assert isinstance(ask(server.target, "decide", node="n", text="x", request_id="r"), Decision)
    assert server.calls == 4
    waits = [after - before for before, after in zip(server.times, server.times[1:], strict=False)]
    assert all(wait >= 0.8 * least for wait, least in zip(waits, (0.1, 0.2, 0.4), strict=True)), waits
    server = vanishing(1)
    assert ask(server.target, "batch_decide", node="n", texts=["x", "y"], request_ids=["r", "s"]) == []
    assert server.calls == 2


@both
def test_it_gives_up_after_five_tries_or_when_its_time_would_be_over(
    vanishing: Callable[[int], Vanishing], ask: Ask
) -> None:
    server = vanishing(100)
    asked = {"node": "n", "text": "x", "request_id": "r"}
    with pytest.raises(DecisionError, match="UNAVAILABLE: Socket closed"):
        ask(server.target, "decide", **asked)
    assert server.calls == 5
    server = vanishing(100)
    began = time.monotonic()
    with pytest.raises(DecisionError, match="UNAVAILABLE: Socket closed"):
        ask(server.target, "decide", client_timeout=0.5, **asked)
    assert server.calls in (2, 3)
    assert time.monotonic() - began < 5, "the caller does not wait for what cannot be"


@both
@pytest.mark.parametrize(
    ("method", "asked"),
    [
        ("decide", {"node": "n", "text": "x"}),
        ("batch_decide", {"node": "n", "texts": ["x", "y"], "request_ids": ["r", ""]}),
        ("report_outcome", {"decision_id": "d", "right": True}),
    ],
)
def test_what_would_be_done_twice_is_not_tried_again(
    vanishing: Callable[[int], Vanishing], ask: Ask, method: str, asked: dict[str, Any]
) -> None:
    server = vanishing(1)
    with pytest.raises(DecisionError, match="UNAVAILABLE"):
        ask(server.target, method, **asked)
    assert server.calls == 1


@both
def test_what_the_server_says_itself_is_not_asked_again(ask: Ask) -> None:
    running = Running()
    try:
        with pytest.raises(DecisionError) as caught:
            ask(running.target, "decide", node="intent", text="teacher is down", request_id="r")
        assert (caught.value.code, caught.value.reason) == (
            grpc.StatusCode.UNAVAILABLE, "TEACHER_UNAVAILABLE",
        )  # fmt: skip
        assert len(running.engine.asks) == 1
    finally:
        running.close()


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
    assert 0.0 <= Tries(pb.DecideRequest(), 0.02).pause(Ended()) <= 0.006


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


class StuckTeacher:
    """A frontier model that answers everybody but the first."""

    def __init__(self) -> None:
        self.asked, self.go = 0, threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                outer.asked += 1
                if outer.asked == 1:
                    outer.go.wait(LONG)
                message = {"role": "assistant", "content": '{"label": "refund_status"}'}
                body = json.dumps({
                    "id": "c", "object": "chat.completion", "created": 1, "model": "m",
                    "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                }).encode()  # fmt: skip
                with suppress(OSError):  # who asked may be killed
                    self.send_response(200)
                    self.send_header("content-type", "application/json")
                    self.send_header("content-length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.go.set()
        self._server.shutdown()
        self._server.server_close()


def connected(target: str, pids: set[int]) -> set[int]:
    """Give those processes that hold a connection that came to that port."""
    port = int(target.rpartition(":")[2])
    tables = [
        Path(f"/proc/net/{name}").read_text() for name in ("tcp", "tcp6") if Path("/proc/net", name).exists()
    ]
    rows = [line.split() for table in tables for line in table.splitlines()[1:]]
    here = {f"socket:[{r[9]}]" for r in rows if r[3] == "01" and int(r[1].rpartition(":")[2], 16) == port}
    return {pid for pid in pids if any(os.readlink(fd) in here for fd in Path(f"/proc/{pid}/fd").iterdir())}


def test_a_call_with_a_request_id_survives_its_worker(
    configure: Callable[..., Config], models: Path, tmp_path: Path
) -> None:
    teacher = StuckTeacher()
    config = configure(
        store=f"sqlite:///{tmp_path}/traffic.db", models=str(models),
        chat={"base_url": teacher.url, "timeout_seconds": LONG},
    )  # fmt: skip
    document: dict[str, Any] = config.model_dump(mode="json", by_alias=True, exclude_none=True)
    document["nodes"][NODE]["contract"] = {"labels": "from-traffic"}
    service = Service(tmp_path, document, 2)
    answer: Future[Decision] = Future()

    def ask() -> None:
        with Client(service.target, timeout=LONG) as client:
            try:
                answer.set_result(client.decide(node=NODE, text="zzqx", request_id="r-1"))
            except DecisionError as error:
                answer.set_exception(error)

    try:
        asking = threading.Thread(target=ask)
        asking.start()
        assert comes(lambda: teacher.asked == 1)
        (worker,) = connected(service.target, service.workers())
        os.kill(worker, signal.SIGKILL)
        assert answer.result(LONG).label == "refund_status"
        assert teacher.asked == 2
        asking.join(LONG)
    finally:
        teacher.close()
        service.process.terminate()
        assert service.process.wait(LONG) == 0
