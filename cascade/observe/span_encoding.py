"""Spans as OTLP: from what ended straight to the messages of `opentelemetry-proto`, without span objects.

Whatever is the same for many spans (name, kind, most attributes) is encoded once, and merged into each span
as bytes.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, SpanFlags, Status
from opentelemetry.sdk.resources import SERVICE_NAME, Resource

from cascade.observe.ended import Ended

_log = logging.getLogger(__name__)

_MOST_KEPT = 1000  # encoded parts; bundles come and go
_MOST_TEXT = 200  # characters of a reason
_FAILED = ("error", "deadline", "contract")  # how the reasons begin that make an attempt a failure


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
        whole = ExportTraceServiceRequest()
        ours = whole.resource_spans.add(schema_url=resource.schema_url)
        ours.resource.attributes.extend(_attributes(resource.attributes))
        ours.scope_spans.add().scope.name = "cascade"
        self._whole = whole.SerializeToString()
        self._kept: dict[tuple[str | bool, ...], bytes] = {}
        self._random = random.Random()

    def encode(self, batch: Sequence[Ended]) -> tuple[bytes, int]:
        """Give an `ExportTraceServiceRequest`, and how many spans it holds.

        What cannot be encoded is left out, with a line in the log.
        """
        whole = ExportTraceServiceRequest.FromString(self._whole)
        spans = whole.resource_spans[0].scope_spans[0].spans
        for ended in batch:
            before = len(spans)
            try:
                self._encode(ended, spans)
            except Exception:  # of this one, and the others are not to blame
                del spans[before:]
                _log.exception("the spans of a decision of %s cannot be sent", ended.node)
        return whole.SerializeToString(), len(spans)

    def _encode(self, ended: Ended, spans: Any) -> None:
        trace_id, span_id = bytes.fromhex(ended.traceparent[3:35]), bytes.fromhex(ended.traceparent[36:52])
        span = spans.add(
            trace_id=trace_id, span_id=span_id, parent_span_id=bytes.fromhex(ended.parent),
            start_time_unix_nano=ended.began, end_time_unix_nano=ended.until,
        )  # fmt: skip
        span.MergeFromString(self._of_decision(ended))
        if not ended.decision_id:
            return
        span.attributes.add(key="cascade.decision_id").value.string_value = ended.decision_id
        span.attributes.add(key="cascade.usd").value.double_value = ended.usd
        if ended.error is not None:
            _fail(span, ended.error)
        at = ended.time
        for attempt in ended.attempts:
            until = at + attempt["latency_ms"] / 1e3
            below = spans.add(
                trace_id=trace_id, span_id=self._random.randbytes(8), parent_span_id=span_id,
                start_time_unix_nano=int(at * 1e9), end_time_unix_nano=int(until * 1e9),
            )  # fmt: skip
            self._fill_attempt(below, ended, attempt)
            at = until

    def _fill_attempt(self, span: Any, ended: Ended, attempt: Mapping[str, Any]) -> None:
        rung = str(attempt["rung"])
        span.MergeFromString(self._of_attempt(rung))
        if ended.by_teacher and rung in self._models:
            span.attributes.add(key="gen_ai.usage.input_tokens").value.int_value = ended.input_tokens
            span.attributes.add(key="gen_ai.usage.output_tokens").value.int_value = ended.output_tokens
        for name in ("p_right_before", "confidence_after"):
            value = attempt.get(name)
            if value is not None:
                span.attributes.add(key=f"cascade.{name}").value.double_value = value
        reason = str(attempt["reason"])
        if reason:
            span.attributes.add(key="cascade.reason").value.string_value = _short(reason)
            if reason.startswith(_FAILED):
                _fail(span, reason)

    def _of_decision(self, ended: Ended) -> bytes:
        logged, below = bool(ended.decision_id), bool(ended.parent)
        key = (ended.node, ended.rung, ended.mode, ended.bundle, logged, below)
        found = self._kept.get(key)
        if found is not None:
            return found
        attributes = {
            "cascade.node": ended.node,
            "cascade.rung": ended.rung,
            "cascade.mode": ended.mode,
            "cascade.bundle": ended.bundle,
        }
        return self._keep(key, Span(
            name=f"decide {ended.node}", kind=Span.SPAN_KIND_SERVER, flags=_flags(remote=below),
            attributes=_attributes(attributes if logged else {}),
        ))  # fmt: skip

    def _of_attempt(self, rung: str) -> bytes:
        found = self._kept.get((rung,))
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
        return self._keep((rung,), Span(
            name=f"{operation} {model}", kind=Span.SPAN_KIND_CLIENT if chat else Span.SPAN_KIND_INTERNAL,
            flags=_flags(remote=False), attributes=_attributes(attributes),
        ))  # fmt: skip

    def _keep(self, key: tuple[str | bool, ...], span: Span) -> bytes:
        if len(self._kept) >= _MOST_KEPT:
            self._kept.clear()
        encoded = self._kept[key] = span.SerializeToString()
        return encoded


def _flags(remote: bool) -> int:
    known = SpanFlags.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
    return known | SpanFlags.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK if remote else known


def _fail(span: Any, why: str) -> None:
    span.status.code = Status.STATUS_CODE_ERROR
    span.status.message = _short(why)
    span.attributes.add(key="error.type").value.string_value = _short(why.partition(":")[0])


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
