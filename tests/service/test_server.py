"""Requests over real gRPC on loopback: what is refused and what is answered; the engine only pretends."""

from __future__ import annotations

import time

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from cascade.client import DecisionError
from cascade.contract import Contract
from cascade.v1 import decision_pb2 as pb
from tests.service.fake_engine import CONTRACTS, chat, error_of

BAD = {
    "no node": ({"text": "x"}, "node", "must name"),
    "node too long": ({"node": "n" * 65, "text": "x"}, "node", "64"),
    "no input": ({"node": "intent"}, "input", "text and messages"),
    "empty text": ({"node": "intent", "text": ""}, "text", "empty"),
    "white space": ({"node": "intent", "text": " \n\t"}, "text", "white space"),
    "text too long": (
        {"node": "intent", "text": "é" * 51},
        "text",
        "has 102 bytes of UTF-8; the limit is 100",
    ),
    "no messages": ({"node": "intent", "messages": chat()}, "messages", "at least one"),
    "too many messages": (
        {"node": "intent", "messages": chat(*[("user", "a")] * 4)},
        "messages",
        "limit is 3",
    ),
    "bad role": (
        {"node": "intent", "messages": chat(("user", "a"), ("usr", "b"))},
        "messages.messages[1].role",
        "'usr' is not one of the roles",
    ),
    "empty contents": (
        {"node": "intent", "messages": chat(("user", ""), ("tool", " "))},
        "messages",
        "contents are empty",
    ),
    "messages too long": ({"node": "intent", "messages": chat(("user", "a" * 101))}, "messages", "101 bytes"),
    "context entries": (
        {"node": "intent", "text": "x", "context": {"a": "", "b": "", "c": ""}},
        "context",
        "limit is 2",
    ),
    "context key": ({"node": "intent", "text": "x", "context": {"": "v"}}, "context", "empty key"),
    "context size": ({"node": "intent", "text": "x", "context": {"a": "v" * 100}}, "context", "101 bytes"),
    "request id": ({"node": "intent", "text": "x", "request_id": "r" * 11}, "request_id", "has 11 bytes"),
    "strange label": (
        {"node": "intent", "text": "x", "choices": ["refund", "card_lots"]},
        "choices[1]",
        "did you mean 'card_lost'",
    ),
    "label twice": ({"node": "intent", "text": "x", "choices": ["refund", "refund"]}, "choices[1]", "twice"),
    "label twice, open": ({"node": "open", "text": "x", "choices": ["a", "a"]}, "choices[1]", "twice"),
    "empty label, no traffic": ({"node": "new", "text": "x", "choices": [" "]}, "choices[0]", "1 to 200"),
    "choices of a schema": ({"node": "slots", "text": "x", "choices": ["a"]}, "choices", "JSON Schema"),
}


@pytest.mark.parametrize(("request_fields", "field", "words"), BAD.values(), ids=BAD)
def test_bad_input_is_refused_with_its_field(shared, request_fields, field, words):
    request = pb.DecideRequest(**request_fields)
    error, details = error_of(lambda: shared.stub.Decide(request))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    violation = details["BadRequest"].field_violations[0]
    assert violation.field == field
    assert words in violation.description
    assert details["ErrorInfo"].reason == "INVALID_INPUT"
    assert details["ErrorInfo"].domain == "cascade"

    result = shared.stub.BatchDecide(
        pb.BatchDecideRequest(requests=[pb.DecideRequest(node="intent", text="a"), request])
    ).results
    assert result[0].response.label == "A"
    assert result[1].error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert result[1].error.field == f"requests[1].{field}"
    assert result[1].error.request_id == request.request_id


def test_a_decision_arrives_whole(shared):
    decision = shared.client.decide(
        node="intent", text="hi", context={"tenant": "t"}, request_id="r-1", choices=["refund"]
    )
    assert (decision.output, decision.label, decision.rung) == ("HI", "HI", "encoder")
    assert (decision.confidence, decision.bundle_version, decision.mode) == (0.97, "b-7", "live")
    assert (decision.decision_id, decision.request_id) == ("d-1", "r-1")
    assert decision.attempts[0].p_right_before == 0.25
    assert decision.attempts[0].reason == "confidence 0.5 is below 0.9"
    assert decision.attempts[1].p_right_before is None
    assert (decision.cost.usd, decision.cost.input_tokens, decision.cost.output_tokens) == (0.5, 12, 3)
    ask = shared.engine.asks[-1]
    assert (dict(ask.context), ask.request_id, ask.choices) == ({"tenant": "t"}, "r-1", ("refund",))


def test_a_schema_answer_is_a_json_value(shared):
    decision = shared.client.decide(node="slots", text="x")
    assert decision.output == {"a": [1, None, True, 0.5]}
    assert decision.label == ""


def test_a_chat_is_flattened(shared):
    shared.client.decide(node="intent", messages=[("system", "be nice"), {"role": "user", "content": "hi"}])
    ask = shared.engine.asks[-1]
    assert ask.messages == (("system", "be nice"), ("user", "hi"))
    assert ask.text == "system: be nice\nuser: hi"


def test_an_unknown_node_is_not_found_and_names_the_known_ones(shared):
    error, details = error_of(lambda: shared.stub.Decide(pb.DecideRequest(node="intnt", text="x")))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert "intent, new, open, slots" in error.details()
    assert details["ErrorInfo"].reason == "UNKNOWN_NODE"


def test_a_failing_teacher_says_when_to_try_again(shared):
    with pytest.raises(DecisionError) as caught:
        shared.client.decide(node="intent", text="teacher is down")
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    assert (caught.value.reason, caught.value.retry_after_seconds) == ("TEACHER_UNAVAILABLE", 2.5)


def test_an_unforeseen_error_is_logged_and_not_shown(shared, caplog):
    error, _ = error_of(lambda: shared.stub.Decide(pb.DecideRequest(node="intent", text="boom")))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert error.details().startswith("internal error, reference ")
    assert "secret" not in str(error)
    assert "Traceback" not in str(error)
    reference = error.details().split()[-1]
    logged = next(record for record in caplog.records if reference in record.getMessage())
    assert "secret of the inside" in str(logged.exc_info[1])


@pytest.mark.parametrize(
    ("method", "raw"),
    [
        ("Decide", b"\x0a\x02\xff\xfe\x12\x01x"),  # node is not UTF-8
        ("Decide", b"\x0a\x06intent\x12\x02\xc3\x28"),  # text is not UTF-8
        ("Decide", b"\x0a\x06intent\x12\x7fx"),  # text is cut short
        ("Decide", b"\x0a\x06intent\x12\x03\xed\xa0\x80"),  # a lone surrogate
        ("BatchDecide", b"\x0a\x09\x0a\x06intent\x12"),
        ("ReportOutcome", b"\x0a\x01\xff"),
    ],
)
def test_bytes_that_are_no_message_are_the_callers_error(shared, method, raw):
    call = shared.channel.unary_unary(f"/cascade.v1.DecisionService/{method}")
    error, details = error_of(lambda: call(raw))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert details["BadRequest"].field_violations[0].field == "request"
    assert "UTF-8" in error.details()


def test_an_empty_message_is_checked_like_any_other(shared):
    call = shared.channel.unary_unary("/cascade.v1.DecisionService/Decide")
    _error, details = error_of(lambda: call(b""))
    assert details["BadRequest"].field_violations[0].field == "node"


def test_a_message_above_the_limit_is_refused(own):
    running = own(max_message_bytes=1024)
    error, _ = error_of(lambda: running.stub.Decide(pb.DecideRequest(node="intent", text="x" * 2000)))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_very_long_error_still_reaches_the_caller(shared):
    labels = ["ü" * 90 + str(number) for number in range(40)]
    CONTRACTS["wide"] = Contract(labels=tuple(labels))
    try:
        error, details = error_of(
            lambda: shared.stub.Decide(pb.DecideRequest(node="wide", text="x", choices=["ö" * 4000]))
        )
    finally:
        del CONTRACTS["wide"]
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert details["BadRequest"].field_violations[0].field == "choices[0]"


def test_items_of_a_batch_fail_on_their_own(shared):
    results = shared.client.batch_decide(
        node="intent",
        inputs=["one", "teacher is down", [("user", "two")], " "],
        request_ids=["a", "b", "c", "d"],
    )
    assert [getattr(result, "label", None) for result in results] == ["ONE", None, "USER: TWO", None]
    assert [result.request_id for result in results] == ["a", "b", "c", "d"]
    assert results[1].retry_after_seconds == 2.5
    assert results[3].field == "requests[3].text"


@pytest.mark.parametrize(("count", "words"), [(0, "at least one"), (9, "has 9 requests; the limit is 8")])
def test_a_batch_of_no_or_too_many_requests_is_refused(shared, count, words):
    with pytest.raises(DecisionError, match=words) as caught:
        shared.client.batch_decide(node="intent", texts=["x"] * count)
    assert caught.value.field == "requests"


def test_the_deadline_is_passed_on(shared):
    before = time.monotonic()
    shared.client.decide(node="intent", text="x", timeout=1000.0)
    deadline = shared.engine.asks[-1].deadline
    assert before + 999 < deadline < time.monotonic() + 1100  # gRPC rounds long timeouts up on the wire
    shared.stub.Decide(pb.DecideRequest(node="intent", text="x"))
    assert shared.engine.asks[-1].deadline is None


def test_outcomes_are_reported(shared):
    client, reports = shared.client, shared.engine.reports
    assert client.report_outcome(decision_id="d-1", label="refund") == "o-1"
    assert reports[-1] == ("d-1", "refund", None, None)
    client.report_outcome(decision_id="d-1", output={"a": 1}, time=1700000000.5)
    assert reports[-1] == ("d-1", {"a": 1}, None, 1700000000.5)
    client.report_outcome(decision_id="d-1", right=False)
    assert reports[-1] == ("d-1", None, False, None)


def report(**fields):
    return pb.ReportOutcomeRequest(**{"decision_id": "d-1", **fields})


BAD_REPORTS = {
    "no id": (report(decision_id="", right=True), "decision_id"),
    "long id": (report(decision_id="d" * 11, right=True), "decision_id"),
    "no outcome": (report(), "outcome"),
    "empty label": (report(label=" "), "label"),
    "long label": (report(label="x" * 101), "label"),
    "empty output": (report(output={}), "output"),
    "label breaks the contract": (report(label="bad"), "label"),
    "bad nanos": (report(right=True, time=Timestamp(nanos=-1)), "time"),
    "bad seconds": (report(right=True, time=Timestamp(seconds=10**12)), "time"),
    "future": (report(right=True, time=Timestamp(seconds=250_000_000_000)), "time"),
}


@pytest.mark.parametrize(("request_", "field"), BAD_REPORTS.values(), ids=BAD_REPORTS)
def test_bad_reports_are_refused_with_their_field(shared, request_, field):
    error, details = error_of(lambda: shared.stub.ReportOutcome(request_))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert details["BadRequest"].field_violations[0].field == field


def test_a_report_on_an_unknown_decision_is_not_found(shared):
    with pytest.raises(DecisionError, match="unknown") as caught:
        shared.client.report_outcome(decision_id="unknown", right=True)
    assert caught.value.code is grpc.StatusCode.NOT_FOUND
