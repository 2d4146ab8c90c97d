"""A response says all of its decision, and nothing of the one before it."""

from dataclasses import replace

from cascade.ask import Attempt, Decided
from cascade.server.responses import response_of
from cascade.v1 import decision_pb2 as pb

ATTEMPT = Attempt("linear", 0.25, 0.5, 1.5)
DECIDED = Decided("id-1", "refund", "linear", 0.5, "0003-12345678", "live", (ATTEMPT,), request_id="r-1")


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
