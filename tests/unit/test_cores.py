"""How many cores a process may use under a quota of a container or of systemd."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cascade.server.cores import usable_cores


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    return 64


def _asked(tmp_path: Path, membership: str, **files: str) -> int:
    listed = tmp_path / "cgroup"
    listed.write_text(membership)
    mount = tmp_path / "mount"
    for path, text in files.items():
        (mount / path).parent.mkdir(parents=True, exist_ok=True)
        (mount / path).write_text(text)
    return usable_cores(mount, listed)


def test_without_a_quota_it_is_every_core_that_the_process_may_run_on(tmp_path: Path, cores: int) -> None:
    assert _asked(tmp_path, "0::/\n", **{"cpu.max": "max 100000\n"}) == cores
    assert usable_cores(tmp_path / "none", tmp_path / "none") == cores


@pytest.mark.parametrize(("most", "expected"), [("200000", 2), ("150000", 2), ("50000", 1), ("9900000", 64)])
def test_a_container_of_the_second_version_has_its_quota(
    tmp_path: Path, cores: int, most: str, expected: int
) -> None:
    assert _asked(tmp_path, "0::/\n", **{"cpu.max": f"{most} 100000\n"}) == expected


def test_the_smallest_quota_of_the_groups_around_counts(tmp_path: Path, cores: int) -> None:
    given = {
        "system.slice/cpu.max": "300000 100000\n",
        "system.slice/cascade.service/cpu.max": "max 100000\n",
    }
    assert _asked(tmp_path, "0::/system.slice/cascade.service\n", **given) == 3


def test_a_container_of_the_first_version_that_does_not_know_its_path_has_its_quota(
    tmp_path: Path, cores: int
) -> None:
    membership = "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n"
    given = {"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}
    assert _asked(tmp_path, membership, **given) == 2
    assert _asked(tmp_path, membership, **(given | {"cpu/cpu.cfs_quota_us": "-1\n"})) == cores


def test_on_this_machine_it_is_a_number_of_its_cores() -> None:
    found = subprocess.run(
        [sys.executable, "-c", "from cascade.server.cores import usable_cores; print(usable_cores())"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert 1 <= int(found) <= (os.cpu_count() or 1)
