"""Health and reflection need no key: garbage there is the caller's mistake, and costs no stack trace."""

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.service.fake_engine import LONG, Running

GARBAGE = b"\xff\xfe garbage"
HEALTH, REFLECTION = "/grpc.health.v1.Health/", "/grpc.reflection.v1alpha.ServerReflection/"


@pytest.fixture
def running() -> Iterator[Running]:
    made = Running()
    yield made
    made.close()


@pytest.mark.parametrize("method", ["Check", "Watch", "ServerReflectionInfo"])
def test_garbage_is_the_caller_s_mistake(
    running: Running, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    channel = running.channel
    ask: Any = {
        "Check": channel.unary_unary(f"{HEALTH}Check"),
        "Watch": lambda raw, timeout: list(channel.unary_stream(f"{HEALTH}Watch")(raw, timeout=timeout)),
        "ServerReflectionInfo": lambda raw, timeout: list(
            channel.stream_stream(f"{REFLECTION}ServerReflectionInfo")(iter([raw]), timeout=timeout)
        ),
    }[method]
    with pytest.raises(grpc.RpcError) as caught:
        ask(GARBAGE, timeout=LONG)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == "request: the 10 bytes are no message of this method"
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_health_and_reflection_answer_as_ever(running: Running) -> None:
    health = health_pb2_grpc.HealthStub(running.channel)
    asked = health_pb2.HealthCheckRequest()
    assert health.Check(asked, timeout=LONG).status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError, match="NOT_FOUND"):
        health.Check(health_pb2.HealthCheckRequest(service="nope"), timeout=LONG)
    watching = health.Watch(asked, timeout=LONG)
    assert next(watching).status == health_pb2.HealthCheckResponse.SERVING
    watching.cancel()
    reflection = reflection_pb2_grpc.ServerReflectionStub(running.channel)
    names = reflection_pb2.ServerReflectionRequest(list_services="")
    (answer,) = reflection.ServerReflectionInfo(iter([names]), timeout=LONG)
    assert "cascade.v1.DecisionService" in [s.name for s in answer.list_services_response.service]
