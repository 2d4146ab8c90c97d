"""The `observe` section: metrics, traces and logs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from cascade.config import values
from cascade.config.section import Section


class TracesConfig(Section):
    """`observe.traces`: OpenTelemetry spans, sent by OTLP over HTTP; needs the extra `otel`.

    Attributes
    ----------
    endpoint : str, optional
        Such as `http://127.0.0.1:4318/v1/traces`; by default what `OTEL_EXPORTER_OTLP_*` say.
    sample : float
        Share of the requests without a caller's decision that are traced, in [0, 1].
    """

    endpoint: values.BaseUrl | None = None
    sample: Annotated[float, Field(ge=0, le=1)] = 1.0


class ObserveConfig(Section):
    """`observe`: what the service tells of itself.

    Attributes
    ----------
    metrics : bool
        Whether decisions are counted for Prometheus; `/metrics` of the HTTP side shows them.
    traces : TracesConfig, optional
        Off unless given.
    logs : {"text", "json"}
        How log lines look; control characters are escaped in both.
    """

    metrics: bool = True
    traces: TracesConfig | None = None
    logs: Literal["text", "json"] = "text"
