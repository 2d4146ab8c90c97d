"""What every traffic store gives back for training and reading, on SQLite and on a real PostgreSQL alike."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from traffic_records import decision, outcome

from cascade.rollout.database_store import DatabaseRolloutStore
from cascade.rollout.records import Audit, AuditResult
from cascade.traffic import Call, Labelled, sql_store
from cascade.traffic.sql_store import SqlStore
from tests.service.store_places import Place


@pytest.fixture
def store(place: Place) -> Iterator[SqlStore]:
    with place.open() as opened:
        yield opened


def test_import_is_whole_or_not_at_all(store: SqlStore) -> None:
    one, two = Labelled("n", "1", "a", None, "x"), Labelled("n", "2", "b", None, None, "s", 3.0)
    count = store.import_labelled([one, two, replace(one, node="m")])
    assert (count.added, count.already_there) == (3, 0)
    count = store.import_labelled([replace(one, output="changed"), replace(one, id="3")])
    assert (count.added, count.already_there) == (1, 1)
    assert [(r.id, r.output) for r in store.training_records("n")] == [("1", "x"), ("3", "x"), ("2", None)]
    with pytest.raises(ValueError, match="Out of range"):
        store.import_labelled([replace(one, id="4"), replace(one, id="5", output=float("nan"))])
    with pytest.raises(ValueError, match="surrogates"):
        store.import_labelled([replace(one, id="4"), replace(one, id="5", text="\ud800")])
    assert store.counts("n")["imported"] == 3


def audited(store: SqlStore, answers: dict[str, str]) -> None:
    """Have decisions audited, one in four of which was drawn; the teacher says `answers`."""
    audits = [Audit(id_, "n", "v1", 4, 1.0, 0.25, "linear") for id_ in answers]
    shared = DatabaseRolloutStore(store)
    shared.add_audits(audits, "me", 9e9)
    shared.finish_audits(
        [AuditResult(a, 2.0, answers[a.decision_id], answers[a.decision_id] == "l") for a in audits]
    )


def test_reports_bring_no_settled_answer_into_training_and_take_no_audited_one_out(store: SqlStore) -> None:
    """Else truthful thumbs up and down would leave held-out records right more often than the traffic."""
    said = {"up": True, "down": False, "none": None}
    for id_ in said:
        for kind in ("right", "wrong", "unaudited"):
            store.record(decision(f"{kind}-{id_}", output="l"))
    assert store.flush()
    audited(store, {f"{kind}-{id_}": a for kind, a in (("right", "l"), ("wrong", "t")) for id_ in said})

    def known() -> list[tuple[Any, ...]]:
        return [(r.id, r.output, r.source, r.propensity) for r in store.training_records("n")]

    before = known()
    assert before == sorted(
        (f"{kind}-{id_}", answer, "teacher", 0.25)
        for kind, answer in (("right", "l"), ("wrong", "t")) for id_ in said
    )  # fmt: skip
    for kind in ("right", "wrong", "unaudited"):
        for id_, right in said.items():
            store.report(outcome(f"{kind}-{id_}", f"{kind}-{id_}", right=right)).result(10)
    assert known() == before
    # What names the right answer replaces the teacher's, and not how the record came to be known.
    for kind in ("wrong", "unaudited"):
        store.report(outcome(f"label-{kind}", f"{kind}-up", output="c")).result(10)
    assert known() == [
        ("wrong-up", "c", "outcome", 0.25) if r[0] == "wrong-up" else r for r in before
    ]  # fmt: skip


def test_training_records(store: SqlStore) -> None:
    chat = (("user", "u"), ("assistant", "a"))
    decisions = [
        decision("teacher", time=9.0, by_teacher=True, output="t", text=None, messages=chat),
        decision("teacher-failed", by_teacher=True, output=None, error="no answer"),
        decision("failed-right", by_teacher=True, output=None, error="no answer"),
        decision("local", output="l"),
        decision("local-right", time=8.0, output="l", context={}),
        decision("local-corrected", time=8.0, output="l"),
        decision("teacher-corrected", time=7.0, by_teacher=True, output="t"),
        decision("teacher-wrong", by_teacher=True, output="t"),
        decision("wrong-then-right", time=6.0, output="l"),
        decision("says-nothing", time=5.0, by_teacher=True, output="t"),
        decision("teacher-confirmed", time=4.0, by_teacher=True, output="t"),
        decision("failed-corrected", by_teacher=True, output=None, error="no answer"),
        decision("elsewhere", node="m", by_teacher=True),
    ]
    for each in decisions:
        store.record(each)
    reports = [
        outcome("1", "local-right", right=True),
        outcome("2", "local-corrected", output=["c"], right=False),
        outcome("3", "teacher-corrected", output=0),
        outcome("4", "teacher-wrong", right=False),
        outcome("5", "wrong-then-right", right=False),
        outcome("6", "wrong-then-right", right=True),
        outcome("7", "wrong-then-right"),
        outcome("8", "says-nothing"),
        outcome("9", "failed-right", right=True),
        outcome("10", "teacher-confirmed", right=True),
        outcome("11", "failed-corrected", output="l"),
    ]
    for report in reports:
        store.report(report)
    assert store.flush()
    store.import_labelled(
        [Labelled("n", "z", "imported", None, "i"), Labelled("n", "y", None, chat, "i", "q", 8.0)]
    )
    records = store.training_records("n")
    assert [(r.id, r.output, r.source, r.session, r.time) for r in records] == [
        ("z", "i", "import", None, None),
        ("teacher-wrong", "t", "teacher", "s", 1.0),
        ("teacher-confirmed", "t", "outcome", "s", 4.0),
        ("says-nothing", "t", "teacher", "s", 5.0),
        ("teacher-corrected", 0, "outcome", "s", 7.0),
        ("y", "i", "import", "q", 8.0),
        ("teacher", "t", "teacher", "s", 9.0),
    ]
    assert (records[-1].text, records[-1].messages) == ("user: u\nassistant: a", chat)
    assert (records[0].text, records[0].messages) == ("imported", None)
    assert store.counts("n") == {
        "decisions": 12,
        "by_teacher": 8,
        "errors": 3,
        "outcomes": 11,
        "imported": 2,
    }
    times = store.last_times("n")
    assert (times["decision"], times["outcome"]) == (9.0, 5.0)
    assert times["import"] is not None
    assert store.last_times("none") == {"decision": None, "outcome": None, "import": None}
    assert store.counts("none")["by_teacher"] == 0


def test_decisions_are_read_by_node_and_window_oldest_first(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_store, "_PAGE", 3)
    for number, time in enumerate([5.0, 3.0, 3.0, 3.0, 3.0, 4.0, 1.0]):
        store.record(decision(f"d{number}", time=time))
    store.record(decision("elsewhere", node="m", time=3.0))
    assert store.flush()
    found = list(store.decisions("n"))
    assert [d.decision_id for d in found] == ["d6", "d1", "d2", "d3", "d4", "d5", "d0"]
    assert found[-1] == decision("d0", time=5.0)
    assert [d.decision_id for d in store.decisions("n", since=4.0)] == ["d5", "d0"]
    assert [d.decision_id for d in store.decisions("n", since=1.0, until=3.0)] == ["d6"]
    assert list(store.decisions("n", since=9.0)) == list(store.decisions("none")) == []


def test_calls_come_back_as_they_were(store: SqlStore) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    full = Call(
        "c1", 2.0, "t", "n", "big", [{"role": "user", "content": "hé"}], [tool], {"type": "json_object"},
        {"role": "assistant", "content": "{}"}, {"session": "s"}, 0.5, 7, 8, 9.5,
    )  # fmt: skip
    bare = Call("c2", 1.0, None, None, "big", [], None, None, None, error="timeout")
    for each in (full, bare, replace(full, model="again"), replace(full, call_id="bad", usd=float("nan"))):
        store.record_call(each)
    assert store.flush()
    assert list(store.calls()) == [bare, full]
    assert list(store.calls(since=2.0)) == [full]
    assert store.stats().failed == 1


def test_a_sample_of_a_bundles_decisions_is_drawn_by_the_end_of_their_ids(store: SqlStore) -> None:
    ids = [f"{7 - i:016x}{key * 16}" for i, key in enumerate("f0a918")]
    store.record(*(decision(id_, time=float(i), bundle_version="v1") for i, id_ in enumerate(ids)))
    store.record(decision("9" * 32, time=2.0, bundle_version="v2"), decision("8" * 32, time=2.0, node="m"))
    assert store.flush(10)
    sampled = store.sampled_decisions

    def read(*given: Any) -> list[str]:
        return [found.decision_id[-1] for found in sampled("n", "v1", *given)]

    assert read(0.0, 6.0, 9) == list("f0a918")
    assert read(0.0, 6.0, 3) == list("018")
    assert read(1.0, 4.0, 2) == list("09")
    assert read(6.0, 9.0, 2) == []
    assert store.last_decision_time("n", 5.0) == 4.0
    assert store.last_decision_time("n", 0.0) is None
