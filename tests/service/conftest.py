"""Parts that the service tests share: store, engine, a frontier that also chats, an HTTP side, workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cascade.ask import Ask
from cascade.config import Config
from cascade.demo.frontier import SimulatedFrontier
from cascade.server.engine import Engine
from cascade.traffic import TrafficStore, open_store
from tests.conftest import NODE
from tests.gateway_side import CHATTER, Configure, Side
from tests.service.fake_engine import Running
from tests.service.following_service import FollowingService
from tests.service.rollout_world import World
from tests.service.store_places import Place, PostgresPlace, SqlitePlace
from tests.service.worker_processes import LONG, Service


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TrafficStore]:
    opened = open_store(f"sqlite:///{tmp_path}/traffic.db")
    yield opened
    opened.close()


@pytest.fixture
def engine(models: Path, configure: Configure, store: TrafficStore) -> Iterator[Engine]:
    made = Engine(configure(), store, refresh_seconds=0)
    yield made
    made.close()


@pytest.fixture
def by_rung(engine: Engine, unseen: list[dict[str, Any]]) -> dict[str, str]:
    """A text that each rung settles."""
    texts: dict[str, str] = {}
    for record in unseen[:120]:
        texts.setdefault(engine.decide(Ask(NODE, record["text"])).rung, record["text"])
    assert set(texts) == {"linear", "encoder", "frontier"}
    return texts


@pytest.fixture
def chatty(unseen: list[dict[str, Any]]) -> Iterator[SimulatedFrontier]:
    answers = {record["text"]: record["label"] for record in unseen}
    with SimulatedFrontier(answers | {CHATTER["content"]: "Roses are red, parcels are brown."}) as server:
        yield server


@pytest.fixture
def start(
    models: Path, configure: Configure, store: TrafficStore, chatty: SimulatedFrontier
) -> Iterator[Callable[..., Side]]:
    sides: list[Side] = []

    def make(
        chat: dict[str, Any] | None = None, http: dict[str, Any] | None = None, **overrides: Any
    ) -> Side:
        chat = {"base_url": chatty.url} | (chat or {})
        config = configure(chat=chat, http={"listen": "127.0.0.1:0"} | (http or {}), **overrides)
        sides.append(Side(config, store))
        return sides[-1]

    yield make
    for side in sides:
        side.close()


@pytest.fixture
def world(models: Path, configure: Configure, tmp_path: Path) -> Iterator[World]:
    made = World(models, configure, tmp_path / "traffic.db")
    yield made
    made.close()


@pytest.fixture(scope="module")
def shared():
    running = Running()
    yield running
    running.close()


@pytest.fixture
def own():
    made = []

    def make(**config):
        made.append(Running(**config))
        return made[-1]

    yield make
    for running in made:
        running.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "sqlite":
        return SqlitePlace(tmp_path / "traffic.db")
    new_schema: Callable[[], str] = request.getfixturevalue("new_postgres")
    return PostgresPlace(new_schema())


@pytest.fixture
def document(configure: Callable[..., Config], models: Path, tmp_path: Path) -> dict[str, Any]:
    config = configure(store=f"sqlite:///{tmp_path}/traffic.db", models=str(models))
    document: dict[str, Any] = config.model_dump(mode="json", by_alias=True, exclude_none=True)
    document["nodes"][NODE]["contract"] = {"labels": "from-traffic"}
    return document


@pytest.fixture
def serve(document: dict[str, Any], tmp_path: Path) -> Iterator[Callable[[int], Service]]:
    started: list[Service] = []

    def start(workers: int) -> Service:
        started.append(Service(tmp_path, document, workers))
        return started[-1]

    yield start
    for service in started:
        service.process.kill()
        service.process.wait(LONG)


@pytest.fixture
def following(
    models: Path, configure: Configure, tmp_path: Path
) -> Iterator[Callable[..., FollowingService]]:
    running: list[FollowingService] = []

    def make(**top: Any) -> FollowingService:
        config = configure(rollout={"poll_seconds": 0.05, "audit": {"daily_usd": 0.0}}, **top)
        running.append(FollowingService(config, f"sqlite:///{tmp_path}/traffic.db"))
        return running[-1]

    yield make
    for each in running:
        each.close()
