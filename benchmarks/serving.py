"""The service under load, all rows of one table in one run: `python -m benchmarks.serving`.

Each server is pinned to one core, h2load (Debian's nghttp2-client) and what takes the spans to another. The
servers take turns, round after round, so that all see the same machine, and who is not asked stands still;
figures are medians over rounds, and every bar is a ratio within a round. With two cores, two workers have to
share them with the load; what the load took is printed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any

import grpc
import numpy as np
import typer
import yaml

from benchmarks import serving_peers, serving_tracer
from benchmarks.serving_load import (
    CORES,
    ECHO_SERVER,
    LOAD_CORE,
    SERVER_CORE,
    cascade,
    frames,
    free_port,
    h2load,
    only,
    pinned,
    server,
    settled,
)
from benchmarks.serving_rows import Rounds, table
from benchmarks.table import save, show
from cascade.client import Client
from cascade.config.rollout import AuditConfig
from cascade.pointer import serving_version
from cascade.v1 import decision_pb2 as pb

ROOT = Path(__file__).resolve().parents[1]
AUDIT_FLOOR = AuditConfig().floor
TRACED = 0.05
"""The share of decisions that is traced where not all are."""
NODE = "support-intent"
DECIDE = "/cascade.v1.DecisionService/Decide"
FLAGS = {
    "flags": {
        f"cascade.{NODE}.mode": {
            "state": "ENABLED", "variants": {"live": "live", "shadow": "shadow"}, "defaultVariant": "live",
            "targeting": {"if": [{"==": [{"var": "tenant"}, "slow"]}, "shadow", "live"]},
        }
    }
}  # fmt: skip
BATCH = "/cascade.v1.DecisionService/BatchDecide"
STREAM = "/cascade.v1.DecisionService/StreamDecide"
ECHO = "/benchmark.Echo/Unary"

IN_PROCESS = """
import json, sys, time
from pathlib import Path
from cascade.config import load_config
from cascade.rungs.protocol import Query
from cascade.server.engine import Engine
from cascade.traffic import open_store
config = load_config(Path(sys.argv[1]))
node, texts = sys.argv[2], json.loads(sys.argv[3])
store = open_store("sqlite:///" + sys.argv[4])
bundle = Engine(config, store, refresh_seconds=0).nodes[node].bundle
at = [rung.name for rung in bundle.policy.rungs].index("encoder")
sizes = 8, 16, 32, 64
bundle.ladder.rungs[at].answer(bundle.ladder.prepare([Query(texts[0])]).batch)
best = 0.0
for size in sizes:
    batch = [Query(text) for text in (texts * size)[:size]]
    done, taken = 0, 0.0
    while taken < float(sys.argv[5]) / len(sizes):
        prepared = bundle.ladder.prepare(batch)
        began = time.perf_counter()
        bundle.ladder.rungs[at].answer(prepared.batch)
        taken += time.perf_counter() - began
        done += size
    best = max(best, done / taken)
print(best)
"""


def sample_texts(target: str) -> dict[str, list[str]]:
    """Find unseen sample texts that the linear and the encoder rung settle."""
    found: dict[str, list[str]] = {"linear": [], "encoder": []}
    with Client(target) as client:
        for line in (ROOT / "examples" / "sample" / f"{NODE}.unseen.jsonl").open(encoding="utf-8"):
            text = json.loads(line)["text"]
            try:
                rung = client.decide(node=NODE, text=text, timeout=10).rung
            except Exception as error:  # the teacher is not there, on purpose
                if getattr(error, "code", None) != grpc.StatusCode.UNAVAILABLE:
                    raise
                continue
            if rung in found and 40 <= len(text) <= 100:
                found[rung].append(text)
    if not found["linear"] or not found["encoder"]:
        raise typer.BadParameter("the sample holds no text that the linear or the encoder rung settles")
    return found


def write_config(folder: Path, name: str, port: int, **top: Any) -> Path:
    """Write a configuration of one sample node."""
    config = yaml.safe_load((ROOT / "cascade.yaml").read_text())
    where = folder / name
    where.mkdir()
    config |= {"store": f"sqlite:///{where}/traffic.db", "models": str(ROOT / "models")}
    config["nodes"] = {NODE: config["nodes"][NODE]}
    # As in the long run after a change: audits at their floor. They ask the teacher, which is not there.
    config["rollout"] = {"audit": {"ceiling": AUDIT_FLOOR, "floor": AUDIT_FLOOR, "daily_usd": 0.0}}
    path = where / "cascade.yaml"
    path.write_text(yaml.safe_dump(config | top))
    return path


def resident(pid: int) -> dict[str, int]:
    """Give a process's memory in kB by kind, `Private` summed up; of its descendants one each, by its id."""
    sizes: dict[str, int] = defaultdict(int)
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, value = line.split(":")
        sizes[name.strip()] = int(value.split()[0])
    sizes["Private"] = sizes["Private_Clean"] + sizes["Private_Dirty"]
    return sizes


def children(pid: int) -> list[int]:
    """Give a process's children."""
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def main(
    rounds: int = 5,
    seconds: int = 3,
    peers: Annotated[bool, typer.Option(help="Measure the peers that lie in build/peers as well.")] = True,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here as well.")] = None,
) -> None:
    """Measure every row of the table, server against server, taking turns."""
    if shutil.which("taskset"):  # the collector of spans runs here, and would else share the server's core
        os.sched_setaffinity(0, {LOAD_CORE})
    seen = Rounds()
    facts: dict[str, Any] = {"grpcio": grpc.__version__, "cores": len(CORES), "rounds": rounds}
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        folder = Path(scratch)
        ports = {name: free_port() for name in ("one", "two", "on", "some", "bare", "echo4", "echo8", "aio")}
        full = write_config(folder, "one", ports["one"])
        run: Callable[..., Any] = stack.enter_context
        # Everything on: flags for the node in a file, JSON logs, metrics, and traces that are sent.
        (folder / "flags.json").write_text(json.dumps(FLAGS))
        collector = run(swallow())
        for name, share in (("on", 1.0), ("some", TRACED)):
            on = write_config(
                folder, name, ports[name], flags=str(folder / "flags.json"), http={"listen": "127.0.0.1:0"},
                observe={"metrics": True, "logs": "json", "traces": {"endpoint": collector, "sample": share}},
            )  # fmt: skip
            run(server(cascade(on, ports[name]), ports[name]))
        bare = write_config(folder, "bare", ports["bare"], observe={"metrics": False})
        one = run(server(cascade(full, ports["one"]), ports["one"]))
        run(server(cascade(bare, ports["bare"]), ports["bare"]))
        two = run(
            server(cascade(write_config(folder, "two", ports["two"]), ports["two"], 2), ports["two"], None)
        )
        for name, (kind, threads) in {
            "echo4": ("threads", 4),
            "echo8": ("threads", 8),
            "aio": ("aio", 0),
        }.items():
            command = [sys.executable, "-c", ECHO_SERVER, kind, str(ports[name]), str(threads)]
            run(server(command, ports[name]))
        texts = sample_texts(f"127.0.0.1:{ports['one']}")
        text, hard = texts["linear"][0], texts["encoder"][0]
        request = pb.DecideRequest(node=NODE, text=text)
        decide = frames(folder / "decide", request.SerializeToString())
        encoder = frames(folder / "encoder", pb.DecideRequest(node=NODE, text=hard).SerializeToString())
        many = [pb.DecideRequest(node=NODE, text=t) for t in (texts["linear"] * 256)[:256]]
        batch = frames(folder / "batch", pb.BatchDecideRequest(requests=many).SerializeToString())
        streamed = frames(
            folder / "stream", *(pb.StreamDecideRequest(request=r).SerializeToString() for r in many)
        )
        echo = frames(folder / "echo", request.SerializeToString() + b" " * 120)
        bundle = ROOT / "models" / NODE / (serving_version(ROOT / "models", NODE) or "")
        peer_ports, why = start_peers(stack, folder, bundle, text) if peers else ({}, {})
        asked = {
            key: frames(folder / f"ask-{key}", serving_peers.PEERS[key].request(text)) for key in peer_ports
        }
        with suppress(KeyboardInterrupt):  # Ctrl-C: the table of the rounds so far
            for number in range(rounds):
                print(f"round {number + 1} of {rounds}", file=sys.stderr)
                for name in ("echo4", "echo8", "aio"):
                    seen.add(name, h2load(ports[name], ECHO, echo, seconds).rate)
                seen.add("echo", max(seen.seen[name][-1] for name in ("echo4", "echo8", "aio")))
                fair = seen.add("decide", h2load(ports["one"], DECIDE, decide, seconds).rate)
                more = h2load(ports["one"], DECIDE, decide, seconds, clients=8).rate  # 128 under way, not 64
                peak = max(fair, more)
                alone = h2load(ports["one"], DECIDE, decide, 1, warm_up=0)
                size = alone.data / alone.rate  # an answer's; a refusal has no message
                seen.add("bare", h2load(ports["bare"], DECIDE, decide, seconds).rate)
                for name in ("on", "some"):
                    seen.add(name, h2load(ports[name], DECIDE, decide, seconds).rate)
                seen.add("batch", h2load(ports["one"], BATCH, batch, seconds, streams=2).rate * 256)
                seen.add("stream", h2load(ports["one"], STREAM, streamed, seconds, streams=1).rate * 256)
                seen.add("encoder", h2load(ports["one"], DECIDE, encoder, seconds, streams=8).rate)
                seen.add("encoder in process", in_process(full, texts["encoder"], folder, seconds))
                half = h2load(ports["one"], DECIDE, decide, seconds, rate=peak / 2, latency=True).latency
                seen.add("p50", float(np.quantile(half, 0.5)) * 1e3)
                seen.add("p99", float(np.quantile(half, 0.99)) * 1e3)
                for name in ("one", "two"):  # two have half of the calls each: each side has its best
                    spread: dict[str, Any] = {"clients": 16, "core": None}
                    loads = [
                        h2load(ports[name], DECIDE, decide, seconds, streams=n, **spread) for n in (4, 8, 16)
                    ]
                    double = max(loads, key=attrgetter("rate"))
                    seen.add(f"{name} at its best", double.rate)
                seen.add("load cores", double.load_cpu)
                # Goodput's peak is asked for anew, as the better of two tries is too high by chance, and as
                # goodput from a standing start. Longer than the rest: the 4,096 calls that are taken in
                # first have not been answered at the end.
                standing: dict[str, Any] = {"seconds": 3 * seconds, "warm_up": 0}
                best = h2load(ports["one"], DECIDE, decide, clients=8 if more > fair else 4, **standing)
                seen.add("peak", best.data / size)
                for factor in (2, 5):
                    over = h2load(
                        ports["one"], DECIDE, decide, clients=16, streams=256, rate=factor * peak, **standing
                    )
                    settled(ports["one"], DECIDE, decide)
                    seen.add(f"goodput {factor}x", over.data / size)
                    seen.add(f"answered {factor}x", over.rate)
                    seen.add(f"reset {factor}x", over.errors)
                for key, port in peer_ports.items():
                    path = serving_peers.PEERS[key].path
                    seen.add(key, h2load(port, path, asked[key], seconds, streams=8).rate)
                if peer_ports:
                    seen.add("decide at 32", h2load(ports["one"], DECIDE, decide, seconds, streams=8).rate)
                    counted = [seen.seen[k][-1] for k in peer_ports if serving_peers.PEERS[k].compared]
                    if counted:
                        seen.add("best peer", max(counted))
                if peers and "tracer" not in why:
                    only(None)
                    try:
                        seen.add("tracer", serving_tracer.rate(seconds))
                    except RuntimeError as error:
                        why["tracer"] = str(error)
                time.sleep(0.5)
        facts["memory"] = memory(one.pid, two.pid)
    rows = table(seen, facts["memory"], why if peers else None)
    facts["rounds"] = len(seen.seen["goodput 5x"])
    title = f"grpcio {grpc.__version__}, {len(CORES)} cores, {facts['rounds']} rounds of {seconds} s"
    show(title, rows)
    save(json_file, {"rows": rows, "each_round": dict(seen.seen), "peers": why, **facts})


def start_peers(
    stack: ExitStack, folder: Path, bundle: Path, text: str
) -> tuple[dict[str, int], dict[str, str]]:
    """Start the peers that are installed: their ports, and of the others why they are not measured."""
    ports: dict[str, int] = {}
    why: dict[str, str] = {}
    for key, peer in serving_peers.PEERS.items():
        if not serving_peers.installed(peer):
            why[key] = "not installed: python -m benchmarks.serving_peers"
            continue
        try:
            port = stack.enter_context(serving_peers.serving(peer, folder / key, bundle))
            wrong = serving_peers.trouble(peer, port, bundle, text)
        except RuntimeError as error:
            wrong = f"does not start: {serving_peers.last_line(str(error))}"
        if wrong:
            why[key] = wrong
        else:
            ports[key] = port
    return ports, why


@contextmanager
def swallow() -> Iterator[str]:
    """Take spans as an OTLP collector would, and drop them; gives the endpoint."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # connections stay, as a collector keeps them

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    collector = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=collector.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{collector.server_port}/v1/traces"
    finally:
        collector.shutdown()
        collector.server_close()


def in_process(config: Path, texts: list[str], folder: Path, seconds: int) -> float:
    """Give the encoder rung's texts a second, in a process of its own, in the best size of batches."""
    only(None)
    command = [sys.executable, "-c", IN_PROCESS, str(config), NODE, json.dumps(texts[:1])]
    done = subprocess.run(
        [*pinned(SERVER_CORE), *command, str(folder / "scratch.db"), str(seconds)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return float(done.stdout.split()[-1])


def memory(one: int, two: int) -> dict[str, float]:
    """Give what one process takes, and what the second of two workers takes for itself, in MB."""
    first = resident(one)
    workers = [resident(pid) for pid in children(two)]
    parent = resident(two)
    return {
        "one process, resident": first["Rss"] / 1024,
        "parent, its share": parent["Pss"] / 1024,
        "worker, private": max(w["Private"] for w in workers) / 1024,
        "all of two workers": (parent["Pss"] + sum(w["Pss"] for w in workers)) / 1024,
    }


if __name__ == "__main__":
    typer.run(main)
