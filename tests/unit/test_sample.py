"""The sample traffic is what its generator writes, and its unseen part is unseen."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SAMPLE = Path(__file__).parents[2] / "examples" / "sample"
LABELS = {"support-intent": 18, "tool-choice": 10, "continue-or-stop": 2}
END = 1_793_491_200  # 2026-11-01T00:00:00Z


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (SAMPLE / f"{name}.jsonl").read_text("utf-8").splitlines()]


def content(row: dict[str, Any]) -> str:
    return json.dumps(row.get("text") or row["messages"], ensure_ascii=False).lower()


@pytest.mark.parametrize("hash_seed", ["0", "4711"])
def test_the_generator_writes_the_committed_bytes(tmp_path: Path, hash_seed: str) -> None:
    command = [sys.executable, str(SAMPLE / "generate.py"), "--out", str(tmp_path)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": hash_seed})
    committed = {path.name: path.read_bytes() for path in SAMPLE.glob("*.jsonl")}
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == committed
    assert len(committed) == 6
    assert sum(map(len, committed.values())) < 4_000_000


@pytest.mark.parametrize("node", LABELS)
def test_counts_labels_and_no_overlap(node: str) -> None:
    history, unseen = rows(node), rows(f"{node}.unseen")
    assert (len(history), len(unseen)) == (3000, 600)
    labels = {row["label"] for row in history}
    assert len(labels) == LABELS[node]
    assert {row["label"] for row in unseen} <= labels
    assert len({content(row) for row in history + unseen}) == 3600
    assert len({row["id"] for row in history + unseen}) == 3600


@pytest.mark.parametrize("node", LABELS)
def test_time_and_sessions(node: str) -> None:
    history, unseen = rows(node), rows(f"{node}.unseen")
    times = [row["time"] for row in history + unseen]
    assert all(a < b for a, b in itertools.pairwise(times))
    assert times[0] >= END - 60 * 86400
    assert END - 86400 < times[-1] < END
    assert not {row["session"] for row in history} & {row["session"] for row in unseen}
    sessions = [row["session"] for row in history + unseen]
    starts = sum(a != b for a, b in itertools.pairwise([None, *sessions]))
    assert starts == len(set(sessions))
    assert max(map(sessions.count, set(sessions))) == 5


def test_chats_have_two_to_five_messages_and_begin_with_the_user() -> None:
    for row in rows("continue-or-stop") + rows("continue-or-stop.unseen"):
        assert 2 <= len(row["messages"]) <= 5
        roles = [message["role"] for message in row["messages"]]
        assert roles == (["user", "assistant"] * 3)[: len(roles)]
