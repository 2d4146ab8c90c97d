"""What `cascade rollout status` says of who answers, where pointer, folders or files are wrong."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cascade.cli.app import app
from cascade.client import Client
from cascade.pointer import POINTER
from tests.conftest import NODE
from tests.service.following_service import FollowingService
from tests.soon import comes


@pytest.fixture
def status(tmp_path: Path, models: Path) -> Callable[..., str]:
    """Ask for the status, of a service or of the store."""
    price = {"input": 1, "output": 1}
    rung = {"kind": "chat", "base_url": "http://127.0.0.1:1/v1", "model": "m", "price": price}
    node = {"prompt": "{{ text }}", "bar": {"agreement": 0.95, "confidence": 0.95}}
    node["ladder"] = ["linear", "encoder", "frontier"]
    document = {"store": f"sqlite:///{tmp_path}/traffic.db", "models": str(models)}
    document |= {"rungs": {"frontier": rung}, "nodes": {NODE: node}}
    (tmp_path / "cascade.yaml").write_text(json.dumps(document))

    def ask(target: str = "", *options: str) -> str:
        place = ["--target", target] if target else ["-c", str(tmp_path / "cascade.yaml")]
        done = CliRunner().invoke(app, ["rollout", "status", NODE, *place, *options], env={"COLUMNS": "300"})
        assert done.exit_code == 0, done.output
        return done.stdout

    return ask


def well(said: str, version: str) -> bool:
    """Whether a status says that a bundle answers and nothing is wrong."""
    return said.startswith(f"{NODE}: bundle {version} answers\n") and "problem" not in said


def answers(service: FollowingService, unseen: list[dict[str, Any]]) -> tuple[str, str]:
    with Client(service.target) as client:
        decision = client.decide(node=NODE, text=unseen[0]["text"])
    return decision.mode, decision.bundle_version


def test_what_a_pointer_names_in_vain_is_told_with_who_answers_instead(
    following: Callable[..., FollowingService],
    status: Callable[..., str],
    models: Path,
    shipped: Path,
    unseen: list[dict[str, Any]],
) -> None:
    service = following()
    good = shipped.name
    assert well(status(service.target), good)
    assert well(status(), good)
    (models / NODE / POINTER).write_text("0007-nothere\n")
    assert comes(lambda: "problem" in status(service.target))
    assert answers(service, unseen) == ("live", good)
    said = status(service.target)
    assert f"{NODE}: bundle {good} answers\n  bundle 0007-nothere should\n  problem: bundle refused" in said
    assert json.loads(status(service.target, "--json"))["serving"] == good
    beside = status()
    assert f"{NODE}: bundle 0007-nothere should answer\n  problem: bundle refused" in beside
    assert "--target asks it" in beside
    (models / NODE / POINTER).write_text(good)
    assert comes(lambda: well(status(service.target), good))


@pytest.mark.parametrize("garbled", [b"", b" \n", b"\xff\xfe\x00"])
def test_a_pointer_that_is_empty_or_garbled_leaves_the_last_good_bundle(
    following: Callable[..., FollowingService],
    status: Callable[..., str],
    models: Path,
    shipped: Path,
    unseen: list[dict[str, Any]],
    garbled: bytes,
) -> None:
    service = following()
    (models / NODE / POINTER).write_bytes(garbled)
    assert comes(lambda: "problem" in status(service.target))
    assert answers(service, unseen) == ("live", shipped.name)
    assert status(service.target).startswith(f"{NODE}: bundle {shipped.name} answers\n  problem: ")
    assert "problem: bundle refused" in status()


@pytest.mark.parametrize("lost", [".", NODE])
def test_a_folder_of_models_that_is_gone_leaves_the_last_good_bundle_and_is_complained_of(
    following: Callable[..., FollowingService],
    status: Callable[..., str],
    models: Path,
    shipped: Path,
    unseen: list[dict[str, Any]],
    caplog: pytest.LogCaptureFixture,
    lost: str,
) -> None:
    service = following()
    away = models.with_name("away")
    shutil.move(models / lost, away)
    assert comes(lambda: "is gone" in status(service.target))
    assert answers(service, unseen) == ("live", shipped.name)
    assert [r for r in caplog.records if r.levelno == logging.ERROR and "is gone" in r.getMessage()]
    shutil.move(away, models / lost)
    assert comes(lambda: well(status(service.target), shipped.name))


def test_a_pointer_that_was_taken_away_is_warned_of_and_the_teacher_answers(
    following: Callable[..., FollowingService],
    status: Callable[..., str],
    models: Path,
    shipped: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    service = following()
    (models / NODE / POINTER).unlink()
    assert comes(lambda: status(service.target) == f"{NODE}: the teacher answers\n")
    (record,) = [r for r in caplog.records if r.levelno == logging.WARNING and POINTER in r.getMessage()]
    assert f"which named {shipped.name}" in record.getMessage()


def test_a_bundle_that_was_altered_is_told_of_before_a_service_starts_on_it(
    following: Callable[..., FollowingService], status: Callable[..., str], models: Path, shipped: Path
) -> None:
    following()  # makes the store, and has the bundle in memory
    with (models / NODE / shipped.name / "linear.onnx").open("ab") as file:
        file.write(b"\0")
    assert f"bundle {shipped.name} should answer\n  problem: bundle refused: linear.onnx: its SHA" in status()
    service = following()
    said = status(service.target)
    assert f"{NODE}: the teacher answers\n  bundle {shipped.name} should\n  problem: bundle refused" in said
