"""What two workers see of each other through the store they share."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cascade.ask import Ask
from cascade.config import Config
from cascade.errors import UnknownDecision
from cascade.server.decision_ids import new_decision_ids
from cascade.server.engine import Engine
from cascade.traffic import TrafficStore, open_store
from tests.conftest import NODE

LONG = 30.0
Worker = tuple[Engine, TrafficStore]


@pytest.fixture
def workers(
    models: Path, configure: Callable[..., Config], tmp_path: Path
) -> Iterator[tuple[Worker, Worker]]:
    made = []
    for _ in range(2):
        store = open_store(f"sqlite:///{tmp_path}/traffic.db")
        made.append((Engine(configure(), store, refresh_seconds=0), store))
    yield made[0], made[1]
    for engine, store in made:
        engine.close()
        store.close()


def test_a_request_id_that_one_worker_has_written_is_known_to_the_other(
    workers: tuple[Worker, Worker], unseen: list[dict[str, Any]]
) -> None:
    (first, store), (second, _) = workers
    ask = Ask(NODE, unseen[0]["text"], request_id="r-1")
    decided = first.decide(ask)
    assert store.flush(LONG)
    assert second.decide(ask).decision_id == decided.decision_id


def test_an_outcome_may_be_reported_to_another_worker_at_once(
    workers: tuple[Worker, Worker], unseen: list[dict[str, Any]]
) -> None:
    (first, _), (second, _) = workers
    for record in unseen[:10]:
        decided = first.decide(Ask(NODE, record["text"]))
        assert second.report(decided.decision_id, None, True, None)


def test_an_id_that_nobody_made_is_unknown(workers: tuple[Worker, Worker]) -> None:
    (first, _), _ = workers
    for unknown in ("x", "0" * 32, *new_decision_ids(1)):
        with pytest.raises(UnknownDecision):
            first.report(unknown, None, True, None)


def test_ids_sort_by_time_and_never_repeat_over_threads() -> None:
    seen: list[str] = []
    threads = [
        threading.Thread(target=lambda: [seen.extend(new_decision_ids(n)) for n in (1, 999, 400, 600)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({decision_id[16:] for decision_id in seen}) == 8000
    assert {len(decision_id) for decision_id in seen} == {32}
