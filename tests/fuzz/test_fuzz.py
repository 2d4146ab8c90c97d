"""A small part of `python -m benchmarks.fuzz`: every way in takes hostile input."""

from benchmarks.fuzz import SHARES, run


def test_hostile_input_never_crashes_and_never_gives_a_foreign_error() -> None:
    rows = run(cases=4000, seed=20261124)
    assert {row["target"] for row in rows} == set(SHARES)
    assert all(row["cases"] > 0 for row in rows)
