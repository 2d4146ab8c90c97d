"""One server process: the gRPC server with its pool, health, reflection and shutdown."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from cascade.config.server import LimitsConfig, ServerConfig
from cascade.errors import ConfigError
from cascade.event_loop import GRPC
from cascade.heap import HeapWatch
from cascade.server import inference, rollout_service
from cascade.server.admission import GateInterceptor
from cascade.server.batches import Batches
from cascade.server.certificates import Certificates
from cascade.server.deciding import Deciding
from cascade.server.entrance import Entrance
from cascade.server.foreign import ForeignServices
from cascade.server.gate import Gate, Shedder
from cascade.server.grpc_options import server_options
from cascade.server.pool import ElasticPool
from cascade.server.prefetch import prefetching
from cascade.server.scheduling import BusyScheduling
from cascade.server.service import SERVICE, DecisionServicer, add_to_server
from cascade.server.tls import server_credentials
from cascade.server.unseen import Unseen, counting
from cascade.v1 import decision_pb2  # noqa: F401  (reflection finds the service in the default descriptor pool)

if TYPE_CHECKING:
    from cascade.observe.traces import Traces

_log = logging.getLogger(__name__)

_READY_SECONDS = 0.25
_SIGNAL_SECONDS = 0.5
_SURE_SECONDS = 1.0  # after which what waits in gRPC has been ended for sure

AddService = Callable[[grpc.aio.Server, Entrance], None]
"""Adds a service to a server; the entrance makes handlers of functions that block."""


class CascadeServer:
    """Serves an engine over gRPC.

    Parameters
    ----------
    engine : Deciding
    listen : str
        `host:port`, port 0 for any free one, or `unix:path`.
    server_config : ServerConfig, optional
    limits : LimitsConfig, optional
    reuse_port : bool
        Whether other processes may listen on the same port and share its connections.
    gate : Gate, optional
        Says who may call; by default anyone may.
    admin : sequence of callables
        Each adds a service, to a server that only keys with the verb `admin` may call.
    base : Path, optional
        What the paths of `server.tls` are relative to; by default the working folder.
    certificates : Certificates, optional
        Those of `server.tls`; by default read here.
    traces : Traces, optional
        Takes and gives trace context.

    Raises
    ------
    ConfigError
        A TLS file cannot be read.
    """

    def __init__(
        self,
        engine: Deciding,
        listen: str,
        server_config: ServerConfig | None = None,
        limits: LimitsConfig | None = None,
        *,
        reuse_port: bool = False,
        gate: Gate | None = None,
        admin: Sequence[AddService] = (),
        base: Path | None = None,
        certificates: Certificates | None = None,
        traces: Traces | None = None,
    ) -> None:
        self._engine = engine
        self._listen = listen
        self._config = server_config or ServerConfig()
        threads = self._config.threads
        self.pool = ElasticPool(
            threads,
            max_threads=max(512, 4 * threads),
            max_waiting=self._config.max_waiting,
            max_waiting_seconds=self._config.max_waiting_seconds,
        )
        if self._config.tls is not None and certificates is None:
            certificates = Certificates(self._config.tls, base)
        self._certificates = certificates
        self._options = server_options(self._config, reuse_port)
        self._draining = threading.Event()
        GRPC.start(self._build(limits or LimitsConfig(), gate or Gate(), admin, traces)).result()
        self.pool.on_watch(HeapWatch().look)
        self.pool.on_watch(BusyScheduling().look)

    @property
    def waiting(self) -> int:
        """How many calls wait for a thread, or to be decided."""
        return self.pool.waiting + self.batches.waiting

    async def _build(
        self, limits: LimitsConfig, gate: Gate, admin: Sequence[AddService], traces: Traces | None
    ) -> None:
        # An interceptor costs every call, so there is one only where it has something to refuse.
        interceptors = () if gate.open else (GateInterceptor(gate),)
        self._server, begun = counting(
            lambda: prefetching(lambda: grpc.aio.server(interceptors=interceptors, options=self._options))
        )
        loop = asyncio.get_running_loop()
        over = self._config.max_unseen_seconds + _SURE_SECONDS
        self._unseen = Unseen(begun, over, loop.call_soon_threadsafe)
        self._server.add_generic_rpc_handlers((self._unseen,))
        self.pool.on_watch(self._unseen.look)
        self._admin = None
        if self._config.admin_listen:
            self._admin = grpc.aio.server(interceptors=interceptors, options=self._options)
        self.batches = Batches(
            self._engine,
            self.pool,
            loop,
            max_waiting=self._config.max_waiting,
            max_waiting_seconds=self._config.max_waiting_seconds,
        )
        shedder = Shedder(self.pool, self.batches)
        servicer = DecisionServicer(
            self._engine, limits, self.pool, self.batches, shedder, loop, gate, traces
        )
        entrance = Entrance(self.pool)
        add_to_server(servicer, self._server, entrance)
        inferring = inference.InferenceServicer(self._engine, limits, gate, shedder)
        inference.add_to_server(inferring, self._server, entrance)
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, ForeignServices(self._server))
        aside = self._admin or self._server
        for add in admin:
            add(aside, entrance)
        if self._config.reflection:
            names = [SERVICE, inference.SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME]
            if admin:
                names.append(rollout_service.SERVICE)
            reflecting = reflection.aio.ReflectionServicer(names)
            reflection_pb2_grpc.add_ServerReflectionServicer_to_server(reflecting, ForeignServices(aside))

    def start(self) -> int:
        """Listen, and give the port.

        Raises
        ------
        ConfigError
            The address cannot be listened on.
        """
        port = GRPC.start(self._start()).result()
        threading.Thread(target=self._follow_readiness, name="cascade-ready", daemon=True).start()
        return port

    async def _start(self) -> int:
        port = self._add_port(self._server, self._listen, "listen")
        if self._admin is not None:
            assert self._config.admin_listen is not None
            self.admin_port = self._add_port(self._admin, self._config.admin_listen, "server.admin_listen")
            await self._admin.start()
        await self._tell_health(self._engine.ready())
        await self._server.start()
        return port

    def _add_port(self, server: grpc.aio.Server, address: str, key: str) -> int:
        try:
            if self._certificates is None:
                return int(server.add_insecure_port(address))
            # Made for each address: what gRPC is given here gives its first certificates to one server only.
            return int(server.add_secure_port(address, server_credentials(self._certificates)))
        except RuntimeError as error:
            raise ConfigError(
                f"{key}: cannot listen on {address}; it is in use, or not an address of this machine"
            ) from error

    def stop(self, drain_seconds: float | None = None) -> None:
        """Refuse new calls, let running ones finish for so many seconds, then cancel what is left.

        Parameters
        ----------
        drain_seconds : float, optional
            By default `server.drain_seconds` of the configuration.
        """
        self._begin_drain(drain_seconds).result()
        self.pool.shutdown(wait=False)

    def run_until_signal(
        self, on_drain: Callable[[], None] = lambda: None, on_ready: Callable[[], None] = lambda: None
    ) -> None:
        """Serve until SIGTERM or SIGINT, then drain; a second signal ends at once. For the main thread.

        SIGHUP, which would end a process on the spot, is refused in the log where nobody had it ignored.

        Parameters
        ----------
        on_drain : callable
            Called when draining begins; must not wait.
        on_ready : callable
            Called when signals are heeded: whoever is told that the server is there may send one at once.
        """
        # Of all that threading has, only SimpleQueue.put may be called by a handler that interrupts its get.
        signals: SimpleQueue[int] = SimpleQueue()
        numbers = [signal.SIGTERM, signal.SIGINT]
        if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
            numbers.append(signal.SIGHUP)
        before = [signal.signal(number, lambda found, _: signals.put(found)) for number in numbers]
        try:
            on_ready()
            while (found := _next_of(signals)) == signal.SIGHUP:
                _log.warning(
                    "SIGHUP is ignored: one process cannot reload; restart it, or set server.workers to 2"
                )
            _log.info("%s: draining for up to %s s", signal.Signals(found).name, self._config.drain_seconds)
            on_drain()
            drained = self._begin_drain(None)
            while not drained.done():
                try:
                    again = signals.get(timeout=0.05)
                except Empty:
                    continue
                if again != signal.SIGHUP:
                    GRPC.start(self._stop(None)).result()
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)
            self.pool.shutdown(wait=False)

    def _begin_drain(self, drain_seconds: float | None) -> Future[None]:
        self._draining.set()
        self._unseen.close()
        grace = self._config.drain_seconds if drain_seconds is None else drain_seconds
        return GRPC.start(self._drain(grace))

    async def _drain(self, grace: float) -> None:
        await self._health.enter_graceful_shutdown()
        await self._stop(grace)

    async def _stop(self, grace: float | None) -> None:
        servers = [server for server in (self._admin, self._server) if server is not None]
        await asyncio.gather(*(server.stop(grace) for server in servers))

    def _follow_readiness(self) -> None:
        told = None
        while not self._draining.wait(_READY_SECONDS):
            ready = self._engine.ready()
            if ready is not told:
                GRPC.start(self._tell_health(ready))
                told = ready

    async def _tell_health(self, ready: bool) -> None:
        status = health_pb2.HealthCheckResponse
        for name in ("", SERVICE):
            await self._health.set(name, status.SERVING if ready else status.NOT_SERVING)


def _next_of(signals: SimpleQueue[int]) -> int:
    """Wait for a signal. For the main thread."""
    while True:
        # The kernel may give a signal to another thread, as it does while the process is stopped. Python's
        # handler runs in the main thread, which then has to wake up by itself.
        with suppress(Empty):
            return signals.get(timeout=_SIGNAL_SECONDS)
