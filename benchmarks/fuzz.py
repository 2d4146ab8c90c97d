"""Hostile input against every way in: `python -m benchmarks.fuzz --cases 100000`.

Each target takes cases made from a seed and says what must never happen: an exception that is not ours, a
crash, a status INTERNAL or UNKNOWN, a service that does not answer afterwards. Cases are counted by target.
"""

from __future__ import annotations

import random
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import grpc
import typer
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from benchmarks.fuzz_files import bundle_case, config_case, secrets_case, traffic_case
from benchmarks.fuzz_http import HttpCases, http_service, watched
from benchmarks.fuzz_input import ROOT, Case, fill, mangle
from benchmarks.table import save, show
from cascade.config import Config, load_config
from cascade.contract import Contract
from cascade.errors import CascadeError, InvalidInput
from cascade.inference import open_inference_pb2
from cascade.server import inference
from cascade.server.engine import Engine
from cascade.server.intake import parse
from cascade.server.outcomes import report_of
from cascade.server.requests import Asks
from cascade.server.serve import CascadeServer
from cascade.traffic import open_store
from cascade.v1 import decision_pb2 as pb

_DECISIONS, _INFERENCE = "/cascade.v1.DecisionService/", f"/{inference.SERVICE}/"
STREAM = f"{_DECISIONS}StreamDecide"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
REQUESTS: dict[str, Any] = {
    f"{_DECISIONS}Decide": pb.DecideRequest,
    f"{_DECISIONS}BatchDecide": pb.BatchDecideRequest,
    STREAM: pb.StreamDecideRequest,
    f"{_DECISIONS}ReportOutcome": pb.ReportOutcomeRequest,
    f"{_INFERENCE}ServerLive": open_inference_pb2.ServerLiveRequest,
    f"{_INFERENCE}ServerReady": open_inference_pb2.ServerReadyRequest,
    f"{_INFERENCE}ServerMetadata": open_inference_pb2.ServerMetadataRequest,
    f"{_INFERENCE}ModelReady": open_inference_pb2.ModelReadyRequest,
    f"{_INFERENCE}ModelMetadata": open_inference_pb2.ModelMetadataRequest,
    f"{_INFERENCE}ModelInfer": open_inference_pb2.ModelInferRequest,
    "/grpc.health.v1.Health/Check": health_pb2.HealthCheckRequest,
    REFLECTION: reflection_pb2.ServerReflectionRequest,
}
"""Full names of the methods, and what they are asked with."""


def messages_case(rng: random.Random) -> str:
    """A structured message, or its mangled bytes, through parsing and checking; no network."""
    limits = Config.model_fields["limits"].default
    kind = rng.choice(
        (pb.DecideRequest, pb.BatchDecideRequest, pb.StreamDecideRequest, pb.ReportOutcomeRequest)
    )
    message = fill(kind(), rng)
    try:
        raw = message.SerializeToString()
    except Exception:
        return "not a message"
    if rng.random() < 0.5:
        raw = mangle(raw, rng)
    asks = Asks(limits, lambda node: Contract(labels=("refund", "a")))
    try:
        found = parse(kind, raw)
        if isinstance(found, pb.ReportOutcomeRequest):
            report_of(found, limits)
        elif isinstance(found, pb.BatchDecideRequest):
            for request in found.requests:
                asks.ask(request, None)
        else:
            asks.ask(found.request if isinstance(found, pb.StreamDecideRequest) else found, None)
    except InvalidInput:
        return "refused"
    return "accepted"


@contextmanager
def service(folder: Path) -> Iterator[str]:
    """Serve the sample node from this process, with a teacher that is not there."""
    config = load_config(ROOT / "cascade.yaml")
    store = open_store(f"sqlite:///{folder}/traffic.db")
    engine = Engine(config, store, refresh_seconds=0)
    server = CascadeServer(engine, "127.0.0.1:0", config.server, config.limits)
    try:
        yield f"127.0.0.1:{server.start()}"
    finally:
        server.stop(0)
        engine.close()
        store.close()


def rpc_case(target: str) -> Case:
    """Messages and mangled bytes over real gRPC: any status but INTERNAL, UNKNOWN and silence."""
    channel = grpc.insecure_channel(target)
    streams = {name: channel.stream_stream(name) for name in (STREAM, REFLECTION)}
    calls = {name: channel.unary_unary(name) for name in REQUESTS if name not in streams}

    def raw_of(name: str, rng: random.Random) -> bytes:
        raw: bytes = fill(REQUESTS[name](), rng).SerializeToString()
        return mangle(raw, rng) if rng.random() < 0.4 else raw

    def run(rng: random.Random) -> str:
        name = rng.choice(list(REQUESTS))
        try:
            if name in streams:
                list(streams[name](iter([raw_of(name, rng) for _ in range(rng.randrange(4))]), timeout=20))
            else:
                calls[name](raw_of(name, rng), timeout=20)
        except ValueError:
            return "not a message"
        except grpc.RpcError as error:
            code = error.code()
            if code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DEADLINE_EXCEEDED):
                raise AssertionError(f"{name}: {code.name}: {error.details()}") from None
            return str(code.name)
        return "OK"

    return run


def http2_case(target: str) -> Case:
    """Garbage on the port: the connection may end, the service goes on."""
    host, _, port = target.rpartition(":")
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

    def frame(rng: random.Random) -> bytes:
        body = rng.randbytes(rng.randrange(64))
        size = len(body) if rng.random() < 0.8 else rng.randrange(2**24)
        head = size.to_bytes(3, "big") + bytes([rng.randrange(12), rng.randrange(256)])
        return head + rng.randrange(2**32).to_bytes(4, "big") + body

    def run(rng: random.Random) -> str:
        with socket.create_connection((host, int(port)), 5) as connection:
            connection.settimeout(0.002)
            try:
                if rng.random() < 0.8:
                    connection.sendall(preface + b"\0\0\0\4\0\0\0\0\0")
                for _ in range(rng.randrange(1, 8)):
                    connection.sendall(
                        frame(rng) if rng.random() < 0.8 else rng.randbytes(rng.randrange(200))
                    )
                connection.recv(100)
            except (TimeoutError, OSError):
                pass
        return "sent"

    return run


def answers(target: str) -> None:
    """Check that the service still decides. Raises where it does not."""
    with grpc.insecure_channel(target) as channel:
        try:
            channel.unary_unary(f"{_DECISIONS}Decide")(b"", timeout=20)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.INVALID_ARGUMENT:
                raise AssertionError(f"the service answers {error.code().name} now") from None


SHARES = {
    "messages": 0.6, "traffic files": 0.19, "config": 0.04, "keys and signatures": 0.075, "bundles": 0.005,
    "RPCs": 0.03, "HTTP/2 garbage": 0.025, "HTTP requests": 0.025, "HTTP garbage": 0.01,
}  # fmt: skip
"""What part of all cases each target gets: cheap ones get most."""


def run(cases: int, seed: int, seconds: float | None = None) -> list[dict[str, Any]]:
    """Run so many cases over all targets, and give counts by target.

    Raises
    ------
    AssertionError
        Something happened that must not; the text has the target, the seed and the case.
    """
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with service(folder) as target, http_service(folder) as (port, frontier, kept), watched() as seen:
            over_http = HttpCases(port, frontier, kept, seen)
            targets: dict[str, Case] = {
                "messages": messages_case, "traffic files": traffic_case, "config": config_case(folder),
                "keys and signatures": secrets_case(folder), "bundles": bundle_case(folder),
                "RPCs": rpc_case(target), "HTTP/2 garbage": http2_case(target),
                "HTTP requests": over_http.request, "HTTP garbage": over_http.garbage,
            }  # fmt: skip
            for name, case in targets.items():
                outcomes: Counter[str] = Counter()
                began = time.monotonic()
                for number in range(max(1, round(cases * SHARES[name]))):
                    if seconds is not None and time.monotonic() - began > seconds * SHARES[name]:
                        break
                    try:
                        outcomes[case(random.Random(f"{seed}:{name}:{number}"))] += 1
                    except CascadeError as error:
                        raise AssertionError(f"{name}, seed {seed}, case {number}: {error!r}") from error
                    except Exception as error:
                        raise AssertionError(f"{name}, seed {seed}, case {number}: {error!r}") from error
                answers(target)
                over_http.alive()
                rows.append({
                    "target": name, "cases": outcomes.total(), "seconds": round(time.monotonic() - began, 1),
                    "outcomes": ", ".join(f"{k} {v}" for k, v in outcomes.most_common()),
                })  # fmt: skip
    return rows


def main(
    cases: int = 100_000,
    seed: int = 0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here as well.")] = None,
) -> None:
    """Throw hostile input at every way in, and count what came of it."""
    rows = run(cases, seed)
    total = sum(row["cases"] for row in rows)
    show(f"{total} cases, seed {seed}: no crash, no INTERNAL, no foreign exception", rows)
    save(json_file, {"seed": seed, "cases": total, "targets": rows})


if __name__ == "__main__":
    typer.run(main)
