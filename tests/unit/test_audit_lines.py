"""Audits while a teacher is dead: few questions, a bounded queue, nobody blamed, other nodes not held up."""

from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

from cascade.ask import Ask
from cascade.errors import RungError, TeacherUnavailable
from cascade.rollout import audit as audit_module
from cascade.rollout import audit_lines, day_budget
from cascade.rollout.audit import Audited, Auditor
from cascade.rollout.audit_lines import PAUSE_MAX, Line
from cascade.rollout.database_store import DatabaseRolloutStore
from cascade.rollout.records import Audit
from cascade.rungs.protocol import Answer, Query
from cascade.traffic import SqliteStore, TrafficStore


class Clock:
    """A monotonic clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class FakeTeacher:
    """Answers at once, or when told to, with what it is told to."""

    def __init__(self, answer: Answer, hangs: bool = False) -> None:
        self.answer, self.hangs = answer, hangs
        self.asked: list[Future[Answer]] = []

    def submit(self, _: Query) -> Future[Answer]:
        self.asked.append(Future())
        if not self.hangs:
            self.asked[-1].set_result(self.answer)
        return self.asked[-1]


DOWN = Answer(error=TeacherUnavailable("down"))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(audit_module, "time", made)
    monkeypatch.setattr(audit_lines, "time", made)
    monkeypatch.setattr(day_budget, "time", made)
    return made


@pytest.fixture
def traffic(tmp_path: Path) -> Iterator[TrafficStore]:
    with SqliteStore(tmp_path / "traffic.db") as store:
        yield store


def auditor_of(traffic: TrafficStore, max_waiting: int = 10_000, **teachers: FakeTeacher) -> Auditor:
    nodes = {name: Audited(teacher, lambda value, choices: None) for name, teacher in teachers.items()}
    return Auditor(
        DatabaseRolloutStore(traffic), traffic, nodes, max_waiting=max_waiting, clock=lambda: 1.8e9
    )


def offer(auditor: Auditor, node: str, n: int) -> None:
    for number in range(n):
        audit = Audit(f"{node}{number}", node, "b", 0, 1.8e9, 0.5, "linear", (), False)
        auditor.offer(audit, Ask(node, "hello"), "a")


def let_pass(auditor: Auditor, clock: Clock, seconds: float, step: float = 0.05) -> None:
    end = clock.now + seconds
    while clock.now < end:
        auditor.round()
        clock.now += step


def count(traffic: TrafficStore, table: str, where: str = "1 = 1") -> int:
    with traffic.database.reading() as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table} WHERE {where}").fetchone()[0])


def test_a_dead_teacher_is_probed_by_one_audit_at_a_time_and_ever_more_seldom(
    traffic: TrafficStore, clock: Clock
) -> None:
    teacher = FakeTeacher(DOWN)
    auditor = auditor_of(traffic, n=teacher)
    offer(auditor, "n", 500)
    let_pass(auditor, clock, 60)
    # All that may fly learn it at once; then after 0.5, 1, 2, 4, 8, 16 and 30 s.
    assert len(teacher.asked) == 8 + 6
    let_pass(auditor, clock, 300)
    assert len(teacher.asked) <= 8 + 6 + 11
    assert auditor.waiting == count(traffic, "audits", "status = 'waiting'") == 500
    assert count(traffic, "evidence") == auditor.counts.given_up == 0, "nobody is blamed"
    teacher.answer = Answer("a")
    let_pass(auditor, clock, PAUSE_MAX + 1)
    let_pass(auditor, clock, 5)
    assert auditor.waiting == 0
    assert count(traffic, "evidence") == auditor.counts.done == 500


def test_a_dead_teacher_that_hangs_holds_one_place_not_all(traffic: TrafficStore, clock: Clock) -> None:
    hanging, other = FakeTeacher(DOWN, hangs=True), FakeTeacher(Answer("a"))
    auditor = auditor_of(traffic, dead=hanging, alive=other)
    offer(auditor, "dead", 20)
    auditor.round()
    assert len(hanging.asked) == 8
    for future in list(hanging.asked):
        future.set_result(DOWN)
    let_pass(auditor, clock, 5)
    assert len(hanging.asked) == 9, "a probe, which hangs"
    offer(auditor, "alive", 20)
    let_pass(auditor, clock, 1)
    assert auditor.counts.done == 20


def test_the_audits_of_a_node_with_another_teacher_go_on(traffic: TrafficStore, clock: Clock) -> None:
    dead, other = FakeTeacher(DOWN), FakeTeacher(Answer("b"))
    auditor = auditor_of(traffic, dead=dead, alive=other)
    offer(auditor, "dead", 50)
    offer(auditor, "alive", 50)
    let_pass(auditor, clock, 2)
    assert count(traffic, "evidence", "node = 'alive'") == len(other.asked) == 50
    assert count(traffic, "evidence", "node = 'dead'") == 0


def test_the_queue_is_bounded_and_what_does_not_fit_is_counted(traffic: TrafficStore, clock: Clock) -> None:
    auditor = auditor_of(traffic, 100, n=FakeTeacher(DOWN))
    for _ in range(5):
        offer(auditor, "n", 60)
        let_pass(auditor, clock, 1)
    assert auditor.waiting <= 100
    assert auditor.counts.drawn + auditor.counts.dropped == 300
    assert auditor.counts.dropped >= 200
    assert count(traffic, "audits") <= 100


def test_a_teacher_that_answers_nonsense_is_there(traffic: TrafficStore, clock: Clock) -> None:
    teacher = FakeTeacher(Answer(error=RungError("no completion")))
    auditor = auditor_of(traffic, n=teacher)
    offer(auditor, "n", 4)
    let_pass(auditor, clock, 1)
    assert len(teacher.asked) == 4 * 3
    assert auditor.counts.given_up == 4
    assert count(traffic, "evidence") == 0, "and still nobody is blamed"


def test_the_teachers_own_hint_is_heeded_within_bounds() -> None:
    line = Line()
    line.down(10.0, retry_after=7.0)
    assert line.not_before == 17.0
    line.down(12.0, retry_after=None)
    assert line.not_before == 17.0, "one of several under way together"
    line.down(17.0, retry_after=1e9)
    assert line.not_before == 17.0 + PAUSE_MAX
