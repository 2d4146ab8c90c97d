"""Parts that unit tests share: another process that holds locks on a file of tenants."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Have another process hold locks on the whole file, or some of its bytes, as one that hangs does."""
    made: list[subprocess.Popen[str]] = []

    def begin(size: int = 0, start: int = 0) -> subprocess.Popen[str]:
        code = (
            "import fcntl, sys, time; file = open(sys.argv[1], 'r+b')\n"
            "fcntl.lockf(file, fcntl.LOCK_EX, int(sys.argv[2]), int(sys.argv[3]))\n"
            "print('held', flush=True); time.sleep(600)\n"
        )
        command = [sys.executable, "-c", code, str(tmp_path / "state"), str(size), str(start)]
        made.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert made[-1].stdout.readline() == "held\n"
        return made[-1]

    yield begin
    for each in made:
        each.kill()
        each.wait()
