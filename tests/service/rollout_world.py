"""Engines on one database and one models folder, as workers are, and what tests do with them."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cascade.ask import Ask, Decided
from cascade.config import Config
from cascade.demo.bundle_copies import copy_bundle
from cascade.pointer import POINTER
from cascade.rollout.verbs import Verbs
from cascade.rungs.breaker import CircuitBreaker
from cascade.server.engine import Engine
from cascade.traffic import open_store
from tests.conftest import NODE
from tests.soon import comes

BAR = {"agreement": 0.8, "confidence": 0.95}
"""Far below what the bundle keeps, so that few audits prove it."""


class World:
    """Engines on one database and one models folder, as workers are."""

    def __init__(self, models: Path, configure: Callable[..., Config], path: Path) -> None:
        self.models = models
        self.path = path
        self._configure = configure
        self._open: list[Any] = []

    def config(self, **top: Any) -> Config:
        return self._configure(node={"bar": BAR}, **top)

    def worker(self, **top: Any) -> Engine:
        store = open_store(f"sqlite:///{self.path}")
        engine = Engine(self.config(**top), store, refresh_seconds=0)
        engine.nodes[NODE].teacher.breaker = CircuitBreaker()
        self._open += [engine, store]
        return engine

    def verbs(self, engine: Engine) -> Verbs:
        return Verbs(self.config(), engine.rollouts.store)

    def copy(self, number: int, wrong: float = 0.0) -> str:
        return copy_bundle(next(self.models.joinpath(NODE).glob("0001-*")), number, wrong)

    def unpoint(self) -> None:
        (self.models / NODE / POINTER).unlink()

    def flags(self, mode: str | None = None, bundle: str | None = None) -> None:
        def flag(value: str) -> dict[str, Any]:
            return {"state": "ENABLED", "variants": {"it": value}, "defaultVariant": "it"}

        named = {"mode": mode, "bundle": bundle}
        document = {"flags": {f"cascade.{NODE}.{k}": flag(v) for k, v in named.items() if v}}
        (self.path.parent / "flags.json").write_text(json.dumps(document))

    def close(self) -> None:
        for each in self._open:
            each.close()


def send(engine: Engine, unseen: list[dict[str, Any]], n: int, start: int = 0) -> list[Decided]:
    """Send requests, each of a session of its own."""
    picked = [unseen[i % len(unseen)] for i in range(start, start + n)]
    asks = [Ask(NODE, r["text"], context={"session": f"s{start + i}"}) for i, r in enumerate(picked)]
    results = engine.decide_many(asks)
    assert all(isinstance(r, Decided) for r in results), "a request failed"
    return [r for r in results if isinstance(r, Decided)]


def settle(engine: Engine, turns: int = 1500) -> None:
    """Let the background do its work until the audits are through."""
    for _ in range(turns):
        engine.rollouts.turn()
        if not engine.rollouts.auditor.waiting:
            break
        threading.Event().wait(0.02)
    engine.rollouts.turn()


def until(engine: Engine, unseen: list[dict[str, Any]], done: Callable[[], bool], rounds: int = 60) -> int:
    """Send traffic until something is so; give how many requests that took."""
    sent = 0
    for _ in range(rounds):
        if done():
            return sent
        send(engine, unseen, 100, sent)
        sent += 100
        settle(engine)
    raise AssertionError(f"not within {sent} requests: {engine.nodes[NODE].serving.describe()}")


def rows(world: World, query: str) -> list[tuple[Any, ...]]:
    import sqlite3

    with sqlite3.connect(world.path) as connection:
        return connection.execute(query).fetchall()


def until_changed(engine: Engine, done: Callable[[], bool]) -> None:
    assert comes(done), "the flags did not change"
