"""Spans are sent where and how the environment says; what it says wrongly is told at the start."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import pytest

from cascade.config.observe import TracesConfig
from cascade.errors import ConfigError
from cascade.observe.otlp import OtlpSender, destination
from cascade.observe.span_encoding import SpanEncoder, resource
from cascade.observe.span_queue import QueueLimits, SpanQueue
from cascade.observe.traces import Traces, open_traces
from tests.otlp_receiver import Receiver, named
from tests.unit.test_traces import MODELS, traced


def test_where_spans_go_is_what_the_variables_of_the_sdk_say(collector: Receiver, tmp_path: Path) -> None:
    base = collector.endpoint.removesuffix("/v1/traces")
    for how in ("gzip", "deflate", "none"):
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": base + "/", "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
            "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": how,
            "OTEL_EXPORTER_OTLP_HEADERS": "api-key=a%20b,authorization=Basic YTpi==",
        }  # fmt: skip
        sender = OtlpSender(destination(None, environment))
        traces = Traces(SpanQueue(SpanEncoder(resource(), MODELS), sender))
        traced(traces)
        traces.close()
        assert collector.headers[-1]["api-key"] == "a b"
        assert collector.headers[-1]["authorization"] == "Basic YTpi=="
        assert collector.headers[-1]["content-type"] == "application/x-protobuf"
        assert collector.headers[-1]["accept-encoding"] == "identity"
        assert collector.headers[-1].get("content-encoding", "none") == how
    assert len(collector.spans) == 9
    own = {"OTEL_EXPORTER_OTLP_ENDPOINT": base, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://other:1/x"}
    assert destination(None, own).url == "https://other:1/x"
    assert destination("http://given:1/v1/traces", own).url == "http://given:1/v1/traces"
    assert destination(None, {}).url == "http://localhost:4318/v1/traces"
    files = {}
    for name in ("CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY"):
        files["OTEL_EXPORTER_OTLP_TRACES_" + name] = str(tmp_path / name)
        (tmp_path / name).touch()
    found = destination(None, files)
    assert found.verify == str(tmp_path / "CERTIFICATE")
    assert found.cert == (str(tmp_path / "CLIENT_CERTIFICATE"), str(tmp_path / "CLIENT_KEY"))
    assert "a b" not in repr(destination(None, environment))


@pytest.mark.parametrize(
    ("environment", "problem"),
    [
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "localhost:4318"},
            "OTEL_EXPORTER_OTLP_ENDPOINT: expected an address",
        ),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://["}, "expected an address"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:431800"}, "expected an address"),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "soon"}, "OTEL_EXPORTER_OTLP_TIMEOUT: expected seconds"),
        ({"OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "-1"}, "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT: expected seconds"),
        ({"OTEL_EXPORTER_OTLP_COMPRESSION": "zstd"}, "expected none, gzip or deflate, found 'zstd'"),
        (
            {"OTEL_EXPORTER_OTLP_CERTIFICATE": "/no/such"},
            "OTEL_EXPORTER_OTLP_CERTIFICATE: there is no /no/such",
        ),
    ],
)
def test_a_destination_that_cannot_be_used_is_said_at_the_start(
    environment: Mapping[str, str], problem: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        destination(None, environment)
    assert problem in str(caught.value)


def test_the_queue_is_what_the_variables_of_the_sdk_say() -> None:
    assert QueueLimits.of_environment({}) == QueueLimits() == QueueLimits(8192, 2048, 5.0)
    said = {"OTEL_BSP_MAX_QUEUE_SIZE": "100", "OTEL_BSP_SCHEDULE_DELAY": "250"}
    assert QueueLimits.of_environment(said) == QueueLimits(100, 100, 0.25)
    for name, value in (
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0"), ("OTEL_BSP_SCHEDULE_DELAY", "-5"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "101"), ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "many"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=name):
            QueueLimits.of_environment({**said, name: value})


def test_the_resource_is_what_the_environment_says_and_cascade_unless_it_names_another(
    collector: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = {"OTEL_SERVICE_NAME": "shop", "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test"}
    for variables, name in (({}, "cascade"), (expected, "shop")):
        for variable, value in variables.items():
            monkeypatch.setenv(variable, value)
        traces = open_traces(TracesConfig(endpoint=collector.endpoint), MODELS)
        assert traces is not None
        traced(traces)
        traces.close()
        found = named(collector.requests[-1].resource_spans[0].resource)
        assert found["service.name"] == name
        assert found["telemetry.sdk.language"] == "python"
    assert found["deployment.environment.name"] == "test"


def test_a_disabled_sdk_makes_no_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", " True ")
    assert open_traces(TracesConfig(), MODELS) is None


@pytest.mark.parametrize(
    "header", ["api-key: hunter2", 'api-key="hunter2"', "a=b,hunter2", "api-key=hunter2€"]
)
def test_a_header_that_cannot_be_read_is_refused_and_its_key_is_in_no_log(
    header: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ConfigError, match="OTEL_EXPORTER_OTLP_HEADERS: expected name=value") as caught:
        destination(None, {"OTEL_EXPORTER_OTLP_HEADERS": header})
    assert "hunter2" not in str(caught.value) + caplog.text
    said = {"OTEL_EXPORTER_OTLP_HEADERS": "api-key = hunter2 , authorization=Bearer%20x, other=Basic a==,"}
    headers = destination(None, said).headers
    assert (headers["api-key"], headers["authorization"], headers["other"]) == (
        "hunter2",
        "Bearer x",
        "Basic a==",
    )
    assert "hunter2" not in caplog.text
