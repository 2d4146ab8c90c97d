"""The routes of the OpenAI-compatible side."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from starlette.routing import Route

from cascade.config import ChatRungConfig, Config
from cascade.gateway.chat import ChatCompletions
from cascade.gateway.load import Load
from cascade.gateway.passing import Models, Passing
from cascade.gateway.upstream import Upstream
from cascade.server.deciding import Deciding
from cascade.server.gate import Gate
from cascade.server.pool import ElasticPool
from cascade.traffic.records import Call

if TYPE_CHECKING:
    from cascade.observe.open import Observing


_BODIES = 16
"""How many bodies of the largest size are held at once."""


class Gateway:
    """The OpenAI-compatible side of a service.

    Parameters
    ----------
    config : Config
        With an `http` section.
    engine : Deciding
    pool : ElasticPool
        Decides.
    told : callable
        Takes each captured call; must not raise.
    gate : Gate
    observing : Observing, optional
    """

    def __init__(
        self,
        config: Config,
        engine: Deciding,
        pool: ElasticPool,
        told: Callable[[Call], None],
        gate: Gate,
        observing: Observing | None = None,
    ) -> None:
        assert config.http is not None
        chats = {name: rung for name, rung in config.rungs.items() if isinstance(rung, ChatRungConfig)}
        default = config.http.upstream or next(iter(chats))
        self._upstreams = {
            # A key of ours is no key for the upstream.
            name: Upstream(name, rung, config.http.timeout_seconds, own_key=gate.open)
            for name, rung in chats.items()
        }
        metrics = observing.metrics if observing else None
        http = config.http
        self.load = Load(
            http.max_in_flight,
            _BODIES * http.max_body_bytes,
            (lambda: metrics.served(None, "nobody")) if metrics else (lambda: None),
        )
        """Bounds what is under way; goes around the application."""
        load = self.load
        chat = ChatCompletions(config, engine, pool, self._upstreams, default, told, gate, load, observing)
        models = Models(self._upstreams[default], list(config.nodes), gate)
        passing = Passing(self._upstreams[default], http.max_body_bytes, gate, load)
        methods = ["GET", "POST", "DELETE", "PUT", "PATCH"]
        self.routes = [
            Route("/v1/chat/completions", chat.complete, methods=["POST"]),
            Route("/v1/models", models.listed, methods=["GET"]),
            Route("/v1/{path:path}", passing.pass_on, methods=methods),
        ]

    async def aclose(self) -> None:
        """Close the connections to the upstreams."""
        for upstream in self._upstreams.values():
            await upstream.aclose()
