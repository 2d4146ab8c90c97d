"""The guard on the real service: a poisoned bundle is pulled back by itself, and no request fails."""

from benchmarks.guard_live import Case, run


def test_a_poisoned_bundle_is_rolled_back_by_itself_and_no_request_fails() -> None:
    found = run(Case("a third of the labels swapped", 0.34, 25))
    assert found["failed"] == 0, found["failures"]
    assert found["rolled back"]
    assert "disagreed with the teacher" in found["reason"]
    assert found["of them wrong"] > 0, "the bundle was not poisoned"
    assert found["served at the end"].startswith("0001-")
