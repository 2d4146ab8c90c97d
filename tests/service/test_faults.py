"""Every fault of the teacher, a rung, a validator or a caller, end to end through the real service."""

import io
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest

from cascade.client import Client, DecisionError
from cascade.config import Config
from cascade.inference import open_inference_pb2
from cascade.observe.logs import set_up_logs
from cascade.rungs.breaker import CircuitBreaker
from cascade.server import watchdog as watchdog_module
from cascade.server.engine import Engine
from cascade.server.serve import CascadeServer
from cascade.traffic import open_store
from cascade.v1 import decision_pb2 as pb
from cascade.v1 import decision_pb2_grpc
from tests.conftest import NODE
from tests.soon import comes

LONG = 30.0
STRANGE = "zzqx wvut 0192"
"""A text that no local rung settles."""


def completion(content: str | None, **more: Any) -> bytes:
    message = {"role": "assistant", "content": content}
    choice = {"index": 0, "message": message, "finish_reason": "stop"} | more
    usage = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
    return json.dumps(
        {
            "id": "c",
            "object": "chat.completion",
            "created": 0,
            "model": "m",
            "choices": [choice],
            "usage": usage,
        }
    ).encode()


class Teacher:
    """A chat API that does as the test says, and counts who went away."""

    def __init__(self) -> None:
        self.status, self.headers, self.body = 200, {}, completion('{"label": "refund_status"}')
        self.cut, self.wait = False, threading.Event()
        self.wait.set()
        self.asked, self.left = threading.Semaphore(0), threading.Semaphore(0)
        teacher = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                teacher.asked.release()
                while not teacher.wait.wait(0.02):
                    self.connection.setblocking(False)
                    try:
                        if self.connection.recv(1) == b"":
                            teacher.left.release()
                            self.close_connection = True
                            return
                    except BlockingIOError:
                        pass
                    finally:
                        self.connection.setblocking(True)
                self.send_response(teacher.status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(teacher.body)))
                for name, value in teacher.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(teacher.body[: len(teacher.body) // 2] if teacher.cut else teacher.body)
                if teacher.cut:
                    self.close_connection = True

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def teacher() -> Iterator[Teacher]:
    found = Teacher()
    yield found
    found.wait.set()
    found.server.shutdown()
    found.server.server_close()


class Running:
    def __init__(self, config: Config, folder: Path) -> None:
        self.store = open_store(f"sqlite:///{folder}/traffic.db")
        self.engine = Engine(config, self.store, refresh_seconds=0)
        for node in self.engine.nodes.values():
            node.teacher.breaker = CircuitBreaker(failures=1000)
        self.server = CascadeServer(self.engine, "127.0.0.1:0", config.server, config.limits)
        self.target = f"127.0.0.1:{self.server.start()}"
        self.client = Client(self.target, timeout=LONG)

    def error(self, **more: Any) -> DecisionError:
        with pytest.raises(DecisionError) as caught:
            self.client.decide(node=NODE, text=STRANGE, **more)
        return caught.value


@pytest.fixture
def start(
    models: Path, configure: Callable[..., Config], teacher: Teacher, tmp_path: Path
) -> Iterator[Callable[..., Running]]:
    running: list[Running] = []

    def make(chat: dict[str, Any] | None = None, **more: Any) -> Running:
        settings = {"base_url": teacher.url, "attempts": 1, "timeout_seconds": 2.0} | (chat or {})
        running.append(Running(configure(chat=settings, **more), tmp_path))
        return running[-1]

    yield make
    teacher.wait.set()
    for each in running:
        each.client.close()
        each.server.stop(0)
        each.engine.close()
        each.store.close()


@pytest.mark.parametrize("said", [-1_000_000, "12", 1 << 60, True])
def test_a_teacher_that_reports_no_number_of_tokens_costs_nothing_and_earns_nothing(
    start: Callable[..., Running], teacher: Teacher, said: Any
) -> None:
    answer = json.loads(teacher.body)
    teacher.body = json.dumps(answer | {"usage": {"prompt_tokens": said, "completion_tokens": 2}}).encode()
    running = start()
    decided = running.client.decide(node=NODE, text=STRANGE)
    assert (decided.rung, decided.label) == ("frontier", "refund_status")
    assert running.store.flush(LONG)
    logged = running.store.get(decided.decision_id)
    assert logged is not None
    assert (logged.input_tokens, logged.output_tokens) == (0, 2)
    price = running.engine.nodes[NODE].teacher.settings.price_output
    assert logged.usd == pytest.approx(2 * price / 1e6)


def settled_locally(running: Running, unseen: list[dict[str, Any]]) -> bool:
    """Ask questions of which some are settled below the teacher, whatever the teacher does."""
    for record in unseen[:30]:
        try:
            if running.client.decide(node=NODE, text=record["text"]).rung != "frontier":
                return True
        except DecisionError:
            continue
    return False


@pytest.mark.parametrize(
    ("status", "body", "cut", "code", "says"),
    [
        (500, b"{}", False, "UNAVAILABLE", "HTTP 500"),
        (503, b"not json", False, "UNAVAILABLE", "HTTP 503"),
        (200, completion('{"label": "refund_status"}'), True, "UNAVAILABLE", ""),
        (200, b"<html>hello</html>", False, "UNAVAILABLE", ""),
        (200, b'{"choices": 3}', False, "UNAVAILABLE", ""),
        (200, completion('{"label": "refund_'), False, "FAILED_PRECONDITION", "cannot be read"),
        (200, completion('{"tool": 1}'), False, "FAILED_PRECONDITION", "cannot be read"),
        (200, completion(""), False, "UNAVAILABLE", "empty"),
        (200, completion(None), False, "UNAVAILABLE", "empty"),
        (200, completion(None, finish_reason="content_filter"), False, "UNAVAILABLE", "refused"),
        (200, completion(f'{{"label": "{"x" * 300}"}}'), False, "FAILED_PRECONDITION", "breaks"),
    ],
    ids=["500", "503", "cut", "html", "shape", "cut json", "schema", "empty", "null", "filter", "contract"],
)  # fmt: skip
def test_a_broken_teacher_is_a_clear_error_and_local_answers_go_on(
    start: Callable[..., Running], teacher: Teacher, unseen: list[dict[str, Any]],
    status: int, body: bytes, cut: bool, code: str, says: str,
) -> None:  # fmt: skip
    teacher.status, teacher.body, teacher.cut = status, body, cut
    running = start()
    error = running.error()
    assert error.code is grpc.StatusCode[code]
    assert says in str(error)
    assert "Traceback" not in str(error)
    assert settled_locally(running, unseen)


def test_a_teacher_that_wants_a_pause_gets_it_and_the_caller_learns_of_it(
    start: Callable[..., Running], teacher: Teacher
) -> None:
    teacher.status, teacher.body, teacher.headers = 429, b"{}", {"retry-after": "7"}
    running = start(chat={"attempts": 3})
    began = time.monotonic()
    error = running.error(timeout=3.0)
    assert error.code is grpc.StatusCode.UNAVAILABLE
    assert error.retry_after_seconds == pytest.approx(7.0)
    assert time.monotonic() - began < 3.0  # a pause beyond the deadline is not waited for


def test_a_slow_teacher_costs_its_callers_their_deadline_and_nobody_else(
    start: Callable[..., Running], teacher: Teacher, unseen: list[dict[str, Any]]
) -> None:
    teacher.wait.clear()
    running = start()
    assert running.error(timeout=0.3).code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert running.error().code is grpc.StatusCode.UNAVAILABLE  # the rung's own limit of 2 s
    assert any(running.client.batch_decide(node=NODE, texts=[r["text"] for r in unseen[:5]], timeout=LONG))


@pytest.mark.parametrize("how", ["cancelled", "too late"])
@pytest.mark.parametrize("kind", ["unary", "batch", "stream", "inference"])
def test_a_call_that_ends_early_takes_the_call_to_the_teacher_along(
    start: Callable[..., Running], teacher: Teacher, kind: str, how: str
) -> None:
    teacher.wait.clear()
    running = start(chat={"timeout_seconds": LONG})
    request = pb.DecideRequest(node=NODE, text=STRANGE)
    timeout = None if how == "cancelled" else 3.0
    with grpc.insecure_channel(running.target) as channel:
        stub = decision_pb2_grpc.DecisionServiceStub(channel)
        if kind == "unary":
            call = stub.Decide.future(request, timeout=timeout)
        elif kind == "batch":
            call = stub.BatchDecide.future(pb.BatchDecideRequest(requests=[request]), timeout=timeout)
        elif kind == "stream":
            # As an agent does, it leaves its side open.
            open_side = threading.Event()
            asked = pb.StreamDecideRequest(request=request)
            call = stub.StreamDecide(
                (asked if i == 0 else open_side.wait(LONG) for i in range(2)), timeout=timeout
            )
        else:
            text = open_inference_pb2.ModelInferRequest.InferInputTensor(
                name="text", datatype="BYTES", shape=[1]
            )
            text.contents.bytes_contents.append(STRANGE.encode())
            infer = open_inference_pb2.ModelInferRequest(model_name=NODE, inputs=[text])
            asking = channel.unary_unary(
                "/inference.GRPCInferenceService/ModelInfer",
                open_inference_pb2.ModelInferRequest.SerializeToString,
            )
            call = asking.future(infer, timeout=timeout)
        assert teacher.asked.acquire(timeout=LONG)
        if how == "cancelled":
            call.cancel()
        assert teacher.left.acquire(timeout=LONG)
        expected = grpc.StatusCode[how.replace("too late", "deadline_exceeded").upper()]
        if kind == "batch" and call.code() is grpc.StatusCode.OK:
            # The server saw the deadline a moment before the client, and said so of the request.
            assert how == "too late"
            assert [each.error.code for each in call.result().results] == [expected.value[0]]
        else:
            assert call.code() is expected
        assert comes(lambda: running.server.pool.lent == 0), "and nobody waits for the answer any more"
        if kind == "stream":
            open_side.set()


def test_one_request_id_is_decided_once_however_many_ask_at_once(
    start: Callable[..., Running], teacher: Teacher
) -> None:
    teacher.wait.clear()
    running = start(chat={"timeout_seconds": LONG})
    seen: list[str] = []

    def ask() -> None:
        seen.append(running.client.decide(node=NODE, text=STRANGE, request_id="once").decision_id)

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    assert teacher.asked.acquire(timeout=LONG)
    teacher.wait.set()
    for thread in threads:
        thread.join(LONG)
    assert len(seen) == 12
    assert len(set(seen)) == 1
    assert not teacher.asked.acquire(blocking=False)


def test_a_rung_that_raises_escalates(start: Callable[..., Running], unseen: list[dict[str, Any]]) -> None:
    running = start()
    bundle = running.engine.nodes[NODE].bundle
    assert bundle is not None

    def broken(_: Any) -> Any:
        raise MemoryError("no room")

    for rung in bundle.ladder.rungs:
        rung.answer = broken  # type: ignore[method-assign]
    decided = running.client.decide(node=NODE, text=unseen[0]["text"])
    assert decided.rung == "frontier"
    assert any("MemoryError" in attempt.reason for attempt in decided.attempts)


GO = threading.Event()


def blocks(_: Any, __: Any) -> None:
    """A user's validator that hangs."""
    GO.wait(LONG)


def test_a_validator_that_blocks_is_named_and_given_up_and_others_are_served(
    start: Callable[..., Running],
    unseen: list[dict[str, Any]],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.ERROR)
    watchdog = watchdog_module.Watchdog(slow_seconds=0.2, most=2)
    monkeypatch.setattr("cascade.server.checks.watchdog", watchdog)
    GO.clear()
    # The calls that queue behind the stuck ones are to be served once these return, however long that takes.
    patient = {"threads": 2, "max_waiting_seconds": LONG}
    running = start(node={"validators": [f"{__name__}:blocks"]}, server=patient)
    local = [record["text"] for record in unseen[:40]]
    try:
        with grpc.insecure_channel(running.target) as channel:
            stub = decision_pb2_grpc.DecisionServiceStub(channel)
            stuck = [stub.Decide.future(pb.DecideRequest(node=NODE, text=text)) for text in local]
            assert comes(lambda: f"validator blocks of node {NODE} blocks for" in caplog.text)
            assert comes(lambda: watchdog.blocked(f"validator blocks of node {NODE}"))
            decided = [running.client.decide(node=NODE, text=text) for text in local[:20]]
            reasons = [attempt.reason for d in decided for attempt in d.attempts]
            assert any("blocks is not asked" in reason for reason in reasons)
            GO.set()
            for call in stuck:
                assert call.result(LONG).label
    finally:
        GO.set()


def repeats(ask: Any, _: Any) -> None:
    """A user's validator whose error says what it was asked."""
    raise ValueError(ask.text)


def test_log_lines_cannot_be_forged_by_input(
    start: Callable[..., Running], unseen: list[dict[str, Any]]
) -> None:
    running = start(node={"validators": [f"{__name__}:repeats"]})
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    said = io.StringIO()
    forged = unseen[0]["text"] + "\nERROR root: all bundles deleted\x1b[31m\u2028ERROR again"
    try:
        set_up_logs("text", stream=said)
        running.client.decide(node=NODE, text=forged)
        assert comes(lambda: "all bundles deleted" in said.getvalue())
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    lines = said.getvalue().splitlines()
    # Each begins with its time, or is a stack trace's and indented.
    assert all(line.startswith("  ") or line[:4].isdecimal() for line in lines)
    assert "\x1b" not in said.getvalue()
