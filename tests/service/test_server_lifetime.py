"""A server's health, queue, drain and end, over real gRPC."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from itertools import chain
from pathlib import Path
from queue import SimpleQueue

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from cascade.client import Client, DecisionError, Question
from cascade.errors import (
    ConfigError,
)
from cascade.server.gate import Gate
from cascade.server.serve import CascadeServer
from cascade.v1 import decision_pb2 as pb
from tests.conftest import ROOT
from tests.service.fake_engine import LONG, FakeEngine, error_of
from tests.soon import comes


def test_health_follows_readiness(own):
    running = own()
    health = health_pb2_grpc.HealthStub(running.channel)
    names = ("", "cascade.v1.DecisionService")
    for name in names:
        status = health.Check(health_pb2.HealthCheckRequest(service=name)).status
        assert status == health_pb2.HealthCheckResponse.SERVING
    watch = health.Watch(health_pb2.HealthCheckRequest(service=names[1]), timeout=LONG)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    running.engine.is_ready = False
    assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
    running.engine.is_ready = True
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()


def test_reflection_lists_the_services(shared):
    stub = reflection_pb2_grpc.ServerReflectionStub(shared.channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    (answer,) = stub.ServerReflectionInfo(iter([request]))
    names = {service.name for service in answer.list_services_response.service}
    assert {"cascade.v1.DecisionService", "grpc.health.v1.Health"} <= names
    request = reflection_pb2.ServerReflectionRequest(file_containing_symbol="cascade.v1.DecisionService")
    (answer,) = stub.ServerReflectionInfo(iter([request]))
    assert answer.file_descriptor_response.file_descriptor_proto


@pytest.mark.parametrize("text", ["wait", "stall"])
def test_requests_that_wait_hold_up_neither_others_nor_health(own, text):
    running = own(threads=2)
    calls = [running.stub.Decide.future(pb.DecideRequest(node="intent", text=text)) for _ in range(20)]
    for _ in calls:
        assert running.engine.entered.acquire(timeout=LONG)
    assert running.client.decide(node="intent", text="fast").label == "FAST"
    health = health_pb2_grpc.HealthStub(running.channel)
    status = health.Check(health_pb2.HealthCheckRequest(), timeout=LONG).status
    assert status == health_pb2.HealthCheckResponse.SERVING
    running.engine.go.set()
    assert {call.result(LONG).label for call in calls} == {text.upper()}


def flooded(own):
    """Ask more than may wait while the one thread is held; give the server, the calls and their codes."""
    running = own(threads=1, max_waiting=1)
    running.server.pool.submit(running.engine.go.wait, LONG)
    calls = [running.stub.Decide.future(pb.DecideRequest(node="intent", text="x")) for _ in range(50)]
    assert comes(lambda: any(call.done() for call in calls)), "none was refused"
    running.engine.go.set()
    codes = [call.code() for call in calls]
    assert grpc.StatusCode.RESOURCE_EXHAUSTED in codes
    return running, calls, codes


def test_too_long_a_queue_is_shed_with_a_hint(own):
    running, calls, codes = flooded(own)
    shed = calls[codes.index(grpc.StatusCode.RESOURCE_EXHAUSTED)]
    _, details = error_of(shed.result)
    assert details["ErrorInfo"].reason == "OVERLOADED"
    assert details["RetryInfo"].retry_delay.nanos == 100_000_000
    assert running.client.decide(node="intent", text="later").label == "LATER"


def test_what_is_shed_does_not_count_against_its_tenants_quota(monkeypatch, own):
    counted = []
    monkeypatch.setattr(Gate, "begin_count", lambda self, tenant, n=1: counted.append(n))
    _, _, codes = flooded(own)
    assert len(counted) == codes.count(grpc.StatusCode.OK)


def test_with_nearly_all_threads_waiting_calls_are_refused_and_health_answers(own):
    running = own(threads=2, max_streams_per_connection=1000)
    calls = [running.stub.Decide.future(pb.DecideRequest(node="intent", text="wait")) for _ in range(600)]
    refused = [call for call in calls[-1:] if call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED]
    assert refused
    health = health_pb2_grpc.HealthStub(running.channel)
    status = health.Check(health_pb2.HealthCheckRequest(), timeout=LONG).status
    assert status == health_pb2.HealthCheckResponse.SERVING
    running.engine.go.set()
    codes = {call.code() for call in calls}
    assert codes == {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}


def test_stop_lets_running_calls_finish_and_refuses_new_ones(own):
    running = own()
    call = running.stub.Decide.future(pb.DecideRequest(node="intent", text="wait"))
    assert running.engine.entered.acquire(timeout=LONG)
    watch = health_pb2_grpc.HealthStub(running.channel).Watch(health_pb2.HealthCheckRequest(), timeout=LONG)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    stopping = threading.Thread(target=running.server.stop, args=(LONG,))
    stopping.start()
    assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
    watch.cancel()
    with Client(running.target, timeout=LONG) as late:
        codes = set()
        for _ in range(100):  # the listener closes a moment after health turns
            try:
                late.decide(node="intent", text="x")
            except DecisionError as error:
                codes.add(error.code)
                break
            time.sleep(0.02)
    assert codes == {grpc.StatusCode.UNAVAILABLE}
    assert not call.done()
    running.engine.go.set()
    assert call.result(LONG).label == "WAIT"
    stopping.join(LONG)
    assert not stopping.is_alive()


def test_stop_cancels_what_outlasts_the_drain(own):
    running = own()
    call = running.stub.Decide.future(pb.DecideRequest(node="intent", text="wait"))
    assert running.engine.entered.acquire(timeout=LONG)
    running.server.stop(0.05)
    assert call.code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)


def test_an_address_in_use_is_a_configuration_error(shared):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match=address):
            CascadeServer(FakeEngine(), address).start()


SERVE = """
import sys; sys.path.insert(0, {folder!r})
from tests.conftest import ROOT
from tests.service.fake_engine import FakeEngine
from cascade.config.schema import ServerConfig
from cascade.server.gate import Gate
from cascade.server.serve import CascadeServer
server = CascadeServer(FakeEngine(), "127.0.0.1:0", ServerConfig(drain_seconds=600.0))
port = server.start()
server.run_until_signal(on_ready=lambda: print(port, flush=True))
print("ended", flush=True)
"""


@pytest.mark.parametrize("busy", [False, True])
def test_a_signal_drains_and_a_second_one_ends_at_once(busy):
    code = SERVE.format(folder=str(ROOT))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        client = Client(f"127.0.0.1:{process.stdout.readline().strip()}", timeout=LONG)
        assert client.decide(node="intent", text="x").label == "X"
        if busy:
            answers = client.stream_decide([Question("intent", "y"), Question("intent", "wait")])
            assert next(answers).label == "Y"
        process.send_signal(signal.SIGTERM)
        if busy:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.5)
            process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "ended\n"
        assert process.wait(LONG) == 0
        client.close()


def test_a_second_signal_ends_calls_to_the_admin_address_too():
    code = SERVE.format(folder=str(ROOT)).replace(
        "drain_seconds=600.0", 'drain_seconds=600.0, admin_listen="127.0.0.1:0"'
    )
    code = code.replace("print(port,", "print(server.admin_port,")
    with (
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process,
        grpc.insecure_channel(f"127.0.0.1:{process.stdout.readline().strip()}") as channel,
    ):
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        held = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
            chain([asked], iter(SimpleQueue().get, None))
        )
        assert next(held).list_services_response.service
        process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "ended\n"
        assert process.wait(LONG) == 0


def test_the_first_process_of_a_container_can_be_told_to_end_while_it_starts():
    """To the kernel, a signal without a handler is none for the first process of a namespace."""
    apart = ["unshare", "--pid", "--fork", "--kill-child"]
    if shutil.which("unshare") is None or subprocess.run([*apart, "true"], capture_output=True).returncode:
        pytest.skip("no process namespace can be made here: needs unshare and the right to use it")
    script = "import cascade.cli, time; print('starting', flush=True); time.sleep(60)"
    with subprocess.Popen([*apart, sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=ROOT) as outer:
        assert outer.stdout.readline() == b"starting\n"
        first = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()[0]
        os.kill(int(first), signal.SIGTERM)
        try:
            assert outer.wait(LONG) == 128 + signal.SIGTERM
        finally:
            outer.kill()
