"""A response says all of its decision, and nothing of the one before it."""

import itertools
import random
from dataclasses import replace

import pytest

from cascade.ask import Attempt, Decided
from cascade.errors import InvalidInput, Overloaded
from cascade.server import response_template, responses
from cascade.server.responses import batch_response, streamed_response
from cascade.v1 import decision_pb2 as pb

ATTEMPT = Attempt("linear", 0.25, 0.5, 1.5)
DECIDED = Decided("id-1", "refund", "linear", 0.5, "0003-12345678", "live", (ATTEMPT,), request_id="r-1")


def response_of(decided: Decided) -> pb.DecideResponse:
    return pb.DecideResponse.FromString(responses.response_of(decided))


def test_a_response_has_every_part_of_its_decision() -> None:
    expected = pb.DecideResponse(
        decision_id="id-1", label="refund", rung="linear", confidence=0.5, bundle_version="0003-12345678",
        mode=pb.MODE_LIVE, request_id="r-1", cost=pb.Cost(),
        attempts=[pb.Attempt(rung="linear", p_right_before=0.25, confidence_after=0.5, latency_ms=1.5)],
    )  # fmt: skip
    expected.output.string_value = "refund"
    assert response_of(DECIDED) == expected
    assert response_of(DECIDED).HasField("cost")


def test_what_differs_between_decisions_with_one_label_stays_apart() -> None:
    other = Decided(
        "id-2", "refund", "frontier", None, "0003-12345678", "live",
        (replace(ATTEMPT, reason="confidence 0.5 is below 0.9"), Attempt("frontier", latency_ms=9.0)),
        0.5, 3, 4,
    )  # fmt: skip
    said = response_of(other)
    assert response_of(DECIDED).rung == "linear"
    assert response_of(replace(DECIDED, decision_id="id-3", request_id="", attempts=())) == pb.DecideResponse(
        decision_id="id-3", label="refund", rung="linear", confidence=0.5, bundle_version="0003-12345678",
        mode=pb.MODE_LIVE, cost=pb.Cost(), output=response_of(DECIDED).output,
    )  # fmt: skip
    assert (said.rung, said.label, said.request_id) == ("frontier", "refund", "")
    assert not said.HasField("confidence")
    assert (said.cost.usd, said.cost.input_tokens, said.cost.output_tokens) == (0.5, 3, 4)
    assert [attempt.reason for attempt in said.attempts] == ["confidence 0.5 is below 0.9", ""]
    assert not said.attempts[1].HasField("p_right_before")


def test_an_answer_that_is_no_label_has_none() -> None:
    for output in ({"city": "Bern"}, None, 3, ["a"]):
        said = response_of(replace(DECIDED, output=output))
        assert said.label == ""
        assert said.output.WhichOneof("kind") != "string_value"
    long = "x" * 5000
    said = response_of(replace(DECIDED, output=long))
    assert (said.label, said.output.string_value) == (long, long)


def settled(n: int, request_id: str = "") -> list[Decided]:
    """Decisions as the first rung settles them: of two labels, with ever other ids and numbers."""
    draw = random.Random(7)
    return [
        replace(
            DECIDED, decision_id=f"{draw.getrandbits(128):032x}", output=f"label é {i % 2}",
            confidence=draw.random(), request_id=request_id,
            attempts=(Attempt("linear", draw.random(), draw.random(), 40 * draw.random()),),
        )
        for i in range(n)
    ]  # fmt: skip


@pytest.mark.parametrize("request_id", ["", "r", "é" * 8, "0" * 36, "x" * 200])
@pytest.mark.parametrize("kind", ["alone", "in a batch", "in a stream"])
def test_a_response_that_is_filled_in_is_the_one_that_protobuf_writes(kind: str, request_id: str) -> None:
    kinds = {
        "alone": responses._response,
        "in a batch": responses._batch_of_one,
        "in a stream": responses._streamed,
    }
    write = kinds[kind]
    odd = [0.0, -0.0, 1.0, 1e-320, float("inf"), 0.1 + 0.2]
    many = settled(20, request_id=request_id) + [
        replace(DECIDED, confidence=a, attempts=(Attempt("linear", b, c, 1.5),), request_id=request_id)
        for a, b, c in itertools.product(odd, repeat=3)
    ]
    for decided in many:
        assert response_template.written(decided, write) == write(decided)


def test_what_no_template_has_is_written_field_by_field() -> None:
    one = settled(1)[0]
    assert response_of(one).label == one.output  # a template for its label is there
    (attempt,) = one.attempts
    others = [
        replace(one, confidence=None), replace(one, usd=0.5), replace(one, input_tokens=3),
        replace(one, output_tokens=4), replace(one, mode="shadow"), replace(one, bundle_version=""),
        replace(one, output={"a": "b"}), replace(one, output="x" * 300), replace(one, rung="frontier"),
        replace(one, attempts=()), replace(one, attempts=(attempt, attempt)), replace(one, decision_id="d"),
    ] + [
        replace(one, attempts=(replace(attempt, **{name: value}),))
        for name, value in (
            ("p_right_before", None), ("confidence_after", None), ("latency_ms", 0.0), ("reason", "error: x"),
            ("rung", "encoder"),
        )
    ]  # fmt: skip
    for other in others:
        assert responses.response_of(other) == responses._response(other)


def test_a_template_that_is_not_as_expected_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def backwards(decided: Decided) -> bytes:
        return responses._response(decided)[::-1]

    for decided in settled(3):
        assert response_template.written(decided, backwards) == backwards(decided)


def test_more_labels_than_templates_cost_no_template_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(response_template, "_templates", response_template._Templates())
    written_by_field = 0

    def write(decided: Decided) -> bytes:
        nonlocal written_by_field
        written_by_field += 1
        return responses._response(decided)

    many = [replace(DECIDED, output=f"label {i}", request_id="") for i in range(1100)] * 3
    for decided in many:
        response_template.written(decided, write)
    assert written_by_field < len(many)


def test_templates_of_a_bundle_that_has_gone_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(response_template, "_MOST", 2)
    monkeypatch.setattr(response_template, "_PATIENCE", 3)
    templates = response_template._Templates()
    monkeypatch.setattr(response_template, "_templates", templates)
    for version in ["1", "2", "3", "3", "3"]:
        one = replace(settled(1)[0], bundle_version=version)
        assert responses.response_of(one) == responses._response(one)
    assert {key[3] for key in templates} == {"3"}


def test_a_batch_has_its_results_in_order_with_the_errors_of_some() -> None:
    first, second = settled(2)
    outcomes = [first, InvalidInput("requests[1].text", "is empty"), second, Overloaded("busy", 0.5), DECIDED]
    asked = [pb.DecideRequest(request_id=str(i)) for i in range(len(outcomes))]
    expected = pb.BatchDecideResponse()
    for i, outcome in enumerate(outcomes):
        if isinstance(outcome, Decided):
            expected.results.add().response.CopyFrom(response_of(outcome))
        else:
            expected.results.add().error.CopyFrom(responses.error_of(outcome, "BatchDecide", str(i)))
    raw = batch_response(outcomes, asked)
    assert raw == expected.SerializeToString()
    for i in (0, 1):
        streamed = pb.StreamDecideResponse.FromString(streamed_response(outcomes[i], str(i)))
        assert streamed.result == expected.results[i]
