"""What `cascade serve` tells systemd: real processes, a real socket in systemd's place."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from cascade.client.probe import probe
from cascade.server import sd_notify
from tests.config_texts import MINIMAL
from tests.conftest import ROOT

LONG = 60.0


class Systemd:
    """The receiving end of NOTIFY_SOCKET."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.socket.settimeout(LONG)
        self.socket.bind(name.replace("@", "\0", 1) if name.startswith("@") else name)

    def hears(self) -> tuple[dict[str, str], int]:
        """Give what the next datagram says, and the process that sent it."""
        said, ancillary, _, _ = self.socket.recvmsg(4096, socket.CMSG_SPACE(struct.calcsize("3i")))
        (_, _, credentials) = ancillary[0]
        return dict(line.split("=", 1) for line in said.decode().split("\n")), struct.unpack(
            "3i", credentials
        )[0]


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    name = str(tmp_path / "notify") if request.param == "path" else f"@cascade-test-{os.getpid()}"
    made = Systemd(name)
    yield made
    made.socket.close()


@contextmanager
def serving(folder: Path, name: str, workers: int) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    (folder / "cascade.yaml").write_text("listen: 127.0.0.1:0\n" + MINIMAL)
    command = ["serve", "--config", str(folder / "cascade.yaml"), "--json", "--workers", str(workers)]
    log = folder / "log"
    environment = os.environ | {"NOTIFY_SOCKET": name}
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            [sys.executable, "-m", "cascade.cli", *command],
            stdout=subprocess.PIPE, stderr=stderr, text=True, cwd=ROOT, env=environment,
        ) as process,
    ):  # fmt: skip
        try:
            yield process, log
        finally:
            process.kill()


def facts_of(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    facts: dict[str, Any] = json.loads(process.stdout.readline())
    return facts


def test_with_workers_the_supervisor_alone_says_when_all_serve_when_it_reloads_and_when_it_drains(
    systemd: Systemd, tmp_path: Path
) -> None:
    with serving(tmp_path, systemd.name, 2) as (process, _):

        def next_one() -> dict[str, str]:
            said, sender = systemd.hears()
            assert sender == process.pid  # systemd listens to nobody else
            return said

        said = next_one()
        assert said == {"READY": "1", "STATUS": "2 workers serve"}
        assert probe(f"127.0.0.1:{facts_of(process)['port']}", 10.0) == "SERVING"

        process.send_signal(signal.SIGHUP)
        said = next_one()
        assert said["RELOADING"] == "1"
        assert int(said["MONOTONIC_USEC"]) > 0
        assert next_one() == {"READY": "1", "STATUS": "2 workers serve the new configuration"}

        (tmp_path / "cascade.yaml").write_text("nodes: 1\n")
        process.send_signal(signal.SIGHUP)
        assert "RELOADING" in next_one()
        said = next_one()
        assert said["READY"] == "1"
        assert "refused, the old one keeps serving" in said["STATUS"]

        process.send_signal(signal.SIGTERM)
        said = next_one()
        assert said["STOPPING"] == "1"
        assert process.wait(LONG) == 0
        systemd.socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            systemd.hears()


def test_one_process_says_so_itself_and_outlives_a_reload_that_it_cannot_do(
    systemd: Systemd, tmp_path: Path
) -> None:
    with serving(tmp_path, systemd.name, 1) as (process, log):
        assert systemd.hears() == ({"READY": "1", "STATUS": "one process serves"}, process.pid)
        target = f"127.0.0.1:{facts_of(process)['port']}"
        process.send_signal(signal.SIGHUP)
        assert probe(target, 10.0) == "SERVING"
        process.send_signal(signal.SIGTERM)
        assert systemd.hears()[0] == {"STOPPING": "1", "STATUS": "draining"}
        assert process.wait(LONG) == 0
        assert "one process cannot reload" in log.read_text()


SUPERVISED = """
import signal, sys, time
from cascade.server.supervisor import Supervisor

def serves(index, tell_ready, heart):
    signal.signal(signal.SIGTERM, lambda *_: time.sleep(1.0) or sys.exit(0))  # drains for a second
    tell_ready({})
    signal.pause()

def ends(index, tell_ready, heart):
    return 3

def hangs(index, tell_ready, heart):
    time.sleep(60)

again = {"ends": ends, "hangs": hangs}[sys.argv[1]]
sys.exit(Supervisor(serves, 2, reload=lambda: again, ready_seconds=0.5).serve())
"""


@contextmanager
def supervised(systemd: Systemd, after_reload: str) -> Iterator[subprocess.Popen[bytes]]:
    """A supervisor in the middle of a reload after which workers end, or hang."""
    command = [sys.executable, "-c", SUPERVISED, after_reload]
    environment = os.environ | {"NOTIFY_SOCKET": systemd.name}
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment, cwd=ROOT) as process:
        try:
            assert systemd.hears()[0] == {"READY": "1", "STATUS": "2 workers serve"}
            process.send_signal(signal.SIGHUP)
            assert "RELOADING" in systemd.hears()[0]
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("after_reload", ["ends", "hangs"])
def test_a_reload_that_is_given_up_is_over(systemd: Systemd, after_reload: str) -> None:
    with supervised(systemd, after_reload) as process:
        said, _ = systemd.hears()
        assert said["READY"] == "1"
        assert "given up, the old one keeps serving" in said["STATUS"]
        process.send_signal(signal.SIGTERM)
        assert "STOPPING" in systemd.hears()[0]
        assert process.wait(LONG) == 0


def test_a_stop_in_the_middle_of_a_reload_is_the_last_that_is_said(systemd: Systemd) -> None:
    with supervised(systemd, "hangs") as process:
        process.send_signal(signal.SIGTERM)
        assert "STOPPING" in systemd.hears()[0]
        assert process.wait(LONG) == 0
        systemd.socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            systemd.hears()


def test_whoever_does_not_listen_is_named_in_the_log_and_holds_up_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    sd_notify.ready("serves")
    assert "nobody cannot be told 'READY=1'" in caplog.text


def test_a_status_of_several_lines_stays_one(systemd: Systemd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", systemd.name)
    sd_notify.ready("it is\nSTOPPING=1")
    assert systemd.hears()[0] == {"READY": "1", "STATUS": "it is STOPPING=1"}


def test_what_systemd_has_not_read_yet_is_waited_for(
    systemd: Systemd, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", systemd.name)
    waiting = 0
    with suppress(BlockingIOError):
        while True:  # with a socket each: a sender's own buffer is not to be what is full
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
                other.setblocking(False)
                other.sendto(b"STATUS=x", systemd.socket.getsockname())
            waiting += 1
    assert waiting
    said: list[dict[str, str]] = []

    def read() -> None:
        time.sleep(0.2)
        said.extend(systemd.hears()[0] for _ in range(waiting + 1))

    thread = threading.Thread(target=read)
    thread.start()
    sd_notify.ready("serves")
    thread.join(LONG)
    assert said[-1] == {"READY": "1", "STATUS": "serves"}
    assert not caplog.text
