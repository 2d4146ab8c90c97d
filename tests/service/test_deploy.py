"""What `deploy/` says is true of this tree: the image without a builder, the unit without systemd."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from inspect import signature
from pathlib import Path

import pytest
import yaml

from cascade.config import Config
from cascade.config.server import ServerConfig
from cascade.server.supervisor import Supervisor
from tests.config_texts import MINIMAL
from tests.conftest import ROOT

LONG = 60.0
CONTAINERFILE = (ROOT / "deploy/Containerfile").read_text().replace("\\\n", " ")
UNIT = ROOT / "deploy/cascade.service"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def instruction(name: str) -> str:
    """Give what follows an instruction of the last stage, the last one if there are several."""
    return re.findall(rf"^{name}\s+(.*)$", CONTAINERFILE, re.MULTILINE)[-1].strip()


def arguments() -> dict[str, str]:
    return dict(re.findall(r"^ARG (\w+)=(\S+)$", CONTAINERFILE, re.MULTILINE))


def copied() -> list[str]:
    lines = re.findall(r"^COPY (?!--from)(.*)$", CONTAINERFILE, re.MULTILINE)
    return [source for line in lines for source in line.split()[:-1]]


def test_what_the_image_copies_is_here_and_reaches_the_builder() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert copied()
    for source in copied():
        assert (ROOT / source).exists(), source
        sent = True
        for rule in rules:  # the last one that fits decides
            if fnmatch(source, rule.removeprefix("!").removeprefix("**/")):
                sent = rule.startswith("!")
        assert sent, source
    # What building the package needs besides its folders, by its own account.
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    assert {*build["targets"]["wheel"]["packages"], PROJECT["readme"], "pyproject.toml"} <= set(copied())


def test_the_extras_and_the_runtime_that_are_installed_exist() -> None:
    given = arguments()
    assert set(given["EXTRAS"].split(",")) <= set(PROJECT["optional-dependencies"])
    for extra in given["EXTRAS"].split(","):
        for wanted in PROJECT["optional-dependencies"][extra]:
            assert not re.match(r"torch|scikit-learn|scipy|lightgbm|transformers", wanted)
    (build,) = re.findall(r"sed -n '(s/.*/p)' constraints.txt", CONTAINERFILE)
    pinned = subprocess.run(
        ["sed", "-n", build, "constraints.txt"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert len(pinned) == 1
    assert any(need.startswith(f"{given['ONNXRUNTIME']}>=") for need in PROJECT["dependencies"])


def test_the_base_has_a_python_that_the_package_takes_and_is_named_without_a_host() -> None:
    base = arguments()["BASE"]
    assert re.fullmatch(r"[a-z]+:[\w.-]+", base)  # a host would hold a dot or a slash before the colon
    lowest = PROJECT["requires-python"].removeprefix(">=")
    assert base == f"python:{lowest}-slim"  # the one that the tests run on


def test_the_image_s_command_serves_its_health_check_finds_out_and_its_stop_signal_ends_it(
    tmp_path: Path,
) -> None:
    (tmp_path / "cascade.yaml").write_text("listen: 127.0.0.1:0\n" + MINIMAL)
    program, *line = json.loads(instruction("ENTRYPOINT")) + json.loads(instruction("CMD"))
    assert program in PROJECT["scripts"]
    moved = [word.replace("/etc/cascade/", f"{tmp_path}/") for word in line]
    assert moved != line
    check = re.split(r"\sCMD\s", instruction("HEALTHCHECK"))[1]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with subprocess.Popen(
        [sys.executable, "-m", "cascade.cli", *moved, "--json", "--workers", "2"],
        stdout=subprocess.PIPE, text=True, cwd=ROOT,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        port = json.loads(process.stdout.readline())["port"]
        asking = {"PATH": path, "CASCADE_PROBE": f"127.0.0.1:{port} --seconds 10"}

        def health() -> int:
            return subprocess.run(["sh", "-c", check], cwd=ROOT, env=os.environ | asking).returncode

        try:
            assert health() == 0
            process.send_signal(signal.Signals[instruction("STOPSIGNAL")])
            assert process.wait(LONG) == 0
        finally:
            process.kill()
        assert health() == 1


def test_the_health_check_asks_the_port_that_is_configured_by_default_unless_it_is_told() -> None:
    port = str(Config.model_fields["listen"].default).rpartition(":")[2]
    assert instruction("EXPOSE") == port
    assert f"${{CASCADE_PROBE:-127.0.0.1:{port}}}" in instruction("HEALTHCHECK")


def settings() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", UNIT.read_text(), re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


def test_the_unit_waits_for_a_drain_tells_only_the_supervisor_and_reloads_by_its_signal() -> None:
    unit = settings()
    assert float(unit["TimeoutStopSec"][0]) >= ServerConfig().drain_seconds + 5
    assert unit["KillMode"] == ["mixed"]
    assert unit["ExecReload"] == ["/bin/sh -c 'kill -HUP $MAINPID'"]
    assert unit["Type"] == ["notify"]
    assert float(unit["TimeoutStartSec"][0]) > signature(Supervisor).parameters["ready_seconds"].default


def test_the_unit_and_the_image_are_laid_out_alike() -> None:
    unit = settings()
    assert unit["ExecStart"][0].split("serve")[1].strip() == shlex.join(json.loads(instruction("CMD")))
    assert unit["WorkingDirectory"] == [instruction("WORKDIR")]
    program = Path(unit["ExecStart"][0].split()[0])
    assert f"PATH={program.parent}:$PATH" in instruction("ENV")
    assert f"STATE_DIRECTORY=/var/lib/{unit['StateDirectory'][0]}" in instruction("ENV")


def test_the_kubernetes_deployment_fits_the_image() -> None:
    spec = yaml.safe_load((ROOT / "deploy/kubernetes.yaml").read_text())["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert spec["terminationGracePeriodSeconds"] >= ServerConfig().drain_seconds + 5
    assert str(spec["securityContext"]["fsGroup"]) == instruction("USER").partition(":")[2]
    ports = [port["containerPort"] for port in container["ports"]]
    assert instruction("EXPOSE") in map(str, ports)
    assert container["startupProbe"]["grpc"]["port"] in ports
    python, *probe, target, _, seconds = container["livenessProbe"]["exec"]["command"]
    assert [python, *probe] == ["python", "-m", "cascade.client.probe"]
    assert int(target.partition(":")[2]) in ports
    assert ServerConfig().max_unseen_seconds < float(seconds) < container["livenessProbe"]["timeoutSeconds"]
    assert container["readinessProbe"]["httpGet"]["port"] in ports
    assert container["readinessProbe"]["httpGet"]["path"] == "/healthz"
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {instruction("WORKDIR"), "/var/lib/cascade", "/tmp"} <= mounted
    assert {mount["name"] for mount in container["volumeMounts"]} == {v["name"] for v in spec["volumes"]}


def allowed_calls() -> set[str]:
    """Give the system calls that the unit allows, by systemd's own groups: what comes later wins."""
    shown = subprocess.run(
        ["systemd-analyze", "syscall-filter", "--no-pager"], capture_output=True, text=True, check=True
    ).stdout
    groups: dict[str, list[str]] = {}
    for line in shown.splitlines():
        if line.startswith("@"):
            members = groups.setdefault(line.strip(), [])
        elif line.startswith("    ") and not line.strip().startswith("#"):
            members.append(line.strip())

    def calls(name: str) -> set[str]:
        if not name.startswith("@"):
            return {name}
        return {call for member in groups[name] for call in calls(member)}

    allowed: set[str] = set()
    for line in settings()["SystemCallFilter"]:
        for name in line.removeprefix("~").split():
            allowed = allowed - calls(name) if line.startswith("~") else allowed | calls(name)
    return allowed


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_the_unit_lets_workers_keep_to_a_core_and_be_scheduled_as_a_batch_and_no_more_than_that() -> None:
    allowed = allowed_calls()
    assert {"sched_setaffinity", "sched_setscheduler"} <= allowed  # server/cores.py, server/scheduling.py
    assert {"read", "memfd_create", "kill"} <= allowed
    assert not {"setpriority", "setrlimit", "sched_setattr", "mount", "chroot", "ptrace"} & allowed


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_knows_every_setting_of_the_unit_and_finds_little_exposed(tmp_path: Path) -> None:
    copy = tmp_path / UNIT.name
    copy.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", UNIT.read_text(), flags=re.MULTILINE))
    verified = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True)
    assert (verified.returncode, [line for line in verified.stderr.splitlines() if UNIT.name in line]) == (
        0,
        [],
    )
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=15", str(UNIT)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert judged.returncode == 0, judged.stdout[-300:]  # 0 to 100; 37 before it was shut, 14 after
