"""The demo's processes: the simulated frontier and the service, each as a command of ours."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cascade.demo import LATENCY_MS, PORT
from cascade.errors import CascadeError


class DemoFailed(CascadeError):
    """A step of the demo failed; the message holds the command and the end of what it printed."""


def free_port() -> int:
    """Give the simulated frontier's usual port, or another where that is taken."""
    for port in (PORT, 0):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise DemoFailed("no TCP port is free on 127.0.0.1")


@contextmanager
def _running(*command: str) -> Iterator[dict[str, Any]]:
    """Run a long-lived command of ours that prints one JSON line once it is ready."""
    log_path = Path(os.environ.get("TMPDIR", "/tmp")) / f"cascade-demo-{os.getpid()}-{command[2]}.log"
    with log_path.open("w") as log:
        process = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise DemoFailed(f"`{' '.join(command)}` ended at once: {log_path.read_text()[-800:]}")
            yield json.loads(line)
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
    log_path.unlink(missing_ok=True)


@contextmanager
def frontier(folder: Path, seed: int, port: int, latency_ms: float = LATENCY_MS) -> Iterator[None]:
    """Run the simulated frontier on the folder's recorded answers."""
    answers = str(folder / "answers.json")
    with _running(
        "-m", "cascade.cli", "frontier", answers, "--seed", str(seed), "--port", str(port),
        "--latency-ms", str(latency_ms), "--json",
    ):  # fmt: skip
        yield


@contextmanager
def service(config: Path) -> Iterator[str]:
    """Run the service; give its address."""
    command = ("-m", "cascade.cli", "serve", "--config", str(config), "--listen", "127.0.0.1:0", "--json")
    with _running(*command) as ready:
        yield f"127.0.0.1:{ready['port']}"
