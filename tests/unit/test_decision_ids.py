"""Ids of decisions: the random half, which nobody else may have."""

from __future__ import annotations

import os
import time

from cascade.server.decision_ids import new_decision_ids


def test_no_random_bits_are_given_twice_whatever_the_sizes_of_batches() -> None:
    drawn = [id_ for n in (1, 32, 511, 512, 513, 2000, 1, 7, 256) * 3 for id_ in new_decision_ids(n)]
    assert {len(id_) for id_ in drawn} == {32}
    assert len({id_[16:] for id_ in drawn}) == len(drawn) == 3 * 3833
    assert [int(id_[:16], 16) for id_ in drawn] == sorted(int(id_[:16], 16) for id_ in drawn)
    assert abs(int(drawn[-1][:16], 16) / 1e9 - time.time()) < 5


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
