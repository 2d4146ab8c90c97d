"""What the shared state of rollouts promises, on SQLite and on a real PostgreSQL alike."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cascade.errors import StoreError
from cascade.rollout.database_store import DatabaseRolloutStore
from cascade.rollout.records import BROKEN, Audit, AuditResult, Report, SavedGuard, ShadowRun
from cascade.rollout.state import Event
from cascade.traffic import TrafficStore, open_store

NODE, OLD, NEW = "node", "0001-aaaaaaaa", "0002-bbbbbbbb"


@pytest.fixture(params=["sqlite", "postgresql"])
def traffic(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TrafficStore]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/traffic.db"
    else:
        url = request.getfixturevalue("new_postgres")()
    store = open_store(url)
    yield store
    store.close()


@pytest.fixture
def store(traffic: TrafficStore) -> DatabaseRolloutStore:
    return DatabaseRolloutStore(traffic)


def event(seq: int, what: Any = "start", **data: Any) -> Event:
    return Event(NODE, seq, 1e9 + seq, "ada", what, "because", NEW, data)


def audit(id_: str, **more: Any) -> Audit:
    return replace(Audit(id_, NODE, OLD, 2, 1e9, 0.25, "linear", ("label=a",)), **more)


def done(id_: str, right: bool | None = True, **more: Any) -> AuditResult:
    return replace(AuditResult(audit(id_), 1e9 + 5, "a", right, 0.001, 10, 2), **more)


def test_events_come_back_as_they_were_written_in_order(store: DatabaseRolloutStore) -> None:
    events = [event(1, stable=OLD, shares=[0, 1, 100]), event(2, "hold"), event(3, "rollback")]
    assert [store.append(e) for e in events] == [True, True, True]
    assert store.events(NODE) == events
    assert store.events(NODE, after=2) == events[2:]
    assert store.events("other") == []
    assert store.heads() == {NODE: 3}


def test_of_many_who_write_at_one_place_one_wins_and_gaps_are_refused(store: DatabaseRolloutStore) -> None:
    with ThreadPoolExecutor(6) as pool:
        won = list(pool.map(lambda i: store.append(replace(event(1), who=f"w{i}")), range(6)))
    assert sum(won) == 1
    assert len(store.events(NODE)) == 1
    assert not store.append(event(3))
    assert not store.append(event(1))


def test_an_audit_goes_from_waiting_to_evidence_once(store: DatabaseRolloutStore) -> None:
    store.add_audits([audit("d1"), audit("d2")], "me", 2e9)
    store.add_audits([audit("d1", rung="other")], "you", 3e9)
    assert store.audits_waiting(NODE) == 2
    store.finish_audits([done("d1"), done("d2", right=False)])
    store.finish_audits([done("d1", right=False)])
    assert store.audits_waiting(NODE) == 0
    found = store.evidence(NODE, OLD, after=0)
    assert [(e.decision_id, e.right, e.propensity, e.step, e.slices, e.source) for e in found] == [
        ("d1", True, 0.25, 2, ("label=a",), "audit"), ("d2", False, 0.25, 2, ("label=a",), "audit"),
    ]  # fmt: skip
    assert found[0].seq < found[1].seq
    assert store.evidence(NODE, OLD, after=found[0].seq) == found[1:]
    assert store.audit_spending(NODE, 1e9) == (pytest.approx(0.002), 2)
    assert store.audit_spending(NODE, 1e9 + 6) == (0.0, 0)


def test_a_given_up_audit_is_no_evidence_but_costs_what_it_cost(store: DatabaseRolloutStore) -> None:
    store.add_audits([audit("d1")], "me", 2e9)
    store.finish_audits([done("d1", right=None, error="the teacher refused")])
    assert store.evidence(NODE, OLD, after=0) == []
    assert store.audits_waiting(NODE) == 0
    assert store.audit_spending(NODE, 0.0)[0] == pytest.approx(0.001)


def test_an_audit_without_a_verdict_is_kept_as_such_and_no_caller_gives_one(
    store: DatabaseRolloutStore,
) -> None:
    store.add_reports([Report("d2", NODE, OLD, 1e9, False), Report("d3", NODE, OLD, 1e9, True)])
    store.add_audits([audit("d1"), audit("d2"), audit("d3")], "me", 2e9)
    store.finish_audits([done(d, right=None, error=BROKEN, answered=True) for d in ("d1", "d2", "d3")])
    assert [(e.decision_id, e.right, e.source) for e in store.evidence(NODE, OLD, after=0)] == [
        ("d1", False, "no-verdict"),
        ("d2", False, "no-verdict"),
        ("d3", False, "no-verdict"),
    ]
    assert store.audit_spending(NODE, 0.0) == (pytest.approx(0.003), 3)


def test_only_audits_whose_lease_ended_are_taken_over_and_by_one(store: DatabaseRolloutStore) -> None:
    store.add_audits([audit("d1"), audit("d2")], "dead", 100.0)
    store.add_audits([audit("d3")], "alive", 1000.0)
    with ThreadPoolExecutor(4) as pool:
        took = list(pool.map(lambda i: store.claim_audits([NODE], f"heir{i}", 200.0, 300.0, 10), range(4)))
    assert sorted(a.decision_id for each in took for a in each) == ["d1", "d2"]
    store.renew_audits("alive", 2000.0)
    assert store.claim_audits([NODE], "heir", 1500.0, 1600.0, 1)[0] in (audit("d1"), audit("d2"))


@pytest.mark.parametrize(
    ("teacher", "reports", "right"),
    [
        (True, [True, False], False), (True, [False, True], True), (True, [True], True), (True, [], True),
        (False, [True], False), (False, [False, True], False), (False, [False], False),
    ],
)  # fmt: skip
def test_a_report_turns_right_into_wrong_and_never_wrong_into_right(
    traffic: TrafficStore, store: DatabaseRolloutStore, teacher: bool, reports: list[bool], right: bool
) -> None:
    store.add_reports([Report("d1", NODE, OLD, 1e9, said) for said in reports])
    store.add_audits([audit("d1")], "me", 2e9)
    store.finish_audits([done("d1", right=teacher)])
    assert [e.right for e in store.evidence(NODE, OLD, after=0)] == [right]
    with traffic.database.reading() as connection:
        ((kept,),) = connection.execute("SELECT is_right FROM audits").fetchall()
    assert bool(kept) == teacher, "the audit keeps what the teacher said"


@pytest.mark.parametrize("first", ["shadows", "audits"])
def test_what_a_candidate_answered_beside_an_audit_is_evidence_on_it(
    store: DatabaseRolloutStore, first: str
) -> None:
    run = ShadowRun("d1", NODE, NEW, 0, 1e9, "b", "encoder", 0.9, 1.0, ("label=b",), life=7)
    runs = [run, replace(run, decision_id="d2", rung="", answer=None)]
    runs += [replace(run, decision_id=f"d{n}") for n in (3, 4, 5)]
    runs += [replace(run, decision_id="d6", answer="a"), replace(run, decision_id="d7", bundle=OLD)]

    def run_beside() -> None:
        store.add_shadows(runs)

    def finish() -> None:
        audits = {n: audit(f"d{n}", life=3) for n in range(1, 8)}
        store.add_audits(list(audits.values()), "me", 2e9)
        broken: dict[str, Any] = {"right": None, "error": BROKEN}
        store.finish_audits([
            done("d1", audit=audits[1]), done("d2", audit=audits[2]),
            done("d3", audit=audits[3], answered=True, **broken), done("d4", audit=audits[4], **broken),
            done("d6", audit=audits[6], right=False), done("d7", audit=audits[7]),
        ])  # fmt: skip

    # Which of the two is written first is a matter of who was quicker, and chooses nothing.
    for write in (run_beside, finish) if first == "shadows" else (finish, run_beside):
        assert store.evidence(NODE, NEW, after=0) == []
        write()
    found = store.evidence(NODE, NEW, after=0)
    assert [
        (e.decision_id, e.right, e.propensity, e.step, e.source, e.time, e.slices, e.life) for e in found
    ] == [
        ("d1", False, 0.25, 0, "audit", 1e9 + 5, ("label=b",), 7),
        ("d3", False, 0.25, 0, "no-verdict", 1e9 + 5, ("label=b",), 7),
        ("d6", True, 0.25, 0, "audit", 1e9 + 5, ("label=b",), 7),
    ]  # fmt: skip
    assert [(e.decision_id, e.life) for e in store.evidence(NODE, OLD, after=0)] == [
        ("d1", 3), ("d2", 3), ("d3", 3), ("d6", 3), ("d7", 3),
    ]  # fmt: skip


def test_a_shadow_run_beside_the_teacher_is_evidence_at_once(store: DatabaseRolloutStore) -> None:
    run = ShadowRun("d1", NODE, NEW, 0, 1e9, "b", "encoder", right=True, propensity=1.0, life=7)
    store.add_shadows([run, run, replace(run, decision_id="d2", propensity=0.0)])
    found = store.evidence(NODE, NEW, after=0)
    assert [(e.decision_id, e.source, e.life) for e in found] == [("d1", "shadow", 7)]


def test_a_guards_state_only_goes_forward(store: DatabaseRolloutStore) -> None:
    assert store.guard(NODE, NEW) is None
    store.save_guard(SavedGuard(NODE, NEW, 10, {"wealth": [1.5]}))
    store.save_guard(SavedGuard(NODE, NEW, 7, {"wealth": [0.5]}))
    assert store.guard(NODE, NEW) == SavedGuard(NODE, NEW, 10, {"wealth": [1.5]})


def test_after_the_store_is_closed_it_says_so(traffic: TrafficStore, store: DatabaseRolloutStore) -> None:
    traffic.close()
    calls: list[Callable[[], Any]] = [
        store.heads, lambda: store.append(event(1)), lambda: store.evidence(NODE, NEW, 0), store.marks,
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(StoreError, match="closed"):
            call()
