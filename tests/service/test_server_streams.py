"""Streams of questions over real gRPC: bounded, cancelled, answered as they are ready."""

from __future__ import annotations

import threading

import grpc

from cascade.client import Question
from cascade.v1 import decision_pb2 as pb
from tests.service.fake_engine import LONG, comes


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


def test_a_cancelled_stream_lets_go_of_its_threads(own):
    running = own()
    closed = threading.Event()

    def questions():
        yield Question("intent", "x")
        closed.wait(LONG)

    answers = running.client.stream_decide(questions())
    assert next(answers).label == "X"
    assert comes(lambda: running.server.pool.lent == 2)  # the reader's and the sender's
    answers.close()
    closed.set()
    assert comes(lambda: running.server.pool.lent == 0)
    assert running.client.decide(node="intent", text="on").label == "ON"
