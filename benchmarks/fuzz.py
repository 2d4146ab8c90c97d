"""Hostile input against every way in: `python -m benchmarks.fuzz --cases 100000`.

Each target takes cases made from a seed and says what must never happen: an exception that is not ours, a
crash, a status INTERNAL or UNKNOWN, a service that does not answer afterwards. Cases are counted by target.
"""

from __future__ import annotations

import json
import random
import shutil
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import grpc
import typer
from google.protobuf.message import Message

from benchmarks.fuzz_http import HttpCases, http_service, watched
from benchmarks.table import save, show
from cascade.bundle import load_bundle
from cascade.config import Config, load_config
from cascade.contract import Contract
from cascade.errors import BundleError, CascadeError, ConfigError, InvalidInput
from cascade.security.keys import read_keys
from cascade.security.signing import read_signatures
from cascade.server.engine import Engine
from cascade.server.intake import parse
from cascade.server.outcomes import report_of
from cascade.server.requests import Asks
from cascade.server.serve import CascadeServer
from cascade.traffic import open_store
from cascade.traffic.jsonl import read_jsonl
from cascade.v1 import decision_pb2 as pb

ROOT = Path(__file__).resolve().parents[1]
NODE = "support-intent"

TEXTS = (
    "", " ", "\0", "a", "\n", "\u202e", "\ud7ff", "é" * 50, "😀", "{{ 7*7 }}", "${jndi:x}", "../../x",
    "x" * 5000, "'; DROP TABLE decisions; --", "null", "NaN", "-1", "1e999", "\x1b[31m", NODE, "user", "tool",
)  # fmt: skip

REQUESTS: dict[str, Any] = {
    "Decide": pb.DecideRequest,
    "BatchDecide": pb.BatchDecideRequest,
    "StreamDecide": pb.StreamDecideRequest,
    "ReportOutcome": pb.ReportOutcomeRequest,
}

Case = Callable[[random.Random], str]
"""Runs one case and names its outcome; raises where something must not happen."""


def some_text(rng: random.Random) -> str:
    """Give a text that is often strange."""
    if rng.random() < 0.6:
        return rng.choice(TEXTS)
    kinds = ((32, 127), (0, 0xD7FF))
    return "".join(chr(rng.randrange(*rng.choice(kinds))) for _ in range(rng.randrange(40)))


def fill(message: Message, rng: random.Random, depth: int = 0) -> Message:
    """Set fields of a message at random, by its descriptor."""
    for field in message.DESCRIPTOR.fields:
        if rng.random() < 0.45:
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            for _ in range(rng.randrange(4)):
                key, value = some_text(rng), some_text(rng)
                into = getattr(message, field.name)
                if field.message_type.fields_by_name["value"].message_type is None:
                    into[key] = value
                elif depth < 6:
                    fill(into[key], rng, depth + 1)
        elif field.is_repeated:
            for _ in range(rng.randrange(4)):
                into = getattr(message, field.name)
                if field.message_type is None:
                    into.append(_scalar(field, rng))
                elif depth < 6:
                    fill(into.add(), rng, depth + 1)
        elif field.message_type is None:
            setattr(message, field.name, _scalar(field, rng))
        elif depth < 6:
            inner = getattr(message, field.name)
            inner.SetInParent()
            fill(inner, rng, depth + 1)
    return message


def _scalar(field: Any, rng: random.Random) -> Any:
    if field.cpp_type == field.CPPTYPE_STRING:
        return some_text(rng)
    if field.cpp_type == field.CPPTYPE_BOOL:
        return rng.random() < 0.5
    if field.cpp_type in (field.CPPTYPE_DOUBLE, field.CPPTYPE_FLOAT):
        return rng.choice((0.0, -1.5, 1e308, float("inf"), float("nan"), rng.random()))
    if field.cpp_type == field.CPPTYPE_ENUM:
        return rng.choice(field.enum_type.values).number
    low, high = (-(2**31), 2**31 - 1) if field.cpp_type == field.CPPTYPE_INT32 else (-(2**63), 2**63 - 1)
    return rng.choice((0, 1, -1, low, high, rng.randrange(low, high)))


def mangle(raw: bytes, rng: random.Random) -> bytes:
    """Flip, cut, repeat or insert some bytes."""
    out = bytearray(raw)
    for _ in range(rng.randrange(1, 6)):
        kind, at = rng.randrange(5), rng.randrange(len(out) + 1)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[at:at] = rng.randbytes(rng.randrange(1, 9))
        elif kind == 2:
            del out[at : at + rng.randrange(1, 20)]
        elif kind == 3:
            out[at:at] = out[at : at + rng.randrange(1, 40)]
        else:
            del out[at:]
    return bytes(out)


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


def config_case(folder: Path) -> Case:
    """A mangled `cascade.yaml` is read, or refused by ConfigError."""
    good = (ROOT / "cascade.yaml").read_bytes()
    path = folder / "cascade.yaml"

    def run(rng: random.Random) -> str:
        path.write_bytes(mangle(good, rng) if rng.random() < 0.9 else rng.randbytes(rng.randrange(200)))
        try:
            load_config(path)
        except ConfigError:
            return "refused"
        return "accepted"

    return run


def traffic_case(rng: random.Random) -> str:
    """Mangled lines of traffic are good or bad lines, never an exception."""
    lines = []
    for _ in range(rng.randrange(1, 4)):
        record = {"id": some_text(rng), "text": some_text(rng), "label": some_text(rng)}
        if rng.random() < 0.3:
            record["time"] = rng.choice((1e300, -1, "2026-01-01", "x", None, []))  # type: ignore[assignment]
        raw = json.dumps(record).encode("utf-8", "surrogatepass")
        lines.append(mangle(raw, rng) if rng.random() < 0.7 else raw)
    good, bad = read_jsonl(lines, NODE)
    return "refused" if bad and not good else "accepted"


def bundle_case(folder: Path) -> Case:
    """A bundle with altered files is refused by BundleError before anything of it is run."""
    version = (ROOT / "models" / NODE / "serving").read_text().strip()
    source = ROOT / "models" / NODE / version
    names = sorted(path.name for path in source.iterdir())
    target = folder / "bundle"
    shutil.copytree(source, target)

    def open_encoder(_: str) -> Any:
        raise BundleError("manifest.json", "no encoder is opened in this test")

    def run(rng: random.Random) -> str:
        name = rng.choice(names) if rng.random() < 0.5 else "manifest.json"
        path = target / name
        raw = path.read_bytes()
        try:
            if rng.random() < 0.1:
                path.unlink()
            else:
                at = rng.randrange(len(raw))
                cut = raw[max(0, at - 300) : at + 300]
                path.write_bytes(raw[: max(0, at - 300)] + mangle(cut, rng) + raw[at + 300 :])
            if path.exists() and path.read_bytes() == raw:
                return "unchanged"
            load_bundle(target, open_encoder, NODE)
        except BundleError:
            return "refused"
        finally:
            path.write_bytes(raw)
        raise AssertionError(f"an altered {name} was accepted")

    return run


def secrets_case(folder: Path) -> Case:
    """Mangled keys and signature files are read or refused by our own errors."""
    keys, bundle = folder / "keys.json", folder / "signed"
    bundle.mkdir()
    good_keys = (
        b'{"format": 1, "keys": [{"id": "k", "tenant": "t", "hash": "h", "nodes": [], '
        b'"verbs": ["decide"], "created": 0}]}'
    )
    good_signature = b'{"signatures": [{"key": "k", "algorithm": "ed25519", "signature": "QUJD"}]}'

    def run(rng: random.Random) -> str:
        try:
            if rng.random() < 0.5:
                keys.write_bytes(mangle(good_keys, rng))
                read_keys(keys)
            else:
                (bundle / "signature.json").write_bytes(mangle(good_signature, rng))
                read_signatures(bundle)
        except (ConfigError, BundleError):
            return "refused"
        return "accepted"

    return run


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
    prefix = "/cascade.v1.DecisionService/"
    calls = {name: channel.unary_unary(prefix + name) for name in REQUESTS if name != "StreamDecide"}
    stream = channel.stream_stream(prefix + "StreamDecide")

    def raw_of(name: str, rng: random.Random) -> bytes:
        raw: bytes = fill(REQUESTS[name](), rng).SerializeToString()
        return mangle(raw, rng) if rng.random() < 0.4 else raw

    def run(rng: random.Random) -> str:
        name = rng.choice(list(REQUESTS))
        try:
            if name == "StreamDecide":
                list(stream(iter([raw_of(name, rng) for _ in range(rng.randrange(4))]), timeout=20))
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
            channel.unary_unary("/cascade.v1.DecisionService/Decide")(b"", timeout=20)
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
