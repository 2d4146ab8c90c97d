"""A call that was answered is over: work that goes on because of it must not keep its stream open.

gRPC's core refuses new calls of a connection (REFUSED_STREAM) that has more streams alive than the server
allows, and a stream is alive for as long as any object of Python holds on to its call.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cascade.client import Client, Decision
from cascade.config import Config
from cascade.config.server import ServerConfig
from cascade.demo.frontier import SimulatedFrontier
from cascade.server.engine import Engine
from cascade.server.serve import CascadeServer
from cascade.traffic import open_store
from tests.conftest import NODE

STREAMS = 16


@pytest.fixture
def slow_frontier(unseen: list[dict[str, Any]]) -> Iterator[SimulatedFrontier]:
    """One that never answers, so that audits pile up."""
    with SimulatedFrontier({r["text"]: r["label"] for r in unseen}) as server:
        server.faults.timeout_rate = 1.0
        yield server


@pytest.fixture
def client(
    models: Path, configure: Callable[..., Config], slow_frontier: SimulatedFrontier, tmp_path: Path
) -> Iterator[Client]:
    config = configure(
        chat={"base_url": slow_frontier.url, "timeout_seconds": 30.0},
        rollout={"audit": {"ceiling": 1.0, "floor": 1.0}},
    )
    store = open_store(f"sqlite:///{tmp_path}/traffic.db")
    engine = Engine(config, store)
    server = CascadeServer(engine, "127.0.0.1:0", ServerConfig(max_streams_per_connection=STREAMS))
    with Client(f"127.0.0.1:{server.start()}") as connected:
        yield connected
    server.stop(0)
    engine.close()
    store.close()


def test_audits_that_wait_for_the_teacher_hold_no_stream(
    client: Client, unseen: list[dict[str, Any]], shipped: Path
) -> None:
    settled = unseen[0]["text"]
    assert client.decide(node=NODE, text=settled).rung != "frontier"
    for i in range(6 * STREAMS):
        decided = client.decide(node=NODE, text=settled, context={"session": f"s{i}"}, timeout=10)
        assert decided.rung != "frontier"


def test_batches_whose_items_are_audited_hold_no_stream(client: Client, unseen: list[dict[str, Any]]) -> None:
    for _ in range(4 * STREAMS):
        decided = client.batch_decide(node=NODE, texts=[unseen[0]["text"]] * 2, timeout=10)
        assert all(isinstance(d, Decision) and d.rung != "frontier" for d in decided)
