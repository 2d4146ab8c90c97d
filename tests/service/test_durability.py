"""What was acknowledged is on disk, whatever happens to the process or to the disk."""

import json
import logging
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc
import pytest

from benchmarks.durability import run
from cascade.client import Client, DecisionError
from cascade.config import Config
from cascade.traffic import open_store
from cascade.traffic.tally import FileTally
from tests.conftest import NODE
from tests.soon import comes

pytestmark = pytest.mark.alone

LONG = 60.0


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_kill_9_loses_no_acknowledged_outcome_and_the_gap_is_named(
    tmp_path: Path, backend: str, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue("new_postgres")() if backend == "postgresql" else None
    found = run(kills=6, seed=1, folder=tmp_path, postgres=url)
    assert found["kills"] == 6
    assert found["acknowledged outcomes"] > 0
    assert found["acknowledged outcomes missing"] == 0
    assert found["integrity check"] == "ok"
    assert found["exit code"] == 0
    # A decision is answered before it is written; all that are missing are in the gaps.
    assert found["decisions missing"] <= found["records the gaps name"]
    assert found["records the gaps name"] < 10_000, "counted, not guessed from the length of the queue"
    assert found["longest before a kill, s"] < 5.0
    if backend == "sqlite":
        # What three clients are told within a group's window, 5 ms, and the time that it takes to write it.
        assert found["decisions missing"] <= 10 * found["kills"]


def test_the_gap_that_a_killed_writer_left_is_found_told_and_written_down(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database = tmp_path / "traffic.db"
    code = (
        "import sys, os, signal; from pathlib import Path; from cascade.traffic.tally import FileTally\n"
        "t = FileTally(Path(sys.argv[1])); t.keep(10, 7); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(database)], check=False, timeout=LONG)
    alive = FileTally(database)
    alive.keep(5, 1)
    assert [gap.at_most for gap in alive.gaps] == [3]
    assert "at most 3 records are missing" in caplog.text
    later = FileTally(database)
    assert later.gaps == []  # told once, and a living process's is none
    later.close()
    alive.close()
    (line,) = (tmp_path / "traffic.db.gaps.jsonl").read_text().splitlines()
    assert json.loads(line)["at_most"] == 3
    assert list((tmp_path / "traffic.db.open").iterdir()) == []


def test_a_writer_that_closed_leaves_no_gap(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    for _ in range(2):
        open_store(f"sqlite:///{tmp_path}/traffic.db").close()
    assert caplog.text == ""


def document_of(config: Config) -> str:
    document = config.model_dump(mode="json", by_alias=True, exclude_none=True)
    document["nodes"][NODE]["contract"] = {"labels": "from-traffic"}
    return json.dumps(document)


def disk_goes_bad(
    config_file: Path,
    unseen: list[dict[str, Any]],
    go_bad: Callable[[int], None],
    heal: Callable[[int], None],
) -> str:
    """Serve while the disk under the store goes bad and gets well again, and give the log.

    Answers go on all the while, outcomes are refused and never acknowledged, the loss is counted, and writing
    goes on by itself.
    """
    command = ["-m", "cascade.cli", "serve", "-c", str(config_file), "--listen", "127.0.0.1:0"]
    process = subprocess.Popen(
        [sys.executable, *command, "--workers", "1", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        facts = json.loads(process.stdout.readline())
        with Client(f"127.0.0.1:{facts['port']}", timeout=LONG) as client:
            before = client.decide(node=NODE, text=unseen[0]["text"])
            assert client.report_outcome(decision_id=before.decision_id, right=True)
            assert lost(facts) == 0
            go_bad(process.pid)
            for record in unseen[:30]:
                assert client.decide(node=NODE, text=record["text"]).label
            with pytest.raises(DecisionError) as refused:
                client.report_outcome(decision_id=before.decision_id, right=True)
            assert refused.value.code == grpc.StatusCode.UNAVAILABLE
            assert comes(lambda: lost(facts))  # looked at every two seconds
            heal(process.pid)
            end = time.monotonic() + LONG
            while True:  # it recovers by itself
                after = client.decide(node=NODE, text=unseen[1]["text"])
                try:
                    assert client.report_outcome(decision_id=after.decision_id, right=True)
                    break
                except DecisionError:
                    assert time.monotonic() < end
                    time.sleep(0.1)
        process.terminate()
        _, log = process.communicate(timeout=LONG)
        assert process.returncode == 0
        assert b"traffic records were lost" in log
        return log.decode()
    finally:
        process.kill()
        process.wait()


def lost(facts: dict[str, Any]) -> float:
    """Read what a service says of itself at /metrics."""
    with urlopen(f"http://{facts['http']}/metrics", timeout=LONG) as answer:
        page = answer.read().decode()
    found = re.findall(r'^cascade_store_records_total\{state="failed"\} (\S+)$', page, re.MULTILINE)
    return sum(map(float, found))


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs prlimit")
def test_a_full_disk_costs_records_not_answers_and_is_shouted(
    configure: Callable[..., Config], models: Path, tmp_path: Path, unseen: list[dict[str, Any]]
) -> None:
    config = configure(
        store=f"sqlite:///{tmp_path}/traffic.db", models=str(models), http={"listen": "127.0.0.1:0"}
    )
    (tmp_path / "cascade.yaml").write_text(document_of(config))
    unlimited: list[tuple[int, int]] = []

    def fill(pid: int) -> None:
        unlimited.append(resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY)))

    disk_goes_bad(
        tmp_path / "cascade.yaml",
        unseen,
        fill,
        lambda pid: resource.prlimit(pid, resource.RLIMIT_FSIZE, unlimited[0]) and None,
    )


@pytest.fixture
def ext4(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own, mounted; `abort` makes the kernel turn it read-only as after a bad sector."""
    image, folder = tmp_path / "disk", tmp_path / "mounted"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(16 * 2**20)
    try:
        subprocess.run(["mkfs.ext4", "-q", image], check=True, capture_output=True)
        subprocess.run(["mount", "-o", "loop", image, folder], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"needs the right to mount a disk: {error}")
    yield folder
    while subprocess.run(["umount", "-l", folder], check=False, capture_output=True).returncode == 0:
        pass


def test_a_disk_that_turns_read_only_costs_records_not_answers_and_is_shouted(
    configure: Callable[..., Config], models: Path, tmp_path: Path, ext4: Path, unseen: list[dict[str, Any]]
) -> None:
    config = configure(
        store=f"sqlite:///{ext4}/traffic.db", models=str(models), http={"listen": "127.0.0.1:0"}
    )
    (tmp_path / "cascade.yaml").write_text(document_of(config))

    def turn_read_only(_: int) -> None:
        subprocess.run(["mount", "-o", "remount,abort", ext4], check=True)
        with pytest.raises(OSError, match="Read-only"):
            (ext4 / "x").touch()

    def repair(_: int) -> None:
        copy = tmp_path / "repaired"
        shutil.copy(tmp_path / "disk", copy)
        subprocess.run(["umount", "-l", ext4], check=True)
        subprocess.run(["mount", "-o", "loop", copy, ext4], check=True)

    log = disk_goes_bad(tmp_path / "cascade.yaml", unseen, turn_read_only, repair)
    assert "readonly database" in log
