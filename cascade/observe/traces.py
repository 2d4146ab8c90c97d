"""OpenTelemetry traces by the GenAI conventions: one span a decision, and below it one span an attempt.

A decision's span begins when the request is read and ends when it is logged. Attempts become spans only then,
with the times that they took, so that untraced requests pay nothing for them. The caller's trace goes on
through us: its `traceparent` is the parent, and the decision's own goes to the frontier and into the log
(`context["traceparent"]`).
"""

from __future__ import annotations

import random
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from cascade.config.observe import TracesConfig
from cascade.errors import ConfigError
from cascade.traffic.records import Decision

PARENT = "traceparent"
_MOST_OPEN = 10_000  # what is answered from the log is not logged again, so its span stays open


class Traces:
    """Makes spans. A `cascade.observe.watcher.Watcher`.

    Parameters
    ----------
    provider : opentelemetry.sdk.trace.TracerProvider
    models : mapping of str to (str, str)
        For each chat rung, the model's name and the API's host.
    sample : float
        Share of the requests without a trace of the caller's that begin one, in [0, 1].
    """

    def __init__(self, provider: Any, models: Mapping[str, tuple[str, str]], sample: float = 1.0) -> None:
        from opentelemetry import trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider, self._models, self._sample = provider, models, sample
        self._random = random.Random()
        self._trace = trace
        self._tracer = provider.get_tracer("cascade")
        self._propagator = TraceContextTextMapPropagator()
        self._open: OrderedDict[str, Any] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, node: str, context: dict[str, str], parent: str) -> None:
        """Begin a decision's span; its own `traceparent` is put into the request's context.

        Parameters
        ----------
        parent : str
            The caller's `traceparent`; empty for none.
        """
        # Drawn here, as the SDK's sampler would: even unrecorded spans are made, passed on and logged.
        if not parent and self._sample < 1 and self._random.random() >= self._sample:
            return
        above = self._propagator.extract({PARENT: parent}) if parent else None
        span = self._tracer.start_span(f"decide {node}", context=above, kind=self._trace.SpanKind.SERVER)
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, self._trace.set_span_in_context(span))
        context[PARENT] = carrier.get(PARENT, parent)
        if not span.is_recording():
            return
        with self._lock:
            self._open[context[PARENT]] = span
            left = self._open.popitem(last=False)[1] if len(self._open) > _MOST_OPEN else None
        if left is not None:
            left.end()

    def saw(self, decision: Decision) -> None:
        """End a decision's span, and make those of its attempts."""
        opened = decision.context.get(PARENT)
        if not opened:
            return
        with self._lock:
            span = self._open.pop(opened, None)
        if span is None:
            return
        span.set_attributes({
            "cascade.node": decision.node, "cascade.rung": decision.rung, "cascade.mode": decision.mode,
            "cascade.bundle": decision.bundle_version, "cascade.decision_id": decision.decision_id,
            "cascade.usd": decision.usd,
        })  # fmt: skip
        at = decision.time
        above = self._trace.set_span_in_context(span)
        for attempt in decision.attempts:
            until = at + attempt["latency_ms"] / 1e3
            self._attempt(decision, attempt, above, at, until)
            at = until
        if decision.error is not None:
            span.set_status(self._trace.StatusCode.ERROR, decision.error[:200])
            span.set_attribute("error.type", decision.error.partition(":")[0])
        span.end()

    def _attempt(
        self, decision: Decision, attempt: Mapping[str, Any], above: Any, began: float, until: float
    ) -> None:
        rung = str(attempt["rung"])
        model, host = self._models.get(rung, (rung, ""))
        chat = rung in self._models
        # What no convention names yet, local classification, has a name of ours.
        operation = "chat" if chat else "classify"
        attributes: dict[str, Any] = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": "openai" if chat else "cascade",
            "gen_ai.request.model": model,
            "cascade.rung": rung,
        }
        if host:
            attributes["server.address"] = host
        if chat and decision.by_teacher:
            attributes["gen_ai.usage.input_tokens"] = decision.input_tokens
            attributes["gen_ai.usage.output_tokens"] = decision.output_tokens
        for name in ("p_right_before", "confidence_after"):
            if attempt.get(name) is not None:
                attributes[f"cascade.{name}"] = attempt[name]
        reason = str(attempt["reason"])
        if reason:
            attributes["cascade.reason"] = reason[:200]
        kind = self._trace.SpanKind.CLIENT if chat else self._trace.SpanKind.INTERNAL
        span = self._tracer.start_span(
            f"{operation} {model}", context=above, kind=kind, attributes=attributes,
            start_time=int(began * 1e9),
        )  # fmt: skip
        if reason.startswith(("error", "deadline", "contract")):
            span.set_status(self._trace.StatusCode.ERROR, reason[:200])
            span.set_attribute("error.type", reason.partition(":")[0])
        span.end(int(until * 1e9))

    def close(self) -> None:
        """Send what is not sent yet."""
        self._provider.shutdown()


def open_traces(config: TracesConfig, models: Mapping[str, tuple[str, str]]) -> Traces:
    """Build the traces of a configuration. In the process that serves: it starts a thread.

    Raises
    ------
    ConfigError
        The extra `otel` is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased
    except ImportError as error:
        raise ConfigError(
            f"observe.traces: `{error.name}` is not installed: pip install 'cascade-ladder[otel]'"
        ) from error
    provider = TracerProvider(
        resource=Resource.create({"service.name": "cascade"}),
        sampler=ParentBased(ALWAYS_ON),  # what begins here was drawn already, see `Traces.begin`
    )
    exporter = OTLPSpanExporter(endpoint=config.endpoint) if config.endpoint else OTLPSpanExporter()
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return Traces(provider, models, config.sample)
