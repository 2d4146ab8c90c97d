"""A span that is filled in is the one that protobuf encodes from the same values."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Span

from cascade.observe.span_shape import SpanShape, start_of

NANOSECONDS = st.integers(0, 2**64 - 1)


def attribute(key: str, value: str | float) -> KeyValue:
    kind = {"string_value": value} if isinstance(value, str) else {"double_value": value}
    return KeyValue(key=key, value=AnyValue(**kind))


@given(
    ids=st.tuples(st.binary(min_size=16, max_size=16), *[st.binary(min_size=8, max_size=8)] * 2),
    below=st.booleans(),
    times=st.tuples(NANOSECONDS, NANOSECONDS),
    text=st.none() | st.from_regex(r"[a-z0-9-]{1,300}", fullmatch=True),
    numbers=st.dictionaries(st.sampled_from("abc"), st.floats(allow_nan=False)),
    name=st.text(max_size=300),
    more=st.none() | st.text(max_size=300),
)
def test_a_span_that_is_filled_in_is_the_one_that_protobuf_makes(
    ids: tuple[bytes, bytes, bytes],
    below: bool,
    times: tuple[int, int],
    text: str | None,
    numbers: dict[str, float],
    name: str,
    more: str | None,
) -> None:
    constant = Span(name=name, flags=0x100, attributes=[attribute("constant", name)])
    shape = SpanShape(constant, below, "text" if text else "", len(text or ""), list(numbers))
    values: list[bytes | int | float] = [
        *ids[: 3 if below else 2],
        *times,
        *([text.encode()] if text else []),
        *numbers.values(),
    ]
    added = Span(attributes=[attribute("more", more)]) if more is not None else Span()
    encoded = shape.encode(*values, more=added.SerializeToString())
    expected = Span(
        trace_id=ids[0], span_id=ids[1], parent_span_id=ids[2] if below else b"",
        start_time_unix_nano=times[0], end_time_unix_nano=times[1], name=name, flags=0x100,
        attributes=[
            *([attribute("text", text)] if text else []),
            *(attribute(key, value) for key, value in numbers.items()),
            attribute("constant", name), *added.attributes,
        ],
    )  # fmt: skip
    assert list(ScopeSpans.FromString(encoded * 2).spans) == [expected, expected]


@given(st.binary(max_size=40_000))
def test_a_delimited_field_is_read_by_protobuf(text: bytes) -> None:
    name = text.hex()
    span = Span(name=name).SerializeToString()
    found = ScopeSpans.FromString(start_of(ScopeSpans.SPANS_FIELD_NUMBER, len(span)) + span)
    assert [span.name for span in found.spans] == [name]


def test_a_span_that_is_filled_in_keeps_what_is_no_number() -> None:
    shape = SpanShape(Span(), False, doubles=["number"])
    found = ScopeSpans.FromString(shape.encode(b"\1" * 16, b"\2" * 8, 1, 2, math.nan))
    assert math.isnan(found.spans[0].attributes[0].value.double_value)
