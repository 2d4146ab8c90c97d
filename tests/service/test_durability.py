"""What was acknowledged is on disk, whatever happens to the process or to the disk."""

import json
import logging
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from benchmarks.durability import run
from cascade.client import Client, DecisionError
from cascade.config import Config
from cascade.traffic import open_store
from cascade.traffic.tally import Tally
from tests.conftest import NODE

LONG = 60.0


def test_kill_9_loses_no_acknowledged_outcome_and_the_gap_is_named(tmp_path: Path) -> None:
    found = run(kills=6, seed=1, folder=tmp_path)
    assert found["kills"] == 6
    assert found["acknowledged outcomes"] > 0
    assert found["acknowledged outcomes missing"] == 0
    assert found["integrity check"] == "ok"
    assert found["exit code"] == 0
    # A decision is answered before it is written; all that are missing are in the gaps.
    assert found["decisions missing"] <= found["records the gaps name"]
    assert found["longest before a kill, s"] < 5.0


def test_the_gap_that_a_killed_writer_left_is_found_told_and_written_down(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database = tmp_path / "traffic.db"
    code = (
        "import sys, os, signal; from pathlib import Path; from cascade.traffic.tally import Tally\n"
        "t = Tally(Path(sys.argv[1])); t.keep(10, 7); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(database)], check=False, timeout=LONG)
    alive = Tally(database)
    alive.keep(5, 1)
    assert [gap.at_most for gap in alive.gaps] == [3]
    assert "at most 3 records are missing" in caplog.text
    later = Tally(database)
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


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs prlimit")
def test_a_full_disk_costs_records_not_answers_and_is_shouted(
    configure: Callable[..., Config], models: Path, tmp_path: Path, unseen: list[dict[str, Any]]
) -> None:
    config = configure(store=f"sqlite:///{tmp_path}/traffic.db", models=str(models))
    document = config.model_dump(mode="json", by_alias=True, exclude_none=True)
    document["nodes"][NODE]["contract"] = {"labels": "from-traffic"}
    (tmp_path / "cascade.yaml").write_text(json.dumps(document))
    command = ["-m", "cascade.cli", "serve", "-c", str(tmp_path / "cascade.yaml"), "--listen", "127.0.0.1:0"]
    process = subprocess.Popen(
        [sys.executable, *command, "--workers", "1", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        port = json.loads(process.stdout.readline())["port"]
        with Client(f"127.0.0.1:{port}", timeout=LONG) as client:
            before = client.decide(node=NODE, text=unseen[0]["text"])
            assert client.report_outcome(decision_id=before.decision_id, right=True)
            unlimited = resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
            for record in unseen[:30]:
                assert client.decide(node=NODE, text=record["text"]).label
            with pytest.raises(DecisionError) as refused:
                client.report_outcome(decision_id=before.decision_id, right=True)
            assert refused.value.code == grpc.StatusCode.UNAVAILABLE
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, unlimited)
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
    finally:
        process.kill()
        process.wait()
