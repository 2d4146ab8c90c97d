"""What is said beside a verdict: tries on the same held-out records."""

from typing import Any

from training.caveats import caveats, refused_on_same
from training.journal import Retraining


def entry(version: str = "", until: float | None = None) -> Retraining:
    return Retraining(0.0, version, 1000, 1.0, 0.0, until)


def manifest(held_out_from: float | None = 100.0, **records: int) -> dict[str, Any]:
    return {
        "certificate": {"delta": 0.05},
        "dataset": {"held_out_from": held_out_from, "records": {"kept": 1000} | records},
    }


def test_refused_tries_count_from_the_last_certificate_on() -> None:
    before = [entry(until=150.0), entry("0001-a", until=150.0), entry(until=150.0), entry(until=160.0)]
    assert refused_on_same(before, 100.0) == 2
    assert refused_on_same(before[:2], 100.0) == 0
    assert refused_on_same([], 100.0) == 0


def test_a_try_whose_held_out_records_are_all_older_than_these_does_not_count() -> None:
    assert refused_on_same([entry(until=99.0), entry(until=100.0)], 100.0) == 1


def test_where_times_do_not_say_any_held_out_record_may_be_the_same() -> None:
    assert refused_on_same([entry(until=None)], 100.0) == 1
    assert refused_on_same([entry(until=1.0)], None) == 1


def test_the_third_try_is_named_with_what_is_known_of_all_three() -> None:
    (line,) = caveats(manifest(), [entry(until=150.0)] * 2)
    assert line.startswith("This was try 3 on held-out records that may overlap, after 2 refused ones")
    assert line.endswith("at most 15%.")
    assert caveats(manifest(), []) == []


def test_a_bundle_of_an_older_release_has_no_caveats_and_its_journal_is_read() -> None:
    old = {"certificate": {"delta": 0.05}}
    assert caveats(old, []) == []
    line = {"time": 1.0, "version": "", "records": 1, "seconds": 2.0, "usd": 0.1}
    assert Retraining(**line).held_out_until is None  # type: ignore[arg-type]


def test_one_session_and_several_are_counted_with_their_share() -> None:
    (one,) = caveats(manifest(ignored_sessions=1, ignored_session_records=60))
    assert one.startswith("1 session holds 6.0% (60 of 1,000) of the distinct records, too many to be kept")
    (more,) = caveats(manifest(ignored_sessions=2, ignored_session_records=900))
    assert "so they stand among training and held-out records alike" in more
