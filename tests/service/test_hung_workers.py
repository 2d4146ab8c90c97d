"""Workers that hang are replaced, and the log says where; those that start, drain or slept are not."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import httpx2
import pytest

from cascade.v1 import decision_pb2 as pb
from cascade.v1 import decision_pb2_grpc
from tests.conftest import NODE
from tests.service.worker_processes import LONG, Service
from tests.soon import comes

pytestmark = pytest.mark.alone

VALIDATOR = '''
import re
from pathlib import Path

HERE = Path(__file__).parent


def hungry(ask, value):
    """Hold the interpreter's lock for hours, once."""
    try:
        (HERE / "hungry").unlink()
    except FileNotFoundError:
        return
    re.match("^(a+)+$", "a" * 60 + "b")
'''


def starts(service: Service) -> dict[str, float]:
    """Give how often workers were started, by what after."""
    page = httpx2.get(f"http://{service.facts['http']}/metrics").text
    found: dict[str, float] = {}
    line = re.compile(r'^cascade_worker_starts_total\{after="(\w+)",.*\} (.*)$', re.MULTILINE)
    for after, many in line.findall(page):
        found[after] = found.get(after, 0) + float(many)
    return found


def test_a_validator_that_holds_the_lock_is_named_and_its_worker_replaced(
    document: dict[str, Any],
    tmp_path: Path,
    unseen: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "own_rules.py").write_text(VALIDATOR)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    node = document["nodes"][NODE] | {"validators": ["own_rules:hungry"]}
    more = {"nodes": {NODE: node}, "server": {"hang_seconds": 3.0}, "http": {"listen": "127.0.0.1:0"}}
    service = Service(tmp_path, document | more, 2)
    try:
        before = service.workers()
        with grpc.insecure_channel(service.target) as channel:
            stub = decision_pb2_grpc.DecisionServiceStub(channel)
            (tmp_path / "hungry").touch()
            for record in unseen:  # until one is settled below the teacher, or would have been
                asked = stub.Decide.future(pb.DecideRequest(node=NODE, text=record["text"]), timeout=LONG)
                if asked.code() is grpc.StatusCode.UNAVAILABLE and not (tmp_path / "hungry").exists():
                    break
        service.wait_for_log("it is started again in")
        said = service.log.read_text()
        (line,) = [line for line in said.splitlines() if "hangs: silent for" in line]
        assert "ERROR" in line
        assert f"in a validator: hungry ({tmp_path}/own_rules.py, line 14)" in line
        assert re.search(r"worker \d \(pid \d+\) ended by SIGKILL", said)
        assert comes(lambda: len(service.workers()) == 2 and starts(service).get("hang") == 1)
        assert len(before & service.workers()) == 1
        assert starts(service) == {"start": 2, "hang": 1, "death": 0, "reload": 0}
    finally:
        service.process.kill()
        service.process.wait(LONG)


def test_a_worker_that_is_stopped_is_replaced_and_one_that_slept_together_with_its_parent_is_not(
    serve: Callable[[int], Service], document: dict[str, Any]
) -> None:
    document["server"] = {"hang_seconds": 3.0}
    service = serve(2)
    before = service.workers()
    everybody = [service.process.pid, *before]
    for pid in everybody:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(5.0)
    for pid in everybody:
        os.kill(pid, signal.SIGCONT)
    time.sleep(2.5)
    assert service.workers() == before
    os.kill(min(before), signal.SIGSTOP)
    service.wait_for_log(f"(pid {min(before)}) hangs: silent for")
    service.wait_for_log(f"(pid {min(before)}) ended by SIGKILL; it is started again")
    assert "it is killed: it is stopped, by SIGSTOP or a terminal" in service.log.read_text()
    assert comes(lambda: len(service.workers()) == 2)
    assert max(before) in service.workers()


SILENT = """
import os, signal, sys, time
from cascade.server.supervisor import Supervisor

def drain(*_):
    time.sleep(4.0)
    print("drained", flush=True)
    sys.exit(0)

def silent(index, tell_ready, heart):
    signal.signal(signal.SIGTERM, drain)
    time.sleep(4.0)
    print("serves", flush=True)
    tell_ready({})
    signal.pause()

def stop(facts):
    os.kill(os.getpid(), signal.SIGTERM)

sys.exit(Supervisor(silent, 1, hang_seconds=1.5).serve(stop))
"""


def test_a_worker_that_starts_or_drains_is_not_taken_for_one_that_hangs() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SILENT], capture_output=True, text=True, timeout=LONG / 2, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == ("serves\ndrained\n", "", 0)


def test_one_process_alone_says_where_it_hangs(
    document: dict[str, Any], tmp_path: Path, unseen: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_rules.py").write_text(VALIDATOR)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    node = document["nodes"][NODE] | {"validators": ["own_rules:hungry"]}
    service = Service(tmp_path, document | {"nodes": {NODE: node}, "server": {"hang_seconds": 3.0}}, 1)
    try:
        with grpc.insecure_channel(service.target) as channel:
            stub = decision_pb2_grpc.DecisionServiceStub(channel)
            (tmp_path / "hungry").touch()
            for record in unseen:
                asked = stub.Decide.future(pb.DecideRequest(node=NODE, text=record["text"]), timeout=LONG)
                assert comes(lambda: asked.done() or not (tmp_path / "hungry").exists())  # noqa: B023
                if not asked.done():
                    break
            service.wait_for_log("line 14 in hungry")
        assert "Timeout (0:00:03)!" in service.log.read_text()
    finally:
        service.process.kill()
        service.process.wait(LONG)
