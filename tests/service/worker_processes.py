"""`cascade serve` in a process of its own, with workers or without, and a load on it."""

import json
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cascade.client import Client, DecisionError
from tests.conftest import NODE
from tests.soon import comes

LONG = 60.0


class Service:
    """`cascade serve` in a process of its own."""

    def __init__(self, folder: Path, document: dict[str, Any], workers: int) -> None:
        self.file = folder / "cascade.yaml"
        self.write(document)
        self.log = folder / "log"
        command = ["-m", "cascade.cli", "serve", "-c", str(self.file), "--listen", "127.0.0.1:0"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, *command, "--workers", str(workers), "--json"],
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.log.read_text()
        self.facts = json.loads(line)
        self.target = f"127.0.0.1:{self.facts['port']}"

    def write(self, document: dict[str, Any]) -> None:
        self.file.write_text(json.dumps(document))

    def workers(self) -> set[int]:
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return set(map(int, path.read_text().split()))

    def wait_for_log(self, text: str, count: int = 1) -> None:
        assert comes(lambda: self.log.read_text().count(text) >= count), self.log.read_text()


@contextmanager
def load(target: str, texts: list[str]) -> Iterator[list[Any]]:
    """Ask without a pause, on connections opened anew again and again; collect answers and errors.

    With request ids: a connection that a worker has not accepted when it closes its port is reset, and its
    call asked again (docs/operations.md).
    """
    stop, seen = threading.Event(), []

    def ask() -> None:
        while not stop.is_set():
            with Client(target, timeout=LONG) as client:
                for text in texts[:20]:
                    try:
                        seen.append(client.decide(node=NODE, text=text, request_id=uuid.uuid4().hex))
                    except DecisionError as error:
                        seen.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join()
