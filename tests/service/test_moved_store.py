"""The SQLite file is moved, deleted, replaced or unreadable under a service: it shouts, and answers go on."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest
from typer.testing import CliRunner

from cascade.cli.app import app
from cascade.client import Client, DecisionError
from cascade.demo.bundle_copies import copy_bundle
from cascade.redaction.settings import KEY_FILE
from tests.conftest import NODE
from tests.service.worker_processes import LONG, Service
from tests.soon import comes


@pytest.fixture
def database(document: dict[str, Any], tmp_path: Path) -> Path:
    path = tmp_path / "var" / "traffic.db"
    document["store"] = f"sqlite:///{path}"
    return path


def rows(path: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as other:
        return [row[0] for row in other.execute(query)]


def rollout(service: Service, *words: str) -> Any:
    return CliRunner().invoke(app, ["rollout", *words, "-c", str(service.file)])


def settled(service: Service, texts: list[str]) -> dict[str, str]:
    """Ask both workers, by connections of their own; give which bundle settled what without the teacher."""
    found: dict[str, str] = {}
    for text in texts:
        with Client(service.target, timeout=LONG) as client:
            decision = client.decide(node=NODE, text=text)
            if decision.rung != "frontier":
                found[decision.decision_id] = decision.bundle_version
    return found


def reported(service: Service, decision_id: str) -> grpc.StatusCode | None:
    with Client(service.target, timeout=LONG) as client:
        try:
            client.report_outcome(decision_id=decision_id, right=True)
        except DecisionError as error:
            return error.code
    return None


def on_disk(path: Path, ids: set[str]) -> bool:
    return comes(lambda: ids <= set(rows(path, "SELECT decision_id FROM decisions")))


def test_a_backup_put_back_under_a_service_is_what_service_and_command_see(
    serve: Callable[[int], Service], database: Path, models: Path, unseen: list[dict[str, Any]]
) -> None:
    candidate = copy_bundle(next(models.joinpath(NODE).glob("0001-*")), 2)
    service = serve(2)
    texts = [record["text"] for record in unseen[:10]]
    decided = settled(service, texts)
    assert decided, "some are settled locally"
    started = rollout(service, "start", NODE, "--bundle", candidate, "--why", "new")
    assert started.exit_code == 0, started.output
    assert rollout(service, "approve", NODE, "--force", "--why", "go").exit_code == 0
    assert on_disk(database, set(decided))
    backup = database.with_name("b.db")
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(f"VACUUM INTO '{backup}'")
    assert rollout(service, "hold", NODE, "--why", "later").exit_code == 0
    lost = settled(service, texts)
    assert on_disk(database, set(lost))
    backup.rename(database)
    rolled_back = rollout(service, "rollback", NODE, "--why", "bad")
    assert rolled_back.exit_code == 0, rolled_back.output
    for _ in range(6):  # by connections of their own, so that both workers are asked
        assert reported(service, next(iter(decided))) is None
    assert rows(database, "SELECT count(*) FROM outcomes") == [6]
    service.wait_for_log("is another file now, and is read and written from here on", 2)
    service.wait_for_log(
        "rollback by", 2
    )  # each worker heeds it, though its place was taken by `hold` before
    os.kill(min(service.workers()), signal.SIGKILL)  # who is started sees the same
    service.wait_for_log("it is started again")
    assert comes(lambda: len(service.workers()) == 2)
    later = settled(service, texts)
    assert on_disk(database, set(later))
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(LONG) == 0
    there = set(rows(database, "SELECT decision_id FROM decisions"))
    assert set(decided) <= there
    assert set(later) <= there
    assert rows(database, "PRAGMA integrity_check") == ["ok"]


@pytest.mark.parametrize("how", ["moved", "folder deleted"])
def test_where_the_file_is_gone_answers_go_on_outcomes_are_refused_and_nobody_makes_another(
    serve: Callable[[int], Service], database: Path, unseen: list[dict[str, Any]], how: str
) -> None:
    service = serve(2)
    texts = [record["text"] for record in unseen[:6]]
    decided = settled(service, texts)
    assert on_disk(database, set(decided))
    kept, key = database.with_name("keep.db"), database.with_name(KEY_FILE)
    secret = key.read_bytes()
    database.rename(kept) if how == "moved" else shutil.rmtree(database.parent)
    for _ in range(4):
        assert reported(service, next(iter(decided))) is grpc.StatusCode.UNAVAILABLE
    service.wait_for_log("is gone: what is written would be lost", 2)
    refused = rollout(service, "rollback", NODE, "--why", "bad")
    assert refused.exit_code == 1
    assert f"no traffic database at {database}" in refused.output
    assert settled(service, texts), "what was known holds"
    os.kill(min(service.workers()), signal.SIGKILL)
    service.wait_for_log("cannot be opened: no traffic database at")  # who is started afterwards
    assert comes(lambda: len(service.workers()) == 2)
    for _ in range(4):
        assert reported(service, next(iter(decided))) is grpc.StatusCode.UNAVAILABLE
    assert not database.exists()
    # Neither the command nor the new worker made another key: placeholders of one text would differ.
    assert key.read_bytes() == secret if how == "moved" else not key.exists()
    if how == "moved":
        kept.rename(database)
        assert comes(lambda: reported(service, next(iter(decided))) is None)
        assert comes(lambda: [reported(service, next(iter(decided))) for _ in range(4)] == [None] * 4)
        assert rows(database, "PRAGMA integrity_check") == ["ok"]


def test_a_service_starts_on_a_store_that_cannot_be_read_and_the_teacher_answers_until_it_can(
    serve: Callable[[int], Service], database: Path, unseen: list[dict[str, Any]]
) -> None:
    database.parent.mkdir()
    database.write_bytes(b"no database at all" * 100)
    service = serve(2)
    texts = [record["text"] for record in unseen[:10]]
    assert settled(service, texts) == {}
    service.wait_for_log("file is not a database; until it can be, nothing is recorded", 2)
    told = CliRunner().invoke(app, ["rollout", "status", NODE, "--target", service.target])
    assert told.exit_code == 1
    assert "file is not a database" in told.output
    assert "--tls" not in told.output, "it has nothing to do with it"
    database.unlink()
    with closing(sqlite3.connect(database)):  # somebody's empty file is none of ours
        pass
    assert settled(service, texts) == {}
    good = database.with_name("good.db")
    from cascade.traffic import SqliteStore

    SqliteStore(good).close()
    good.rename(database)
    assert comes(lambda: settled(service, texts))
    decided = settled(service, texts)
    assert on_disk(database, set(decided))


def test_a_database_of_something_else_is_said_once_and_ends_the_start(
    document: dict[str, Any], database: Path, tmp_path: Path
) -> None:
    database.parent.mkdir()
    with closing(sqlite3.connect(database)) as other:
        other.execute("CREATE TABLE mine (x)")
    (tmp_path / "cascade.yaml").write_text(json.dumps(document))
    command = ["-m", "cascade.cli", "serve", "-c", str(tmp_path / "cascade.yaml"), "--workers", "2"]
    done = subprocess.run(
        [sys.executable, *command, "--listen", "127.0.0.1:0"], capture_output=True, timeout=LONG
    )
    assert done.returncode == 2
    assert done.stderr.count(b"is a database of something else") == 1
