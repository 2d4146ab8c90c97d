"""A running HTTP side, as tests of the gateway and the page use it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openai

from cascade.config import Config
from cascade.observe.open import Observing
from cascade.rungs.breaker import CircuitBreaker
from cascade.server.engine import Engine
from cascade.server.gate import open_gate
from cascade.server.http import HttpSide
from cascade.server.pool import ElasticPool
from cascade.traffic import TrafficStore
from cascade.traffic.records import Call
from tests.conftest import NODE

Configure = Callable[..., Config]


SYSTEM = {"role": "system", "content": "You name the intent of a customer's message. One word."}


FORMAT = {
    "type": "json_schema",
    "json_schema": {
        "name": "intent",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"intent": {"type": "string"}},
            "required": ["intent"],
            "additionalProperties": False,
        },
    },
}


CHATTER = {"role": "user", "content": "write a poem about parcels"}


class Side:
    """A running HTTP side and what belongs to it."""

    def __init__(self, config: Config, store: TrafficStore, observing: Observing | None = None) -> None:
        self.store, self.config = store, config
        gate = open_gate(config)
        self.engine = Engine(config, store, refresh_seconds=0, quotas=gate.quotas)
        for node in self.engine.nodes.values():
            node.teacher.breaker = CircuitBreaker()
        self.pool = ElasticPool(4, 64)
        self.http = HttpSide(config, self.engine, store, self.pool, "127.0.0.1:0", gate, observing)
        self.url = f"http://127.0.0.1:{self.http.start()}"
        self.client = openai.OpenAI(base_url=f"{self.url}/v1", api_key="agents-own-key", max_retries=0)

    def close(self) -> None:
        self.client.close()
        self.http.stop()
        self.engine.close()
        self.pool.shutdown(wait=False)

    def ask(self, text: str, **more: Any) -> Any:
        messages = [SYSTEM, {"role": "user", "content": text}]
        more = {"model": f"cascade/{NODE}", "messages": messages} | more
        return self.client.chat.completions.with_raw_response.create(**more)

    def calls(self) -> list[Call]:
        assert self.store.flush(10)
        return list(self.store.calls())


def settled_and_escalated(side: Side, unseen: list[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    by = {}
    for record in unseen:
        by.setdefault(side.ask(record["text"]).headers["x-cascade-served-by"], record)
        if len(by) == 2:
            return by["ladder"], by["frontier"]
    raise AssertionError("the sample holds both")
