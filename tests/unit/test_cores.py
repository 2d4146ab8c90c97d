"""How many cores a process may use under a quota of a container or of systemd."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cascade.errors import ConfigError
from cascade.server.cores import cores_of_workers, keep_to, usable_cores


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    return 64


def _groups(tmp_path: Path, membership: str, **files: str) -> tuple[Path, Path]:
    listed = tmp_path / "cgroup"
    listed.write_text(membership)
    mount = tmp_path / "mount"
    for path, text in files.items():
        (mount / path).parent.mkdir(parents=True, exist_ok=True)
        (mount / path).write_text(text)
    return mount, listed


def _asked(tmp_path: Path, membership: str, **files: str) -> int:
    return usable_cores(*_groups(tmp_path, membership, **files))


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


def _kept(tmp_path: Path, workers: int, wanted: bool | None = None, quota: str = "max") -> list[int] | None:
    groups = _groups(tmp_path, "0::/\n", **{"cpu.max": f"{quota} 100000\n"})
    return cores_of_workers(workers, wanted, *groups)


def test_each_of_as_many_workers_as_there_are_cores_keeps_to_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {7, 2, 5}, raising=False)
    assert _kept(tmp_path, 3) == [2, 5, 7]
    assert _kept(tmp_path, 3, wanted=False) is None


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_fewer_or_more_workers_than_cores_run_anywhere_unless_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    assert _kept(tmp_path, workers) is None
    assert _kept(tmp_path, workers, wanted=True) == [0, 1, 2, 0][:workers]


def test_under_a_quota_the_cores_are_not_only_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    assert _kept(tmp_path, 2, quota="150000") is None
    assert _kept(tmp_path, 2, quota="200000") == [0, 1]


def test_a_system_that_cannot_keep_a_process_to_a_core_says_so_where_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    assert _kept(tmp_path, 2) is None
    with pytest.raises(ConfigError, match=r"server\.pin_workers"):
        _kept(tmp_path, 2, wanted=True)


def test_a_core_that_was_taken_away_meanwhile_keeps_nobody_from_serving(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuses(*_: object) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "sched_setaffinity", refuses, raising=False)
    keep_to(3)
    assert "cannot keep to core 3" in caplog.text
