"""The image is built from deploy/Containerfile, run as docs/operations.md says, and asked.

Building takes minutes and a container engine, so it is done only where `CASCADE_CONTAINER_ENGINE` names one
(`docker`, `podman --runtime runc`). `CASCADE_CONTAINER_BUILD` holds more arguments for its `build`, say
`--build-arg BASE=...`, `--network host` `--secret id=ca.pem,src=...`; `CASCADE_CONTAINER_RUN` for `run`.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import subprocess
import time
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cascade.client import Client, Decision, DecisionError
from cascade.security.keys import create_key, revoke_key
from tests.conftest import NODE, ROOT

ENGINE = shlex.split(os.environ.get("CASCADE_CONTAINER_ENGINE", ""))
USER = 10001
LONG = 60.0

pytestmark = [
    pytest.mark.skipif(
        not ENGINE, reason="builds an image where CASCADE_CONTAINER_ENGINE names docker or podman"
    ),
    pytest.mark.timeout(1200),
]


def engine(*words: str, check: bool = True) -> str:
    ran = subprocess.run([*ENGINE, *words], cwd=ROOT, capture_output=True, text=True)
    assert not check or ran.returncode == 0, f"{shlex.join(words)}\n{(ran.stdout + ran.stderr)[-3000:]}"
    return ran.stdout.strip()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    name = f"cascade-test-{uuid.uuid4().hex[:8]}"
    own = ["--format", "docker"] if "podman" in ENGINE[0] else []
    engine(
        "build", *own, *shlex.split(os.environ.get("CASCADE_CONTAINER_BUILD", "")),
        "-f", "deploy/Containerfile", "-t", name, ".",
    )  # fmt: skip
    yield name
    engine("rmi", "--force", name, check=False)


class Deployed:
    """A container of the image, with a folder for /etc/cascade and a volume for /var/lib/cascade."""

    def __init__(self, image: str, folder: Path) -> None:
        self.image, self.folder = image, folder
        self.name = self.volume = f"cascade-test-{uuid.uuid4().hex[:8]}"
        self.port, self.http = free_port(), free_port()
        self.keys = folder / "keys.json"
        text = (ROOT / "cascade.yaml").read_text()
        for old, new in {
            "store: sqlite:///var/traffic.db": "store: sqlite:////var/lib/cascade/traffic.db",
            "listen: 127.0.0.1:50051": f"listen: 127.0.0.1:{self.port}\n"
            f"http: {{listen: 127.0.0.1:{self.http}}}\nauth: {{keys: keys.json}}\nserver: {{workers: 2}}",
        }.items():
            assert old in text
            text = text.replace(old, new)
        (folder / "cascade.yaml").write_text(text)
        self.key, self.token = create_key(self.keys, "acme", verbs=["decide"])
        os.chown(self.keys, 0, USER) if os.getuid() == 0 else None
        self.keys.chmod(0o640 if os.getuid() == 0 else 0o644)
        shutil.copytree(ROOT / "models", folder / "models")
        for path in (folder, *folder.rglob("*")):
            if path != self.keys:
                path.chmod(0o755 if path.is_dir() else 0o644)

    def run(self) -> None:
        engine(
            "run", "--detach", "--name", self.name, "--network", "host", "--read-only", "--tmpfs", "/tmp",
            "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--stop-timeout", "20",
            "--env", f"CASCADE_PROBE=127.0.0.1:{self.port}",
            *shlex.split(os.environ.get("CASCADE_CONTAINER_RUN", "")),
            "-v", f"{self.folder}:/etc/cascade:ro", "-v", f"{self.volume}:/var/lib/cascade", self.image,
        )  # fmt: skip

    def healthy(self) -> bool:
        image: dict[str, Any] = json.loads(engine("image", "inspect", self.image))[0]
        kind, check = (image["Config"].get("Healthcheck") or image["Healthcheck"])["Test"]
        assert kind == "CMD-SHELL"
        return subprocess.run([*ENGINE, "exec", self.name, "sh", "-c", check]).returncode == 0

    def wait(self) -> None:
        deadline = time.monotonic() + LONG
        while not self.healthy():
            assert time.monotonic() < deadline, engine("logs", self.name)
            time.sleep(0.5)

    def stop(self) -> tuple[int, float]:
        began = time.monotonic()
        engine("stop", self.name)
        seconds = time.monotonic() - began
        return int(engine("inspect", "--format", "{{.State.ExitCode}}", self.name)), seconds

    def inside(self, script: str) -> str:
        return engine("exec", self.name, "python", "-c", script)

    def client(self) -> Client:
        return Client(
            f"127.0.0.1:{self.port}", timeout=LONG, metadata=[("authorization", f"Bearer {self.token}")]
        )


@pytest.fixture
def deployed(image: str, tmp_path: Path) -> Iterator[Deployed]:
    folder = tmp_path / "cascade"
    folder.mkdir()
    tmp_path.chmod(0o755)
    made = Deployed(image, folder)
    yield made
    engine("rm", "--force", made.name, check=False)
    engine("volume", "rm", made.volume, check=False)


def test_the_image_decides_keeps_what_it_is_told_and_ends_when_it_is_told(
    deployed: Deployed, unseen: list[dict[str, Any]]
) -> None:
    deployed.run()
    deployed.wait()
    with deployed.client() as client:
        found = client.batch_decide(
            node=NODE,
            texts=[asked["text"] for asked in unseen[:60]],
            request_ids=[f"r{n}" for n in range(60)],
        )
        # What needs the frontier, which is not there, is an error of its own.
        settled = [one for one in found if isinstance(one, Decision)]
    assert len(settled) > 20
    assert {one.rung for one in settled} == {"linear", "encoder"}
    with urllib.request.urlopen(f"http://127.0.0.1:{deployed.http}/metrics", timeout=LONG) as response:
        lines = response.read().decode().splitlines()
    counted = {line.split()[0]: float(line.split()[1]) for line in lines if not line.startswith("#")}
    for rung in ("linear", "encoder"):
        name = f'cascade_decisions_total{{mode="live",node="{NODE}",rung="{rung}"}}'
        assert counted[name] == sum(one.rung == rung for one in settled)
    code, seconds = deployed.stop()
    assert code == 0
    assert seconds < 15
    engine("start", deployed.name)
    deployed.wait()
    with deployed.client() as client:
        text = unseen[int(settled[0].request_id.removeprefix("r"))]["text"]
        again = client.decide(node=NODE, text=text, request_id=settled[0].request_id)
    assert again.decision_id == settled[0].decision_id  # the volume kept it


def test_the_image_runs_without_rights_and_holds_nothing_that_trains(deployed: Deployed) -> None:
    deployed.run()
    deployed.wait()
    found = json.loads(
        deployed.inside(
            "import importlib.util, json, os, pathlib\n"
            "def may(path):\n"
            "    try: pathlib.Path(path, 'x').touch(); return True\n"
            "    except OSError: return False\n"
            "packages = ('torch', 'sklearn', 'scipy', 'lightgbm', 'transformers', 'pip')\n"
            "print(json.dumps({\n"
            "  'user': os.getuid(),\n"
            "  'there': [name for name in packages if importlib.util.find_spec(name)],\n"
            "  'written': [path for path in ('/', '/opt/cascade', '/etc/cascade', '/var/lib/cascade', '/tmp')"
            " if may(path)],\n"
            "  'rights': [line.split()[1] for line in open('/proc/1/status')"
            " if line.startswith(('CapEff', 'NoNew'))],\n"
            "  'processes': sum(b'cascade' in open(f'/proc/{pid}/cmdline', 'rb').read()"
            " for pid in os.listdir('/proc') if pid.isdigit() and int(pid) != os.getpid()),\n"
            "}))"
        )
    )
    assert found == {
        "user": USER, "there": [], "written": ["/var/lib/cascade", "/tmp"], "rights": ["0" * 16, "1"],
        "processes": 3,
    }  # fmt: skip


def test_a_key_that_is_revoked_outside_is_refused_inside(
    deployed: Deployed, unseen: list[dict[str, Any]]
) -> None:
    deployed.run()
    deployed.wait()
    revoke_key(deployed.keys, deployed.key.id)
    time.sleep(1.0)
    with deployed.client() as client, pytest.raises(DecisionError, match="revoked"):
        client.decide(node=NODE, text=unseen[0]["text"])


def test_a_container_that_is_still_starting_ends_at_once(deployed: Deployed) -> None:
    deployed.run()
    deadline = time.monotonic() + LONG
    while "python" not in engine("exec", deployed.name, "cat", "/proc/1/cmdline", check=False):
        assert time.monotonic() < deadline
    time.sleep(0.3)  # the interpreter itself is up; the models are not yet
    code, seconds = deployed.stop()
    assert (code, seconds < 10) in ((143, True), (0, True))
