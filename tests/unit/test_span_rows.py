"""Spans that are encoded many at a time are those that are encoded one by one."""

from __future__ import annotations

import logging
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from cascade.observe import span_encoding
from cascade.observe.ended import Ended
from cascade.observe.span_encoding import SpanEncoder, resource

MODELS = {"frontier": ("big-1", "api.example.com")}
PARENT = "00f067aa0ba902b7"
NUMBER = st.none() | st.floats(0, 1)


def _ended(number: int, **changes: Any) -> Ended:
    drawn = random.Random(number)
    values: dict[str, Any] = {
        "traceparent": f"00-{drawn.getrandbits(128):032x}-{drawn.getrandbits(64):016x}-03", "node": "n",
        "began": 1_764_483_600_000_000_000 + number, "parent": "", "until": 1_764_483_600_123_456_789,
        "time": 1_764_483_600.123456, "decision_id": f"d-{number:012x}", "rung": "linear", "mode": "live",
        "bundle": "b1", "attempts": [_attempt()],
    }  # fmt: skip
    return Ended(**(values | changes))


def _attempt(**changes: Any) -> dict[str, Any]:
    attempt = {"rung": "linear", "p_right_before": 0.9, "confidence_after": 0.99, "latency_ms": 0.123}
    return attempt | {"reason": ""} | changes


def _sent(batch: list[Ended]) -> tuple[list[Span], int]:
    """The spans as a collector reads them, each parent before those below it, and how many were told of."""
    message, made = SpanEncoder(resource(), MODELS).encode(batch)
    return list(ExportTraceServiceRequest.FromString(message).resource_spans[0].scope_spans[0].spans), made


def _drawn_alike(spans: list[Span]) -> list[bytes]:
    """What is sent, but for the ids that are drawn and for the order of decisions."""
    ids = {span.span_id for span in spans}
    assert len(ids) == len(spans)
    for span in spans:
        if span.parent_span_id in ids:
            span.span_id = b"\1" * 8
    return sorted(span.SerializeToString(deterministic=True) for span in spans)


@settings(max_examples=60)
@given(
    st.lists(
        st.fixed_dictionaries({
            "node": st.sampled_from(["n", "ü"]), "parent": st.sampled_from(["", PARENT]),
            "time": st.floats(0, 2**33), "usd": st.sampled_from([0.0, 0.25]),
            "decision_id": st.sampled_from(["d-1", "d-22", "d-ü", ""]),
            "error": st.sampled_from([None, None, None, "deadline: it is late"]),
            "by_teacher": st.sampled_from([False, False, False, True]),
            "attempts": st.lists(
                st.builds(
                    _attempt, rung=st.sampled_from(["linear", "linear", "frontier"]), p_right_before=NUMBER,
                    confidence_after=NUMBER, latency_ms=st.floats(0, 1e6),
                    reason=st.sampled_from(["", "", "confidence 0.5 is below 0.9"]),
                ),
                min_size=0, max_size=2,
            ) | st.just([_attempt()]),
        }),
        max_size=60,
    ),
    st.integers(1, 6),
)  # fmt: skip
def test_spans_that_are_encoded_together_are_those_that_are_encoded_one_by_one(
    changes: list[dict[str, Any]], few: int
) -> None:
    batch = [_ended(i, **each) for i, each in enumerate(changes)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(span_encoding, "_FEW", len(batch) + 1)
        alone, made = _sent(batch)
        patch.setattr(span_encoding, "_FEW", few)
        together, made_together = _sent(batch)
    assert (made, made_together) == (len(alone), len(alone))
    assert _drawn_alike(together) == _drawn_alike(alone)


@pytest.mark.parametrize(
    "changes",
    [
        {"time": float("nan")}, {"time": float("inf")}, {"time": -1.0}, {"until": -1}, {"usd": "a lot"},
        {"traceparent": "00-short"}, {"attempts": [_attempt(latency_ms=float("inf"))]},
        {"attempts": [_attempt(confidence_after="high")]},
    ],
)  # fmt: skip
def test_one_that_cannot_be_encoded_costs_none_of_those_that_are_encoded_with_it(
    changes: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    batch = [_ended(i) for i in range(40)]
    expected, _ = _sent(batch)
    spans, made = _sent([*batch[:20], _ended(99, **changes), *batch[20:]])
    assert made == len(spans) == 80
    assert _drawn_alike(spans) == _drawn_alike(expected)
    assert caplog.text.count("cannot be sent") == 1
