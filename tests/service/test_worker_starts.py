"""What no worker can serve is said once, before or while workers start."""

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.service.worker_processes import LONG, Service


def test_a_keys_file_that_is_not_there_is_said_once(document: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "cascade.yaml").write_text(json.dumps(document | {"auth": {"keys": "keys.json"}}))
    command = ["-m", "cascade.cli", "serve", "-c", str(tmp_path / "cascade.yaml"), "--workers", "2"]
    done = subprocess.run(
        [sys.executable, *command, "--listen", "127.0.0.1:0"], capture_output=True, timeout=LONG
    )
    assert done.returncode == 2
    assert done.stderr.count(b"no file at") == 1
    assert b"cannot serve" not in done.stderr, "and before there are workers to say it again"


def test_what_no_worker_can_serve_is_said_once_at_the_start_and_in_a_reload(
    serve: Callable[[int], Service], document: dict[str, Any], tmp_path: Path
) -> None:
    bad = document | {"flags_provider": "no.such:thing"}
    (tmp_path / "bad.yaml").write_text(json.dumps(bad))
    command = ["-m", "cascade.cli", "serve", "-c", str(tmp_path / "bad.yaml"), "--workers", "2"]
    done = subprocess.run(
        [sys.executable, *command, "--listen", "127.0.0.1:0"], capture_output=True, timeout=LONG
    )
    assert done.returncode == 2
    assert done.stderr.count(b"cannot serve: flags_provider: 'no.such:thing' gives no provider") == 1
    assert done.stderr.count(b"flags_provider") == 1
    service = serve(2)
    before = service.workers()
    service.write(bad)
    service.process.send_signal(signal.SIGHUP)
    service.wait_for_log("the new configuration is given up, the old one keeps serving: worker ")
    why = "keeps serving: worker . cannot serve: flags_provider: 'no.such:thing' gives no provider"
    assert re.search(why, service.log.read_text())
    time.sleep(0.5)
    assert service.log.read_text().count("flags_provider") == 1
    assert service.workers() >= before


def test_a_port_in_use_is_said_before_any_worker_starts(document: dict[str, Any], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (tmp_path / "cascade.yaml").write_text(json.dumps(document))
        command = ["-m", "cascade.cli", "serve", "-c", str(tmp_path / "cascade.yaml"), "--workers", "2"]
        done = subprocess.run(
            [sys.executable, *command, "--listen", f"127.0.0.1:{port}"], capture_output=True, timeout=LONG
        )
    assert done.returncode == 2
    assert b"cannot listen on" in done.stderr


def test_an_address_that_others_reach_without_a_key_is_warned_of_once(
    serve: Callable[[int], Service], document: dict[str, Any]
) -> None:
    document["http"] = {"listen": "0.0.0.0:0"}
    said = serve(2).log.read_text()
    assert said.count("other machines can reach") == 1
    assert "http.listen: other machines can reach 0.0.0.0:" in said
