"""Streams of questions over real gRPC: bounded, cancelled, answered as they are ready."""

from __future__ import annotations

import threading
import time

import grpc
import pytest

from cascade.client import DecisionError, Question
from cascade.v1 import decision_pb2 as pb
from tests.service.fake_engine import LONG
from tests.soon import comes


def test_a_stream_answers_in_order_of_readiness(own):
    running = own()
    answers = running.client.stream_decide(
        [
            Question("intent", "wait", request_id="slow"),
            Question("intent", "fast", request_id="fast"),
            Question("intent", " ", request_id="bad"),
            Question("intent", "boom", request_id="boom"),
        ]
    )
    first = {(answer := next(answers)).request_id: answer for _ in range(3)}
    assert set(first) == {"fast", "bad", "boom"}
    assert first["fast"].label == "FAST"
    assert first["bad"].field == "request.text"
    assert first["boom"].code is grpc.StatusCode.INTERNAL
    running.engine.go.set()
    assert [answer.request_id for answer in answers] == ["slow"]


def test_a_stream_longer_than_its_bound_gets_every_answer(shared):
    asked = {str(number) for number in range(500)}
    answers = shared.client.stream_decide(Question("intent", "x", request_id=number) for number in asked)
    assert {answer.request_id for answer in answers} == asked


def test_a_stream_is_not_read_beyond_its_bound(own):
    running = own()
    sent = 0

    def questions():
        nonlocal sent
        for _ in range(200):
            sent += 1
            yield Question("intent", "wait")

    answers = running.client.stream_decide(questions())
    collected = []
    reader = threading.Thread(target=lambda: collected.extend(answers))
    reader.start()
    for _ in range(64):
        assert running.engine.entered.acquire(timeout=LONG)
    assert not running.engine.entered.acquire(timeout=0.2)
    assert len(running.engine.asks) == 64
    running.engine.go.set()
    reader.join(LONG)
    assert len(collected) == 200


def test_bytes_that_are_no_message_fail_one_item_of_a_stream(shared):
    call = shared.channel.stream_stream("/cascade.v1.DecisionService/StreamDecide")
    good = pb.StreamDecideRequest(request=pb.DecideRequest(node="intent", text="a")).SerializeToString()
    answers = [pb.StreamDecideResponse.FromString(raw).result for raw in call(iter([b"\x0a\x7f", good, b""]))]
    assert sorted(answer.WhichOneof("result") for answer in answers) == ["error", "error", "response"]


def test_a_cancelled_stream_makes_room_for_another(own):
    running = own(max_streams_per_connection=1000)
    most = running.server.pool.max_threads // 4
    closed = threading.Event()

    def questions():
        yield Question("intent", "x")
        closed.wait(LONG)

    for _ in range(2):  # more than may be open at once, if those that were cancelled counted
        streams = [running.client.stream_decide(questions()) for _ in range(most)]
        assert [next(stream).label for stream in streams] == ["X"] * most
        refused = running.client.stream_decide([Question("intent", "x")])
        with pytest.raises(DecisionError, match="too many streams"):
            next(refused)
        for stream in streams:
            stream.close()

        def there_is_room():
            try:
                return next(running.client.stream_decide([Question("intent", "x")])).label == "X"
            except DecisionError:
                return False

        assert comes(there_is_room)
    closed.set()


def test_what_a_cancelled_stream_asked_is_not_decided_any_more(own):
    running = own(threads=1)
    running.server.pool.submit(running.engine.go.wait, LONG)
    question = pb.StreamDecideRequest(request=pb.DecideRequest(node="intent", text="x"))
    call = running.stub.StreamDecide(iter([question] * 20))
    assert comes(lambda: running.server.waiting == 20)
    call.cancel()
    time.sleep(0.2)
    running.engine.go.set()
    assert comes(lambda: running.server.waiting == 0)
    assert running.client.decide(node="intent", text="on").label == "ON"
    assert len(running.engine.asks) == 1
