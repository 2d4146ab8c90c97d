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
from cascade.client.retry_budget import RetryBudget
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


class Overfull:
    """A server whose gRPC ends each call, as it does where too much waits in it."""

    def __init__(self) -> None:
        self.calls = 0
        self._server = grpc.server(ThreadPoolExecutor(4))
        ended = grpc.unary_unary_rpc_method_handler(self._end)
        handler = grpc.method_handlers_generic_handler("cascade.v1.DecisionService", {"Decide": ended})
        self._server.add_generic_rpc_handlers((handler,))
        self.target = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def _end(self, _: bytes, context: grpc.ServicerContext) -> bytes:
        self.calls += 1
        context.abort(grpc.StatusCode.CANCELLED, "CANCELLED")
        return b""

    def stop(self) -> None:
        self._server.stop(0)


@both
def test_a_client_that_is_refused_twice_asks_its_budget_to_which_answers_add(
    monkeypatch: pytest.MonkeyPatch, ask: Ask
) -> None:
    spent: list[RetryBudget] = []
    answered: list[RetryBudget] = []
    monkeypatch.setattr(RetryBudget, "spend", lambda self: spent.append(self))
    monkeypatch.setattr(RetryBudget, "answered", lambda self: answered.append(self))
    overfull, running = Overfull(), Running()
    try:
        with pytest.raises(DecisionError, match="CANCELLED"):
            ask(overfull.target, "decide", node="n", text="x")
        assert overfull.calls == 2, "the second try is free"
        assert len(spent) == 1
        ask(running.target, "decide", node="intent", text="refund")
        assert len(answered) == 1
    finally:
        overfull.stop()
        running.close()


def test_two_calls_of_a_client_have_one_budget_between_them(monkeypatch: pytest.MonkeyPatch) -> None:
    spent: list[RetryBudget] = []
    monkeypatch.setattr(RetryBudget, "spend", lambda self: spent.append(self))
    overfull = Overfull()

    async def twice() -> None:
        async with AsyncClient(overfull.target) as client:
            for _ in range(2):
                with suppress(DecisionError):
                    await client.decide(node="n", text="x")

    try:
        asyncio.run(twice())
        with Client(overfull.target) as client:
            for _ in range(2):
                with suppress(DecisionError):
                    client.decide(node="n", text="x")
    finally:
        overfull.stop()
    assert [id(each) for each in spent[::2]] == [id(each) for each in spent[1::2]]
    assert len({id(each) for each in spent}) == 2


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
