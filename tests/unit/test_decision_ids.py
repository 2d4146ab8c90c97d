"""Ids of decisions: the random half, which nobody else may have."""

from __future__ import annotations

import os
import time

import pytest

from cascade.server.decision_ids import new_decision_ids


def test_no_random_bits_are_given_twice_whatever_the_sizes_of_batches() -> None:
    drawn = [id_ for n in (1, 32, 511, 512, 513, 2000, 1, 7, 256) * 3 for id_ in new_decision_ids(n)]
    assert {len(id_) for id_ in drawn} == {32}
    assert len({id_[16:] for id_ in drawn}) == len(drawn) == 3 * 3833
    assert drawn == sorted(drawn)
    assert abs(int(drawn[-1][:16], 16) / 1e9 - time.time()) < 5


@pytest.mark.parametrize("began", [0x18ECB0E83A1DC000, 0x18ECB0E83A1DCFFE, 0x18ECB0E83A1FFFFF])
@pytest.mark.parametrize("n", [1, 3, 256, 5000])
def test_a_nanosecond_lies_between_two_ids_of_a_batch(
    began: int, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: began)
    assert [int(id_[:16], 16) for id_ in new_decision_ids(n)] == list(range(began, began + n))


def test_a_fork_draws_other_bits_than_its_parent() -> None:
    new_decision_ids(1)  # more are there for the next ones
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writes, " ".join(new_decision_ids(100)).encode())
        finally:
            os._exit(0)
    os.close(writes)
    with os.fdopen(reads) as pipe:
        childs = {id_[16:] for id_ in pipe.read().split()}
    os.waitpid(child, 0)
    assert len(childs) == 100
    assert childs.isdisjoint(id_[16:] for id_ in new_decision_ids(600))
