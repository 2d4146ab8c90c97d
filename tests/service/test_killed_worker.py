"""A worker process killed by SIGKILL between deciding and recording, and what the next one finds."""

import json
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cascade.client import Client, DecisionError
from cascade.config import Config
from cascade.demo.frontier import SimulatedFrontier
from cascade.pointer import POINTER
from cascade.rollout.audit import coin
from cascade.rollout.database_store import DatabaseRolloutStore
from cascade.rollout.verbs import Verbs
from cascade.traffic import open_store
from tests.conftest import NODE
from tests.service.held_worker import HELD, HOLD
from tests.service.rollout_world import BAR, World, rows
from tests.soon import comes

pytestmark = pytest.mark.alone

ROOT = Path(__file__).resolve().parents[2]
LONG = 60.0
RATE = 0.5
REQUESTS = 240
STEPS: dict[str, Any] = {"steps": [50, 100]}
AUDIT = {"ceiling": RATE, "floor": RATE, "daily_usd": 1000.0}
"""A rate that stays, so that who was drawn can be told from the decisions' ids."""


class Worker:
    """A service of one process, held at a point as soon as it is told to."""

    def __init__(self, config: Path, point: str) -> None:
        self.folder = config.parent
        self.log = self.folder / f"log-{time.monotonic_ns()}"
        command = [sys.executable, "-m", "tests.service.held_worker", str(config), point]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, cwd=ROOT)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.log.read_text()
        self.target = f"127.0.0.1:{json.loads(line)['port']}"

    def hold(self) -> None:
        (self.folder / HOLD).touch()

    def wait_until_held(self) -> None:
        assert comes((self.folder / HELD).exists), "it never came to the point"

    def kill(self) -> None:
        """Kill it where it is held. The next one is not held."""
        assert (self.folder / HELD).exists()
        self.process.send_signal(signal.SIGKILL)
        assert self.process.wait(LONG) == -signal.SIGKILL
        for name in (HOLD, HELD):
            (self.folder / name).unlink(missing_ok=True)

    def end(self) -> None:
        self.process.terminate()
        assert self.process.wait(LONG) == 0, self.log.read_text()


@dataclass(frozen=True)
class Told:
    """What a caller was told, and whether it is what the teacher says."""

    decision_id: str
    bundle: str
    local: bool
    right: bool

    @property
    def drawn(self) -> bool:
        return self.local and coin(self.decision_id) < RATE


class Caller:
    """Asks the unseen records, each in a session of its own, and remembers what it was told."""

    def __init__(self, client: Client, unseen: list[dict[str, Any]], told: list[Told]) -> None:
        self.client = client
        self._unseen = unseen
        self._told = told

    def ask(self, at: int) -> Told:
        record = self._unseen[at % len(self._unseen)]
        found = self.client.decide(node=NODE, text=record["text"], context={"session": f"s{at}"})
        local, right = found.rung != "frontier", found.label == record["label"]
        self._told.append(Told(found.decision_id, found.bundle_version, local, right))
        return self._told[-1]


@pytest.fixture
def teacher(unseen: list[dict[str, Any]]) -> Iterator[SimulatedFrontier]:
    with SimulatedFrontier({record["text"]: record["label"] for record in unseen}) as server:
        yield server


@pytest.fixture
def settings(world: World, teacher: SimulatedFrontier, configure: Callable[..., Config]) -> Path:
    """The configuration of a worker on the world's database and models."""
    path = world.path.parent / "cascade.yaml"
    config = configure(
        node={"bar": BAR | {"agreement": 0.55}},
        chat={"base_url": teacher.url},
        store=f"sqlite:///{world.path}",
        models=str(world.models),
        rollout=STEPS | {"poll_seconds": 0.05, "audit": AUDIT},
    )
    document: dict[str, Any] = config.model_dump(mode="json", by_alias=True, exclude_none=True)
    document["nodes"][NODE]["contract"] = {"labels": "from-traffic"}
    path.write_text(json.dumps(document))
    return path


@pytest.fixture
def work(settings: Path) -> Iterator[Callable[[str], Worker]]:
    started: list[Worker] = []

    def start(point: str) -> Worker:
        started.append(Worker(settings, point))
        return started[-1]

    yield start
    for worker in started:
        worker.process.kill()
        worker.process.wait(LONG)


@contextmanager
def verbs_of(world: World) -> Iterator[Verbs]:
    """Open the store for a moment: as long as nobody serves, nobody judges."""
    store = open_store(f"sqlite:///{world.path}")
    try:
        yield Verbs(world.config(rollout=STEPS), DatabaseRolloutStore(store))
    finally:
        store.close()


def start(world: World, bundle: str, percent: int) -> str:
    """Start a rollout, and give the stable bundle."""
    with verbs_of(world) as verbs:
        verbs.start(NODE, "ada", bundle=bundle, percent=percent)
        return str(verbs.describe(NODE)["stable"])


def history(world: World) -> list[tuple[int, str, str, str]]:
    with verbs_of(world) as verbs:
        return [(e.seq, e.what, e.who, e.bundle) for e in verbs.history(NODE)]


def ids(world: World, query: str) -> set[str]:
    return {str(row[0]) for row in rows(world, query)}


@pytest.mark.parametrize("point", ["group", "commit"])
def test_killed_before_decisions_are_on_disk_nothing_acknowledged_is_lost_and_audits_stay_fair(
    point: str,
    world: World,
    work: Callable[[str], Worker],
    teacher: SimulatedFrontier,
    unseen: list[dict[str, Any]],
) -> None:
    candidate = world.copy(2, wrong=0.25)
    start(world, candidate, 50)
    with verbs_of(world) as verbs:
        verbs.hold(NODE, "ada", "so that the guard only watches")
        before = verbs.describe(NODE)
    told: list[Told] = []
    outcomes: set[str] = set()
    unanswered: list[DecisionError] = []

    def put_down() -> bool:
        return ids(world, "SELECT decision_id FROM audits") >= {t.decision_id for t in told if t.drawn}

    worker = work(point)
    with Client(worker.target, timeout=LONG) as client:
        caller = Caller(client, unseen, told)
        for at in range(REQUESTS):
            each = caller.ask(at)
            if at % 5 == 0 or at == REQUESTS - 1:  # its record comes after those of all before it
                outcomes.add(client.report_outcome(decision_id=each.decision_id, right=each.right))
        assert comes(lambda: put_down() and not waiting(world)), "not all were audited"
        first = list(told)
        locals_ = [at for at in range(REQUESTS) if told[at].local]
        chosen = [at for at in locals_ if told[at].right][:15] + [at for at in locals_ if not told[at].right][
            :15
        ]
        worker.hold()
        for at in chosen:
            caller.ask(at)
        worker.wait_until_held()
        if point == "group":  # nobody has the database's lock: audits are made, and then wait for the teacher
            assert comes(put_down), "audits are not put down"
            teacher.faults.refuse_all = True
            for at in chosen:
                caller.ask(at)
            assert comes(put_down), "audits are not put down"

        def report() -> None:
            try:
                client.report_outcome(decision_id=each.decision_id, right=each.right)
            except DecisionError as error:
                unanswered.append(error)

        reporting = threading.Thread(target=report)
        reporting.start()
        reporting.join(0.5)
        assert reporting.is_alive(), "an outcome was acknowledged before it was on disk"
        worker.kill()
        reporting.join(LONG)
    assert len(unanswered) == 1
    teacher.faults.refuse_all = False

    heir = work(point)
    lost = {t.decision_id for t in told} - ids(world, "SELECT decision_id FROM decisions")
    assert lost == {t.decision_id for t in told[len(first) :]}, "what was held is what is missing"
    assert outcomes == ids(world, "SELECT outcome_id FROM outcomes")
    with sqlite3.connect(world.path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)

    # The gap is exact: the decisions, and the outcome that was not acknowledged.
    (line,) = (world.path.parent / "traffic.db.gaps.jsonl").read_text().splitlines()
    gap = json.loads(line)
    assert (gap["pid"], gap["at_most"]) == (worker.process.pid, len(lost) + 1)
    assert f"at most {len(lost) + 1} records are missing" in heir.log.read_text()

    # The rollout is where it was, and the same sessions are served by the same bundles.
    with Client(heir.target, timeout=LONG) as client:
        caller = Caller(client, unseen, told)
        again = [caller.ask(at) for at in range(60)]
        client.report_outcome(decision_id=again[-1].decision_id, right=again[-1].right)
    assert [t.bundle for t in again] == [t.bundle for t in first[:60]]
    assert {t.bundle for t in again} == {before["stable"], candidate}
    assert comes(lambda: put_down_but(world, told, lost) and not waiting(world)), "audits wait"
    heir.end()
    with verbs_of(world) as verbs:
        assert verbs.describe(NODE) == before

    # An audit that was drawn was asked once, or is missing because of the moment, not of the answer.
    by_id = {t.decision_id: t for t in told}
    evidence = rows(world, "SELECT decision_id, bundle_version, is_right, propensity FROM evidence")
    found = {row[0] for row in evidence}
    assert len(found) == len(evidence)
    told_of = [(by_id[row[0]], row) for row in evidence]
    unlike = [
        (said, row)
        for said, row in told_of
        if (said.drawn, said.bundle, said.right, RATE) != (True, row[1], bool(row[2]), row[3])
    ]
    assert not unlike
    missing = {t.decision_id for t in told if t.drawn} - found
    assert missing <= lost
    assert {by_id[i].right for i in missing} == {True, False}, "nothing was at stake"
    given_up = rows(world, "SELECT decision_id, is_right, error FROM audits WHERE status <> 'done'")
    assert {row[0] for row in given_up} <= missing, "only what nobody can ask any more is given up"
    assert all(row[1] is None and "not in the traffic log" in row[2] for row in given_up)
    assert given_up or point == "commit", "none was waiting"
    for bundle in (before["stable"], candidate):
        mine = [row for row in evidence if row[1] == bundle]
        estimate = sum(row[2] / row[3] for row in mine) / sum(1 / row[3] for row in mine)
        truth = [t.right for t in told if t.bundle == bundle and t.local]
        share = sum(truth) / len(truth)
        assert abs(estimate - share) < 4 * (max(share * (1 - share), 0.01) / len(mine)) ** 0.5
    judge = world.worker(rollout=STEPS | {"audit": AUDIT}).rollouts
    judge.turn()
    judgement = judge.judgement(NODE, candidate)
    assert judgement is not None
    counted = [row[2] for row in evidence if row[1] == candidate]
    assert (judgement["audits"], judgement["disagreements"]) == (len(counted), counted.count(0))


def waiting(world: World) -> int:
    return len(rows(world, "SELECT 1 FROM audits WHERE status = 'waiting'"))


def put_down_but(world: World, told: list[Told], lost: set[str]) -> bool:
    wanted = {t.decision_id for t in told if t.drawn} - lost
    return ids(world, "SELECT decision_id FROM audits") >= wanted


def keep_asking(target: str, unseen: list[dict[str, Any]], done: Callable[[], bool]) -> None:
    end = time.monotonic() + LONG
    at = 0
    with Client(target, timeout=LONG) as client:
        while not done():
            assert time.monotonic() < end, "it never came to the point"
            client.decide(node=NODE, text=unseen[at % len(unseen)]["text"], context={"session": f"s{at}"})
            at += 1


def test_killed_between_the_guards_decision_and_its_record_the_next_worker_decides_the_same(
    world: World, work: Callable[[str], Worker], unseen: list[dict[str, Any]]
) -> None:
    bad = world.copy(2, wrong=0.7)
    good = start(world, bad, 50)
    worker = work("append")
    worker.hold()
    keep_asking(worker.target, unseen, (worker.folder / HELD).exists)
    with Client(worker.target, timeout=LONG) as client:
        text = unseen[0]["text"]
        served = {
            client.decide(node=NODE, text=text, context={"session": f"t{i}"}).bundle_version
            for i in range(30)
        }
    assert served == {good, bad}, "what is not recorded has not happened"
    seen = ids(world, "SELECT decision_id FROM evidence")
    worker.kill()
    assert history(world) == [(1, "start", "ada", bad)]

    heir = work("append")  # no request is needed: the evidence is on disk
    assert comes(lambda: rows(world, "SELECT 1 FROM rollout_events WHERE what = 'rollback'")), "it stays"
    assert ids(world, "SELECT decision_id FROM evidence") >= seen
    with Client(heir.target, timeout=LONG) as client:
        served = {
            client.decide(node=NODE, text=text, context={"session": f"t{i}"}).bundle_version
            for i in range(30)
        }
    assert served == {good}
    heir.end()
    assert history(world) == [(1, "start", "ada", bad), (2, "rollback", "guard", bad)]


def test_killed_between_completing_a_rollout_and_moving_the_pointer_the_next_worker_moves_it(
    world: World, work: Callable[[str], Worker], unseen: list[dict[str, Any]]
) -> None:
    new = world.copy(2)
    stable = start(world, new, 50)
    worker = work("pointer")
    worker.hold()
    keep_asking(worker.target, unseen, (worker.folder / HELD).exists)
    worker.kill()
    pointer = world.models / NODE / POINTER
    events = [(1, "start", "ada", new), (2, "promote", "guard", new)]
    assert history(world) == events
    assert pointer.read_text().strip() == stable

    heir = work("pointer")
    assert comes(lambda: pointer.read_text().strip() == new), "restart and `cascade report` do not agree"
    with Client(heir.target, timeout=LONG) as client:
        served = {
            client.decide(node=NODE, text=unseen[i]["text"], context={"session": f"s{i}"}).bundle_version
            for i in range(30)
        }
    assert served == {new}
    heir.end()
    assert history(world) == events
