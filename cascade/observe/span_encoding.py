"""Spans as OTLP: from what ended straight to the messages of `opentelemetry-proto`, without span objects.

Whatever is the same for many spans (name, kind, most attributes) is encoded once; see `span_shape`.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, SpanFlags, Status
from opentelemetry.sdk.resources import SERVICE_NAME, Resource

from cascade.observe.ended import Ended
from cascade.observe.span_rows import SpanRows
from cascade.observe.span_shape import SpanShape, start_of

_log = logging.getLogger(__name__)

_MOST_KEPT = 1000  # shapes; bundles come and go
_FEW = 12  # decisions that are sooner encoded one by one
_MOST_TEXT = 200  # characters of a reason
_FAILED = ("error", "deadline", "contract")  # how the reasons begin that make an attempt a failure

_Key = tuple[str, str, str, str, int, bool, str, bool, bool]
"""Node, rung, mode, bundle, the id's length, whether below another span; the rung tried, and its numbers."""
_Group = tuple[list[Ended], list[Mapping[str, Any]]]


def resource() -> Resource:
    """Say who sends: what the environment says (`OTEL_RESOURCE_ATTRIBUTES`), by default service `cascade`."""
    found = Resource.create()
    if str(found.attributes[SERVICE_NAME]).startswith("unknown_service"):  # the SDK's default
        found = found.merge(Resource({SERVICE_NAME: "cascade"}))
    return found


class SpanEncoder:
    """Makes OTLP requests of what ended. For one thread.

    Parameters
    ----------
    resource : opentelemetry.sdk.resources.Resource
    models : mapping of str to (str, str)
        For each chat rung, the model's name and the API's host.
    """

    def __init__(self, resource: Resource, models: Mapping[str, tuple[str, str]]) -> None:
        self._models = models
        ours = ResourceSpans(schema_url=resource.schema_url)
        ours.resource.attributes.extend(_attributes(resource.attributes))
        self._resource = ours.SerializeToString()
        self._scope = ScopeSpans(scope=InstrumentationScope(name="cascade")).SerializeToString()
        self._kept: dict[tuple[str | bool | int, ...], SpanShape] = {}
        self._kept_rows: dict[_Key, SpanRows] = {}
        self._random = random.Random()

    def encode(self, batch: Sequence[Ended]) -> tuple[bytes, int]:
        """Give an `ExportTraceServiceRequest`, and how many spans it holds.

        What cannot be encoded is left out, with a line in the log.
        """
        spans: list[bytes | bytearray] = []
        made = 0
        alike, others = self._alike(batch)
        for key, (some, attempts) in alike.items():
            try:
                if len(some) < _FEW:
                    others += some
                    continue
                spans.append(self._rows(key).encode(some, attempts, self._random))
                made += 2 * len(some)
            except Exception:  # of one of them: which, is found one by one
                others += some
        for ended in others:
            try:
                of_one = self._encode(ended)
            except Exception:  # of this one, and the others are not to blame
                _log.exception("the spans of a decision of %s cannot be sent", ended.node)
            else:
                spans += of_one
                made += len(of_one)
        # Copied once: each copy of half a megabyte takes as long as to encode it.
        size = len(self._scope) + sum(map(len, spans))
        ours = self._resource + start_of(ResourceSpans.SCOPE_SPANS_FIELD_NUMBER, size) + self._scope
        size += len(ours) - len(self._scope)
        whole = start_of(ExportTraceServiceRequest.RESOURCE_SPANS_FIELD_NUMBER, size)
        return b"".join([whole, ours, *spans]), made

    def _alike(self, batch: Sequence[Ended]) -> tuple[dict[_Key, _Group], list[Ended]]:
        """Tell decisions that a rung settled at its first try, by what they share, from the others."""
        alike: dict[_Key, _Group] = {}
        others: list[Ended] = []
        for ended in batch:
            _, node, _, parent, _, _, id_, rung, mode, bundle, _, attempts, by_teacher, _, _, error = ended
            try:
                (attempt,) = attempts
                if attempt["reason"] or by_teacher or error is not None or not id_:
                    others.append(ended)
                    continue
                key = (
                    node, rung, mode, bundle, len(id_), bool(parent), attempt["rung"],
                    attempt.get("p_right_before") is not None, attempt.get("confidence_after") is not None,
                )  # fmt: skip
                found = alike.get(key)
            except Exception:  # it has other attempts, or none that can be encoded
                others.append(ended)
                continue
            if found is None:
                found = alike[key] = ([], [])
            found[0].append(ended)
            found[1].append(attempt)
        return alike, others

    def _rows(self, key: _Key) -> SpanRows:
        rows = self._kept_rows.get(key)
        if rows is None:
            node, rung, mode, bundle, length, below, tried, before, after = key
            decision = self._of_decision(node, rung, mode, bundle, length, below)
            rows = SpanRows(decision, self._of_attempt(tried, before, after))
            if len(self._kept_rows) >= _MOST_KEPT:
                self._kept_rows.clear()
            self._kept_rows[key] = rows
        return rows

    def _encode(self, ended: Ended) -> list[bytes]:
        """Give a decision's span and those of its attempts, each a field of `ScopeSpans`."""
        ids = bytes.fromhex(ended.traceparent[3:35]), bytes.fromhex(ended.traceparent[36:52])
        values: list[bytes | int | float] = [*ids, ended.began, ended.until]
        if ended.parent:
            values.insert(2, bytes.fromhex(ended.parent))
        if not ended.decision_id:
            return [self._of_decision_of(ended, 0).encode(*values)]
        decision_id = ended.decision_id.encode()
        failed = b"" if ended.error is None else _failed(ended.error).SerializeToString()
        shape = self._of_decision_of(ended, len(decision_id))
        spans = [shape.encode(*values, decision_id, ended.usd, more=failed)]
        at = ended.time
        for attempt in ended.attempts:
            until = at + attempt["latency_ms"] / 1e3
            spans.append(self._encode_attempt(ended, attempt, ids, int(at * 1e9), int(until * 1e9)))
            at = until
        return spans

    def _encode_attempt(
        self, ended: Ended, attempt: Mapping[str, Any], ids: tuple[bytes, bytes], at: int, until: int
    ) -> bytes:
        rung, reason = str(attempt["rung"]), str(attempt["reason"])
        before, after = attempt.get("p_right_before"), attempt.get("confidence_after")
        numbers = [value for value in (before, after) if value is not None]
        more = b""
        if reason or (ended.by_teacher and rung in self._models):
            more = self._more(ended, rung, reason).SerializeToString()
        trace_id, parent = ids
        shape = self._of_attempt(rung, before is not None, after is not None)
        return shape.encode(trace_id, self._random.randbytes(8), parent, at, until, *numbers, more=more)

    def _more(self, ended: Ended, rung: str, reason: str) -> Span:
        """Give what few attempts have."""
        span = _failed(reason) if reason.startswith(_FAILED) else Span()
        if ended.by_teacher and rung in self._models:
            span.attributes.add(key="gen_ai.usage.input_tokens").value.int_value = ended.input_tokens
            span.attributes.add(key="gen_ai.usage.output_tokens").value.int_value = ended.output_tokens
        if reason:
            span.attributes.add(key="cascade.reason").value.string_value = _short(reason)
        return span

    def _of_decision_of(self, ended: Ended, id_length: int) -> SpanShape:
        below = bool(ended.parent)
        return self._of_decision(ended.node, ended.rung, ended.mode, ended.bundle, id_length, below)

    def _of_decision(
        self, node: str, rung: str, mode: str, bundle: str, id_length: int, below: bool
    ) -> SpanShape:
        key = (node, rung, mode, bundle, id_length, below)
        found = self._kept.get(key)
        if found is not None:
            return found
        attributes = {
            "cascade.node": node,
            "cascade.rung": rung,
            "cascade.mode": mode,
            "cascade.bundle": bundle,
        }
        constant = Span(
            name=f"decide {node}", kind=Span.SPAN_KIND_SERVER, flags=_flags(remote=below),
            attributes=_attributes(attributes if id_length else {}),
        )  # fmt: skip
        if not id_length:
            return self._keep(key, SpanShape(constant, below))
        return self._keep(key, SpanShape(constant, below, "cascade.decision_id", id_length, ("cascade.usd",)))

    def _of_attempt(self, rung: str, before: bool, after: bool) -> SpanShape:
        found = self._kept.get((rung, before, after))
        if found is not None:
            return found
        model, host = self._models.get(rung, (rung, ""))
        chat = rung in self._models
        # What no convention names yet, local classification, has a name of ours.
        operation = "chat" if chat else "classify"
        attributes = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": "openai" if chat else "cascade",
            "gen_ai.request.model": model,
            "cascade.rung": rung,
        }
        if host:
            attributes["server.address"] = host
        constant = Span(
            name=f"{operation} {model}", kind=Span.SPAN_KIND_CLIENT if chat else Span.SPAN_KIND_INTERNAL,
            flags=_flags(remote=False), attributes=_attributes(attributes),
        )  # fmt: skip
        numbers = ["cascade.p_right_before"] * before + ["cascade.confidence_after"] * after
        return self._keep((rung, before, after), SpanShape(constant, True, doubles=numbers))

    def _keep(self, key: tuple[str | bool | int, ...], shape: SpanShape) -> SpanShape:
        if len(self._kept) >= _MOST_KEPT:
            self._kept.clear()
        self._kept[key] = shape
        return shape


def _flags(remote: bool) -> int:
    known = SpanFlags.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
    return known | SpanFlags.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK if remote else known


def _failed(why: str) -> Span:
    """Give what a span has besides that failed."""
    return Span(
        status=Status(code=Status.STATUS_CODE_ERROR, message=_short(why)),
        attributes=_attributes({"error.type": _short(why.partition(":")[0])}),
    )


def _short(text: str) -> str:
    # Half a surrogate, which another's error may hold, is no text for protobuf.
    return text[:_MOST_TEXT].encode("utf-8", "replace").decode()


def _attributes(named: Mapping[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=_value(value)) for key, value in named.items()]


def _value(value: Any) -> AnyValue:
    match value:
        case bool():
            return AnyValue(bool_value=value)
        case int():
            return AnyValue(int_value=value)
        case float():
            return AnyValue(double_value=value)
        case str():
            return AnyValue(string_value=value)
        case bytes():
            return AnyValue(bytes_value=value)
        case _:  # a sequence, which is all that a resource may hold besides
            return AnyValue(array_value=ArrayValue(values=[_value(each) for each in value]))
