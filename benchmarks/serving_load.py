"""Servers in processes of their own, pinned to a core, and h2load against them."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np
import typer

CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
SERVER_CORE, LOAD_CORE = CORES[0], CORES[-1]
SETTLED = 60.0
"""Seconds within which what still queues after a rush is over."""

TRIES = 3
"""How often h2load is run until it has counted something."""

ECHO_SERVER = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor
import grpc
kind, port, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
if kind == "threads":
    class Handler(grpc.GenericRpcHandler):
        def service(self, details):
            return grpc.unary_unary_rpc_method_handler(lambda request, context: request)
    server = grpc.server(ThreadPoolExecutor(threads))
    server.add_generic_rpc_handlers((Handler(),))
    server.add_insecure_port("127.0.0.1:" + port)
    server.start()
    server.wait_for_termination()
else:
    from cascade.event_loop import GRPC
    async def main():
        async def unary(request, context):
            return request
        class Handler(grpc.GenericRpcHandler):
            def service(self, details):
                return grpc.unary_unary_rpc_method_handler(unary)
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((Handler(),))
        server.add_insecure_port("127.0.0.1:" + port)
        await server.start()
        await server.wait_for_termination()
    GRPC.start(main()).result()
"""


@dataclass
class Load:
    """What one run of h2load saw.

    Attributes
    ----------
    rate : float
        Requests a second that were answered with HTTP 200, whatever the gRPC status.
    latency : array of float
        Seconds of each request that was measured; empty unless asked for.
    data : float
        Bytes of messages received a second: a refused call carries none.
    load_cpu : float
        Cores' worth of CPU time that h2load took.
    errors : float
        Requests a second whose stream or connection was reset instead of answered.
    """

    rate: float
    latency: np.ndarray = field(default_factory=lambda: np.empty(0))
    load_cpu: float = 0.0
    data: float = 0.0
    errors: float = 0.0


def pinned(core: int | None) -> list[str]:
    """Give the command that pins what follows to a core, or if None to all, where that can be done."""
    cores = CORES if core is None else [core]
    return ["taskset", "-c", ",".join(map(str, cores))] if shutil.which("taskset") else []


def free_port() -> int:
    """Give a TCP port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


_running: dict[int, subprocess.Popen[bytes]] = {}
"""Servers by their ports."""


def only(port: int | None) -> None:
    """Let one of the servers run, and have all others stand still (SIGSTOP); all of them if None.

    An idle server wakes up some thirty times a second, which costs up to a millisecond each time where others
    use the machine's caches: six of them would take some fifth of the core of the one that is measured.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # else they would stand still for ever
    for other, process in _running.items():
        for pid in tree(process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT if other == port else signal.SIGSTOP)


def tree(pid: int) -> list[int]:
    """Give a process and its descendants."""
    found = [pid]
    with suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += tree(int(child))
    return found


@contextmanager
def server(
    command: Sequence[str],
    port: int,
    core: int | None = SERVER_CORE,
    env: Mapping[str, str] | None = None,
    seconds: float = 90,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the block ends; pinned to a core unless `core` is None."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [*pinned(core), *command], stdout=log, stderr=log, env={**os.environ, **(env or {})}
        )
        try:
            end = time.monotonic() + seconds
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    if process.poll() is not None or time.monotonic() > end:
                        log.seek(0)
                        raise RuntimeError(
                            f"{command[:4]} did not start:\n{log.read()[-2000:].decode(errors='replace')}"
                        ) from None
                    time.sleep(0.1)
            _running[port] = process
            yield process
        finally:
            _running.pop(port, None)
            for pid in tree(process.pid):  # what stands still does not end
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def cascade(config: Path, port: int, workers: int = 1) -> list[str]:
    """Give the command that serves a configuration."""
    command = ["-m", "cascade.cli", "serve", "-c", str(config), "--listen", f"127.0.0.1:{port}"]
    return [sys.executable, *command, "--workers", str(workers)]


def h2load(
    port: int,
    path: str,
    body: Path,
    seconds: int,
    clients: int = 4,
    streams: int = 16,
    rate: float | None = None,
    core: int | None = LOAD_CORE,
    latency: bool = False,
    deadline: int | None = None,
    warm_up: int = 1,
) -> Load:
    """Load a server, while the others that run stand still.

    Parameters
    ----------
    port, path, body
        Where to, which method, and a file that holds the gRPC frames of one call.
    seconds : float
        How long is measured, after `warm_up` seconds, whose bytes are in `Load.data` all the same.
    clients, streams : int
        Connections, and calls in flight on each.
    rate : float, optional
        Calls a second over all connections; as many as are answered, if None.
    core : int, optional
        Core that h2load is pinned to.
    latency : bool
        Whether every call's latency is kept.
    deadline : int, optional
        Seconds that the server is told a call may take; none if None.
    """
    if not shutil.which("h2load"):
        raise typer.BadParameter("h2load is not installed (Debian: apt-get install nghttp2-client)")
    only(port)
    extra: list[str] = []
    if rate is not None:
        extra += ["--rps", f"{max(1, round(rate / clients))}"]
    if deadline is not None:
        extra += ["-H", f"grpc-timeout: {deadline}S"]
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch) / "log"
        if latency:
            extra += ["--log-file", str(log)]
        command = [
            *pinned(core), "h2load", "-D", str(seconds), "--warm-up-time", str(warm_up), "-c", str(clients),
            "-m", str(streams), "-t", "1", "-d", str(body), *extra, "-H", "content-type: application/grpc",
            "-H", "te: trailers", f"http://127.0.0.1:{port}{path}",
        ]  # fmt: skip
        for _ in range(TRIES):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            # Where h2load is kept from its core as its warming up ends, it counts nothing, of any server.
            if counted(r"requests: (\d+) total", done.stdout):
                break
        seen = np.loadtxt(log, ndmin=2)[:, 2] / 1e6 if latency and log.stat().st_size else np.empty(0)
    if not counted(r"(\d+) succeeded", done.stdout):
        raise RuntimeError(done.stdout)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Load(
        counted(r"finished in .*?, ([\d.]+) req/s", done.stdout),
        seen,
        cpu / (seconds + warm_up),
        counted(r"\((\d+)\) data", done.stdout) / seconds,
        counted(r"(\d+) failed", done.stdout) / seconds,
    )


def settled(port: int, path: str, body: Path) -> bytes:
    """Wait until what still queues in a server after a rush is over, and give its answer to one more call.

    The calls of a load that has ended are still in it, so the next load would meet them.

    Raises
    ------
    grpc.RpcError
        It did not answer within a minute.
    """
    only(port)
    ask, end = body.read_bytes()[5:], time.monotonic() + SETTLED
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        while True:
            try:
                return bytes(channel.unary_unary(path)(ask, timeout=SETTLED))
            except grpc.RpcError:  # ended, or refused: it is still busy
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)


def counted(pattern: str, said: str) -> float:
    """Give a number of what h2load said; 0 where it is not there."""
    found = re.search(pattern, said)
    return float(found[1]) if found else 0.0


def frames(path: Path, *messages: bytes) -> Path:
    """Write gRPC frames: a flag byte, the length, the message."""
    path.write_bytes(b"".join(b"\0" + len(m).to_bytes(4, "big") + m for m in messages))
    return path
