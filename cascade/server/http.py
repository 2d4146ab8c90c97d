"""The HTTP side of one server process: uvicorn in a thread of its own, beside the gRPC server."""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
import threading
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from cascade.config import Config
from cascade.errors import ConfigError
from cascade.gateway.cut import Cut
from cascade.gateway.routes import Gateway
from cascade.observe.rollouts import rollout_metrics
from cascade.page.routes import Page
from cascade.server.certificates import Certificates
from cascade.server.deciding import Deciding
from cascade.server.gate import Gate
from cascade.server.http_connections import bounded_connections
from cascade.server.pool import ElasticPool
from cascade.server.tls import http_context
from cascade.traffic.store import TrafficStore

if TYPE_CHECKING:
    from cascade.observe.open import Observing

_log = logging.getLogger(__name__)


class HttpSide:
    """Serves the OpenAI-compatible API, the page and the metrics over HTTP.

    Parameters
    ----------
    config : Config
        With an `http` section.
    engine : Deciding
    store : TrafficStore
        Takes captured calls.
    pool : ElasticPool
        Decides; the gRPC server's, so that both share one limit.
    listen : str, optional
        `host:port`; by default the configuration's.
    gate : Gate, optional
        Says who may do what; by default anyone may.
    observing : Observing, optional
        What watches this process; by default nothing does.
    reuse_port : bool
        Whether other processes may listen on the same port and share its connections.
    certificates : Certificates, optional
        Those of `server.tls`; by default read here.

    Raises
    ------
    ConfigError
        A TLS file cannot be used.
    """

    def __init__(
        self,
        config: Config,
        engine: Deciding,
        store: TrafficStore,
        pool: ElasticPool,
        listen: str | None = None,
        gate: Gate | None = None,
        observing: Observing | None = None,
        *,
        reuse_port: bool = False,
        certificates: Certificates | None = None,
    ) -> None:
        assert config.http is not None
        self._config, self._engine, self._store, self._pool = config, engine, store, pool
        self._gate = gate or Gate()
        self._observing = observing
        self._drain_seconds = config.server.drain_seconds
        self._listen = listen or config.http.listen
        self._reuse_port = reuse_port
        if config.server.tls is not None and certificates is None:
            certificates = Certificates(config.server.tls, config.base)
        self._certificates = certificates
        self._socket: socket.socket | None = None
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> int:
        """Listen, and give the port.

        Raises
        ------
        ConfigError
            The address cannot be listened on.
        """
        self._socket = listening(self._listen, self._reuse_port)
        started: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(started,), name="cascade-http", daemon=True)
        self._thread.start()
        started.result()
        port: int = self._socket.getsockname()[1]
        return port

    def begin_stop(self) -> None:
        """Take no more requests; running ones go on for up to `server.drain_seconds`. Does not wait."""
        if self._server is not None:
            self._server.should_exit = True

    def stop(self) -> None:
        """Take no more requests, and wait until running ones have finished or the drain is over."""
        self.begin_stop()
        if self._thread is not None:
            self._thread.join(self._drain_seconds + 5)

    def _run(self, started: Future[None]) -> None:
        async def serve() -> None:
            # Clients and events belong to this loop, so everything is made on it.
            gateway = Gateway(
                self._config, self._engine, self._pool, self._store.record_call, self._gate, self._observing
            )

            @asynccontextmanager
            async def lifespan(_: Starlette) -> AsyncIterator[None]:
                yield
                await gateway.aclose()

            app = Starlette(routes=[*self._own_routes(), *gateway.routes], lifespan=lifespan)
            config = uvicorn.Config(
                Cut(gateway.load.around(app)), http=bounded_connections(self._most_idle()),
                log_config=None, access_log=False, server_header=False,
                proxy_headers=False, lifespan="on", timeout_keep_alive=75,
                timeout_graceful_shutdown=max(1, round(self._drain_seconds)),
            )  # fmt: skip
            config.load()
            if self._certificates is not None:  # uvicorn's own would read the files once
                config.ssl = http_context(self._certificates)
            self._server = _Server(config, started)
            await self._server.serve(sockets=[self._socket] if self._socket else None)

        try:
            asyncio.run(serve())
        except BaseException as error:
            if not started.done():
                started.set_exception(error)
            else:
                _log.exception("the HTTP side ended")

    def _most_idle(self) -> int:
        """Say how many connections may be open on which nothing is under way."""
        assert self._config.http is not None
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        most = self._config.http.max_in_flight
        return most if files == resource.RLIM_INFINITY else max(16, min(most, files // 4))

    def _own_routes(self) -> Sequence[BaseRoute]:
        async def health(_: Request) -> Response:
            ready = self._engine.ready()
            return JSONResponse({"ready": ready}, 200 if ready else 503)

        routes = [Route("/healthz", health)]
        metrics = self._observing.metrics if self._observing else None
        if metrics is not None:

            def gather() -> bytes:
                return metrics.page(rollout_metrics(self._config, self._store))

            async def shown(_: Request) -> Response:
                from cascade.observe.metrics import CONTENT_TYPE

                return Response(await run_in_threadpool(gather), media_type=CONTENT_TYPE)

            routes.append(Route("/metrics", shown))
        return [*routes, *Page(self._config, self._store, self._gate).routes]


class _Server(uvicorn.Server):
    """A uvicorn server that says when it has started, and leaves signals to the process."""

    def __init__(self, config: uvicorn.Config, started: Future[None]) -> None:
        super().__init__(config)
        self._told = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._told.set_result(None)


def listening(listen: str, reuse_port: bool) -> socket.socket:
    """Give a socket that is bound to `host:port`.

    Raises
    ------
    ConfigError
        It cannot be.
    """
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio turns Nagle's algorithm off for each connection. Without, headers and
    # body of an answer meet the client's delayed acknowledgement: 42 ms more for every call.
    found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        found.bind((host, int(port)))
    except (OSError, OverflowError) as error:
        found.close()
        raise ConfigError(
            f"http.listen: cannot listen on {listen}; it is in use, or not an address of this machine"
        ) from error
    return found
