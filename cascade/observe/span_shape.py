"""Spans of one shape: what differs between two of them is a fixed number of bytes at known places.

A field that protobuf encodes alone is a tag, perhaps a length, and the value's own bytes, and fields encoded
one after the other are one message. So each field is encoded by protobuf once, its value is cut off, and a
span is what was left with other values put in: a single call instead of one for each field.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Span

_SPANS: int = ScopeSpans.SPANS_FIELD_NUMBER

_DOUBLE, _NANOSECONDS = struct.pack("<d", 1.0), struct.pack("<Q", 1)


def start_of(number: int, length: int) -> bytes:
    """Give what comes before a message of that length where it is a field of another: tag and length.

    See https://protobuf.dev/programming-guides/encoding/#length-types.

    Parameters
    ----------
    number : int
        The field's.
    length : int
        In bytes.
    """
    start = bytearray([number << 3 | 2])
    while length > 0x7F:
        start.append(length & 0x7F | 0x80)
        length >>= 7
    start.append(length)
    return bytes(start)


class SpanShape:
    """Encodes spans that differ in ids, times, and the values of some attributes.

    Parameters
    ----------
    constant : opentelemetry.proto.trace.v1.trace_pb2.Span
        What is the same for all.
    below : bool
        Whether they have a parent.
    text : str
        Key of an attribute that is a text; empty for none.
    length : int
        Bytes of that text, the same for all.
    doubles : sequence of str
        Keys of attributes that are numbers.
    """

    def __init__(
        self, constant: Span, below: bool, text: str = "", length: int = 0, doubles: Sequence[str] = ()
    ) -> None:
        id_, trace = b"\1" * 8, b"\1" * 16
        fields = [(Span(trace_id=trace), trace), (Span(span_id=id_), id_)]
        if below:
            fields.append((Span(parent_span_id=id_), id_))
        fields += [
            (Span(start_time_unix_nano=1), _NANOSECONDS),
            (Span(end_time_unix_nano=1), _NANOSECONDS),
        ]
        if text:
            letters = "x" * length
            fields.append((_with(text, AnyValue(string_value=letters)), letters.encode()))
        fields += [(_with(key, AnyValue(double_value=1.0)), _DOUBLE) for key in doubles]
        layout = "<"
        self._parts: list[bytes | int | float] = []
        self.fields: list[tuple[bytes, str]] = []
        """What comes before each value, and numpy's name of the value's type."""
        for field, value in fields:
            encoded = field.SerializeToString()
            if not encoded.endswith(value):
                raise ValueError(f"protobuf does not end a field with its value: {field}")
            start = encoded[: len(encoded) - len(value)]
            kind = {_NANOSECONDS: "Q", _DOUBLE: "d"}.get(value, f"{len(value)}s")
            layout += f"{len(start)}s{kind}"
            self._parts += (start, b"")
            self.fields.append((start, {"Q": "<u8", "d": "<f8"}.get(kind, f"V{len(value)}")))
        self._pack = struct.Struct(layout).pack
        self.constant = constant.SerializeToString()
        """What comes after the last value."""
        self._size = struct.calcsize(layout) + len(self.constant)
        self._start = start_of(_SPANS, self._size)
        self.fields[0] = (self._start + self.fields[0][0], self.fields[0][1])

    def encode(self, *values: bytes | int | float, more: bytes = b"") -> bytes:
        """Give a span, encoded as one of `ScopeSpans.spans`.

        Parameters
        ----------
        values
            Ids of the trace, the span and, where there is one, the parent (16, 8 and 8 bytes); when it began
            and ended, in nanoseconds since 1970; the text, in UTF-8; and the numbers.
        more : bytes
            What else the span holds, encoded.
        """
        parts = self._parts.copy()
        parts[1::2] = values
        start = start_of(_SPANS, self._size + len(more)) if more else self._start
        return start + self._pack(*parts) + self.constant + more


def _with(key: str, value: AnyValue) -> Span:
    return Span(attributes=[KeyValue(key=key, value=value)])
