"""Many spans of the same two shapes at once: rows of bytes, in which columns are filled in.

Most decisions are settled by one rung at its first try, and their spans differ in the values of a dozen
fields, which lie at the same places in all of them. To fill a column in takes a tenth of a value at a time.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cascade.observe.ended import Ended
from cascade.observe.span_shape import SpanShape

# A `traceparent` without its dashes, as bytes: version, id of the trace, id of the span, flags.
_OWN = np.dtype({"names": ["trace", "span"], "formats": ["V16", "V8"], "offsets": [1, 17], "itemsize": 26})
_LATEST = 2**63 / 1e9


class SpanRows:
    """Encodes decisions, each with the one attempt that settled it.

    Parameters
    ----------
    decision, attempt : SpanShape
        Of their spans.
    """

    def __init__(self, decision: SpanShape, attempt: SpanShape) -> None:
        self._template = b""
        formats, offsets = [], []
        for shape in (decision, attempt):
            for start, kind in shape.fields:
                self._template += start
                offsets.append(len(self._template))
                formats.append(kind)
                self._template += bytes(np.dtype(kind).itemsize)
            self._template += shape.constant
        names = [str(number) for number in range(len(formats))]
        size = len(self._template)
        self._dtype = np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": size})

    def encode(
        self, ended: Sequence[Ended], attempts: Sequence[Mapping[str, Any]], drawn: random.Random
    ) -> bytearray:
        """Give the spans, each a field of `ScopeSpans`.

        Parameters
        ----------
        ended : sequence of Ended
        attempts : sequence of mapping
            Of each, its only one.
        drawn : random.Random
            Draws the ids of the attempts' spans.

        Raises
        ------
        ValueError, TypeError
            A value does not fit where it belongs.
        """
        n = len(ended)
        columns = list(zip(*ended, strict=True))
        own, began, parents, until, at, ids = (columns[i] for i in (0, 2, 3, 4, 5, 6))
        own_ids = np.frombuffer(bytes.fromhex("".join(own).replace("-", "")), _OWN)
        if len(own_ids) != n:
            raise ValueError("a traceparent of another length")
        traces, spans = own_ids["trace"], own_ids["span"]
        begins = np.array(at, np.float64)
        ends = begins + np.array([each["latency_ms"] for each in attempts], np.float64) / 1e3
        if not (begins.min() >= 0 and ends.min() >= 0 and begins.max() < _LATEST and ends.max() < _LATEST):
            raise ValueError("a time that is none")
        values: list[Any] = [traces, spans]
        if parents[0]:
            values.append(np.frombuffer(bytes.fromhex("".join(parents)), "V8"))
        text = "".join(ids).encode()
        if len(text) != n * len(ids[0]):
            raise ValueError("ids that are not of ASCII")
        values += (began, until, np.frombuffer(text, f"V{len(ids[0])}"), columns[10])
        values += (traces, np.frombuffer(drawn.randbytes(8 * n), "V8"), spans)
        values += ((begins * 1e9).astype(np.uint64), (ends * 1e9).astype(np.uint64))
        for name in ("p_right_before", "confidence_after"):
            if attempts[0].get(name) is not None:
                values.append([each[name] for each in attempts])
        encoded = bytearray(self._template) * n
        rows = np.frombuffer(encoded, self._dtype)
        for name, column in zip(self._dtype.names or (), values, strict=True):
            rows[name] = column
        return encoded
