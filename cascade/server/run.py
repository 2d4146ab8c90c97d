"""From a configuration to a running service: one process, or a supervisor with workers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from cascade.config import Config
from cascade.errors import CascadeError, ConfigError, WrongDatabase
from cascade.event_loop import GRPC
from cascade.garbage import begin_serving, end_serving
from cascade.observe.open import open_observing
from cascade.observe.worker_number import started_after
from cascade.redaction import open_redactor, remember_key
from cascade.server import rollout_service, sd_notify
from cascade.server.certificates import Certificates
from cascade.server.cores import cores_of_workers, keep_to, usable_cores
from cascade.server.engine import Engine
from cascade.server.exposed import warn_of_exposure
from cascade.server.gate import open_gate
from cascade.server.grpc_options import warn_of_release
from cascade.server.heart import Heart, LoneHeart
from cascade.server.http import HttpSide
from cascade.server.kept import Kept
from cascade.server.listening import reserve_port
from cascade.server.metrics_folder import metrics_folder, own_folder
from cascade.server.node import Encoders
from cascade.server.preload import preload
from cascade.server.rollout_service import RolloutServicer
from cascade.server.serve import CascadeServer
from cascade.server.supervisor import Supervisor
from cascade.server.worker_process import RunWorker
from cascade.traffic import open_traffic
from cascade.traffic.open import retention_of
from cascade.traffic.retention import Pruner

_log = logging.getLogger(__name__)

Announce = Callable[[dict[str, Any]], None]
"""Told once what is served: `listen`, `port`, `workers`, `http` where there is that side, and each node's
version or why it has none."""


def serve(
    config: Config,
    listen: str | None = None,
    workers: int | None = None,
    announce: Announce = lambda facts: None,
    reread: Callable[[], Config] | None = None,
) -> int:
    """Serve until SIGTERM or SIGINT, and give the exit code.

    Parameters
    ----------
    config : Config
    listen : str, optional
        In place of the configuration's.
    workers : int, optional
        In place of the configuration's `server.workers`; one for each core if that is empty too.
    announce : callable
        See `Announce`.
    reread : callable, optional
        Reads the configuration again, at SIGHUP. Raises ConfigError.

    Raises
    ------
    ConfigError
        The address cannot be listened on, or the configuration cannot be served.
    """
    address = listen or config.listen
    count = workers or config.server.workers or (1 if address.startswith("unix:") else usable_cores())
    cores = cores_of_workers(count, config.server.pin_workers)
    if count == 1:
        if cores is not None:
            keep_to(cores[0])
        return _serve_alone(config, address, announce)
    kept, served = Kept(), Served()

    def work(config: Config) -> RunWorker:
        kept.read(config)  # what is wrong with the files is said once, not by each worker
        return _worker(config, address, http, cores, kept, served)

    held, address = reserve_port(address)
    held_http, http = reserve_port(config.http.listen, "http.listen") if config.http else (None, None)
    try:
        with metrics_folder() as on_exit:
            supervisor = Supervisor(
                work(config),  # in no name of this frame: a reload lets go of it
                count,
                config.server.drain_seconds,
                reload=(lambda: work(reread())) if reread else None,
                on_exit=on_exit,
                hang_seconds=config.server.hang_seconds,
            )

            def serves(facts: dict[str, Any]) -> None:
                served.once = True
                announce(facts | {"workers": count})

            return supervisor.serve(serves)
    finally:
        held.close()
        if held_http is not None:
            held_http.close()


@dataclass
class Served:
    """What a worker that is started learns from its parent.

    Attributes
    ----------
    once : bool
        Whether all workers served before. A traffic database that is missing then is one that was moved or
        deleted: only the start of a service, or of a configuration, makes one.
    """

    once: bool = False


def _serve_alone(config: Config, address: str, announce: Announce) -> int:
    http = config.http.listen if config.http else None
    warn_of_exposure(config, address, http)
    warn_of_release()

    def serves(facts: dict[str, Any]) -> None:
        announce(facts)
        sd_notify.ready("one process serves")

    seconds = config.server.hang_seconds
    _serve_process(config, address, http, serves, None, LoneHeart(seconds) if seconds else None, Kept())
    return 0


def _worker(
    config: Config, address: str, http: str | None, cores: list[int] | None, kept: Kept, served: Served
) -> RunWorker:
    """Load what workers share, and give what a worker does."""
    warn_of_exposure(config, address, http)
    warn_of_release()
    encoders = preload(config)
    remember_key(config)

    def run(index: int, tell_ready: Announce, heart: Heart) -> int:
        if cores is not None:
            keep_to(cores[index])
        if config.observe.metrics and (folder := own_folder()) is not None:
            from cascade.observe.ended_workers import fold  # not in the parent, which never counts anything

            fold(folder)
        try:
            create = not served.once or started_after() == "reload"
            _serve_process(config, address, http, tell_ready, encoders, heart, kept, create)
        except ConfigError:
            raise
        except CascadeError as error:
            _log.error("worker %d cannot serve: %s", index, error)
            return 1
        return 0

    return run


def _serve_process(
    config: Config,
    address: str,
    http: str | None,
    announce: Announce,
    encoders: Encoders | None,
    heart: Heart | LoneHeart | None,
    kept: Kept,
    create: bool = True,
) -> None:
    """Serve in this process until a signal. As a worker where there are encoders from before the fork."""
    # Threads, database connections and gRPC do not survive a fork, so nothing of it is made earlier.
    observing = open_observing(config)
    redactor = open_redactor(config)
    try:
        # One that cannot be opened keeps nobody from the teacher's answers.
        opened = open_traffic(config, redactor=redactor, create=create, later=True)
    except WrongDatabase as error:
        raise ConfigError(f"store: {error}") from error
    store = observing.watch(opened)
    pruner = Pruner.of(store.database, *retention_of(config))
    try:
        gate = open_gate(config, keys_kept=kept.keys(config))
        certificates = None
        if config.server.tls is not None:
            certificates = Certificates(config.server.tls, config.base, kept.certificates(config))
            certificates.watch()
        engine = Engine(config, store, encoders=encoders, quotas=gate.quotas, redactor=redactor)
        server = CascadeServer(
            engine,
            address,
            config.server,
            config.limits,
            reuse_port=encoders is not None,
            gate=gate,
            certificates=certificates,
            traces=observing.traces,
            admin=[
                partial(
                    rollout_service.add_to_server,
                    RolloutServicer(config, engine.rollouts, gate, engine.flags),
                )
            ],
        )
        port = server.start()
        nodes = sorted(engine.nodes.items())
        facts: dict[str, Any] = {
            "listen": address,
            "port": port,
            "workers": 1,
            "nodes": {name: node.bundle.version if node.bundle else None for name, node in nodes},
            "problems": {name: why for name, node in nodes if (why := node.trouble)},
        }
        side = None
        if config.http is not None and http is not None:
            side = HttpSide(
                config, engine, store, server.pool, http, gate, observing,
                reuse_port=encoders is not None, certificates=certificates,
            )  # fmt: skip
            facts["http"] = f"{http.rpartition(':')[0]}:{side.start()}"
        observing.follow(
            store,
            lambda: server.waiting,
            engine.served,
            GRPC.running.call_soon_threadsafe,
            None if certificates is None else lambda: certificates.now.ends,
        )
        if heart is not None:
            heart.begin(GRPC.running)
        begin_serving()

        def begin_stop() -> None:
            if encoders is None:  # no worker: nobody else says so
                sd_notify.stopping("draining")
            if side is not None:
                side.begin_stop()

        server.run_until_signal(begin_stop, lambda: announce(facts))
        if side is not None:
            side.stop()
        engine.close()
        gate.close()
    finally:
        end_serving()
        if pruner is not None:
            pruner.close()
        store.close()
        observing.close()
