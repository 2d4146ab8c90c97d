"""Curation: one record a text, one label a record, groups that stay together."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.contract import Contract
from cascade.errors import RetrainRefused
from cascade.traffic import TrainingRecord
from cascade.traffic.records import Source
from training.curate import MAX_LABELS, NO_LABEL, curate
from training.split import split


def record(
    number: int,
    text: str,
    label: object,
    session: str | None = None,
    time: float | None = None,
    source: Source = "teacher",
) -> TrainingRecord:
    return TrainingRecord(f"r{number:05d}", text, None, label, source, session, time)  # type: ignore[arg-type]


def many(n: int, timed: bool = False) -> list[TrainingRecord]:
    words = [f"w{i}" for i in range(24)]
    rng = np.random.default_rng(0)
    return [
        record(
            i, " ".join(rng.choice(words, 7)) + f" {i}", f"label-{i % 3}", None, float(i) if timed else None
        )
        for i in range(n)
    ]


LABELS = Contract(labels=("a", "b"))


def test_exact_duplicates_up_to_case_and_spaces_become_one_record() -> None:
    found = curate(
        [record(1, "Hello  there", "a"), record(2, "hello there", "a"), record(3, "bye", "b")], LABELS
    )
    assert len(found) == 2
    assert found.counts.exact_duplicates == 1
    assert sorted(r.count for r in found.records) == [1, 2]


def test_the_majority_settles_a_contradiction_and_a_tie_drops_the_text() -> None:
    rows = [record(i, "same words here", label) for i, label in enumerate(["a", "a", "b"])]
    rows += [record(10 + i, "another text", label) for i, label in enumerate(["a", "b"])]
    found = curate(rows, LABELS)
    assert [r.label for r in found.records] == ["a"]
    assert found.counts.conflicts == 1


def test_what_breaks_the_contract_is_kept_as_what_no_rung_can_be_right_about() -> None:
    rows = [record(1, "one", "a"), record(2, "two", "c"), record(3, "three", {"x": 1})]
    found = curate([*rows, record(4, "one", "c")], LABELS)
    assert found.y.tolist() == [0, NO_LABEL, NO_LABEL]
    assert [r.label for r in found.records] == ["a", "c", '{"x": 1}']
    assert (found.counts.off_contract, found.counts.rare_labels, found.counts.exact_duplicates) == (2, 0, 1)


def test_labels_too_rare_to_learn_stay_and_both_sides_of_a_split_get_some() -> None:
    timed = many(400, timed=True) + [record(1000 + i, f"odd {i}", f"x{i}", time=4.0 * i) for i in range(100)]
    for rows in (timed, [replace(r, time=None) for r in timed]):
        found = curate(rows, None)
        assert (len(found), found.labels) == (500, ("label-0", "label-1", "label-2"))
        assert {r.label for r, y in zip(found.records, found.y, strict=True) if y == NO_LABEL} == {
            f"x{i}" for i in range(100)
        }
        assert found.counts.rare_labels == 100
        parts = split(found, 0.25)
        assert (found.y[parts.calibration] == NO_LABEL).mean() == pytest.approx(0.2, abs=0.05)


def test_a_session_too_big_to_keep_together_is_counted_with_its_records() -> None:
    rows = [replace(r, session="big") if i < 60 else r for i, r in enumerate(many(400))]
    rows = [replace(r, session=f"s{i // 5}") if i >= 60 else r for i, r in enumerate(rows)]
    counts = curate(rows, None).counts
    assert (counts.ignored_sessions, counts.ignored_session_records) == (1, 60)


def test_labels_without_end_are_refused_unless_those_that_count_are_listed() -> None:
    rows = [record(i, f"text {i}", "ab"[i % 2]) for i in range(8)]
    invented = [record(i, f"text {i}", f"x{i // 2}", source="outcome") for i in range(8, 8 + 2 * MAX_LABELS)]
    assert len(curate(rows + invented[: 2 * MAX_LABELS - 4], None).labels) == MAX_LABELS
    with pytest.raises(RetrainRefused, match=r"1,002 different labels, and at most 1,000 .* 'x1"):
        curate(rows + invented, None)
    found = curate(rows + invented, LABELS)
    assert (len(found), found.counts.off_contract) == (8 + 2 * MAX_LABELS, 2 * MAX_LABELS)
    assert ((found.y >= 0).sum(), found.labels) == (8, LABELS.labels)


def test_a_session_and_near_copies_are_one_group() -> None:
    rows = [
        record(1, "please send the parcel to my new address in oslo today", "a", session="s"),
        record(2, "totally different words about the weather", "a", session="s"),
        record(3, "where can i download the invoice of my last order from may", "b"),
        record(4, "where can i download the invoice of my last order from may!", "b"),
    ]
    found = curate(rows, LABELS)
    group = {r.text: g for r, g in zip(found.records, found.groups.tolist(), strict=True)}
    assert group[rows[0].text] == group[rows[1].text]
    assert group[rows[2].text] == group[rows[3].text]
    assert group[rows[0].text] != group[rows[2].text]


def test_the_order_of_records_does_not_matter() -> None:
    rows = many(200)
    one, other = curate(rows, None), curate(rows[::-1], None)
    assert one.dataset_hash == other.dataset_hash
    assert one.texts == other.texts
    assert one.groups.tolist() == other.groups.tolist()


@given(
    st.lists(
        st.tuples(
            st.text("xyz ", min_size=1, max_size=9), st.sampled_from("abc"), st.sampled_from([None, "s"])
        ),
        min_size=1,
        max_size=40,
    )
)
def test_every_record_is_accounted_for(rows: list[tuple[str, str, str | None]]) -> None:
    found = curate([record(i, *row) for i, row in enumerate(rows)], LABELS)
    c = found.counts
    assert c.seen == len(rows)
    assert c.kept == len(found)
    # a contradiction is a text: the records beyond its first are exact duplicates
    assert c.seen == c.kept + c.exact_duplicates + c.conflicts
    assert (found.y == NO_LABEL).sum() == c.off_contract + c.rare_labels


def test_a_split_by_time_certifies_on_the_newest() -> None:
    found = curate(many(400, timed=True), None)
    parts = split(found, 0.25)
    assert parts.how == "time"
    times = np.array([r.time for r in found.records])
    assert times[parts.train].max() < times[parts.calibration].min()
    assert parts.boundary_time == times[parts.calibration].min()


def test_without_times_labels_keep_their_shares_and_the_seed_decides() -> None:
    found = curate(many(600), None)
    parts = split(found, 0.2, seed=3)
    assert parts.how == "stratified"
    shares = np.bincount(found.y[parts.calibration]) / len(parts.calibration)
    assert shares == pytest.approx(np.bincount(found.y) / len(found), abs=0.03)
    assert split(found, 0.2, seed=3).calibration.tolist() == parts.calibration.tolist()
    assert split(found, 0.2, seed=4).calibration.tolist() != parts.calibration.tolist()


@given(st.integers(0, 5), st.integers(10, 60))
def test_no_group_is_on_both_sides(seed: int, n: int) -> None:
    rows = [
        record(i, f"text number {i} {'x' * (i % 7)}", "ab"[i % 2], session=f"s{i // 3}" if i % 4 else None)
        for i in range(n)
    ]
    found = curate(rows, LABELS)
    parts = split(found, 0.3, seed=seed)
    assert not set(found.groups[parts.train]) & set(found.groups[parts.calibration])
    assert sorted([*parts.train, *parts.calibration]) == list(range(len(found)))


def test_too_few_texts_to_split_are_refused() -> None:
    found = curate([record(1, "one", "a"), record(2, "two", "b")], LABELS)
    with pytest.raises(RetrainRefused, match="too few"):
        split(found, 0.5, min_calibration=5)
