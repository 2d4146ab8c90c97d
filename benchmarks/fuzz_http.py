"""Hostile input over HTTP: requests to every route, garbage on the port, and a frontier that talks nonsense.

A part of `benchmarks.fuzz`. What must never happen: a status 500, silence, an answer that is no HTTP, and an
error of ours in the log that was not foreseen.
"""

from __future__ import annotations

import http.client
import json
import logging
import random
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from urllib.parse import quote

import yaml

from benchmarks.fuzz_bodies import WORDS, chat_body, completion, dumps, value
from benchmarks.fuzz_input import NODE, ROOT
from cascade.config import load_config
from cascade.errors import TeacherUnavailable
from cascade.observe.open import open_observing
from cascade.server.engine import Engine
from cascade.server.gate import open_gate
from cascade.server.http import HttpSide
from cascade.server.pool import ElasticPool
from cascade.traffic import TrafficStore, open_store


class Frontier(ThreadingTCPServer):
    """Answers every request with the bytes that the case says."""

    daemon_threads = allow_reuse_address = True

    def __init__(self) -> None:
        self.answer = b""
        super().__init__(("127.0.0.1", 0), _Answering)
        threading.Thread(target=self.serve_forever, name="fuzz-frontier", daemon=True).start()

    @property
    def url(self) -> str:
        """Its `base_url`."""
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Answering(StreamRequestHandler):
    timeout = 5

    def handle(self) -> None:
        assert isinstance(self.server, Frontier)
        with suppress(OSError):
            size = 0
            while (line := self.rfile.readline()) not in (b"\r\n", b""):
                if line.lower().startswith(b"content-length:"):
                    size = int(line.partition(b":")[2])
            self.rfile.read(size)
            self.wfile.write(self.server.answer)


class _Unforeseen(logging.Handler):
    """Keeps what was logged with a stack trace."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and not isinstance(record.exc_info[1], TeacherUnavailable):
            self.found.append(f"{record.getMessage()}: {record.exc_info[1]!r}")


@contextmanager
def http_service(folder: Path) -> Iterator[tuple[int, Frontier, TrafficStore]]:
    """Serve the sample node over HTTP from this process, and give the port, its frontier and its store."""
    frontier = Frontier()
    document = yaml.safe_load((ROOT / "cascade.yaml").read_text())
    document |= {
        "store": f"sqlite:///{folder}/http.db", "models": str(ROOT / "models"),
        "http": {"listen": "127.0.0.1:0"},
    }  # fmt: skip
    document["rungs"]["frontier"] |= {"base_url": frontier.url}
    document["nodes"] = {NODE: document["nodes"][NODE]}
    (folder / "http.yaml").write_text(yaml.safe_dump(document))
    config = load_config(folder / "http.yaml")
    store = open_store(config.store_url)
    observing = open_observing(config)
    engine = Engine(config, observing.watch(store), refresh_seconds=0)
    pool = ElasticPool(4, 64)
    side = HttpSide(config, engine, observing.watch(store), pool, "127.0.0.1:0", open_gate(config), observing)
    try:
        yield side.start(), frontier, store
    finally:
        side.stop()
        engine.close()
        observing.close()
        pool.shutdown(wait=False)
        store.close()
        frontier.shutdown()
        frontier.server_close()


@contextmanager
def watched() -> Iterator[_Unforeseen]:
    """Listen to what the service logs, which is not shown meanwhile."""
    handler, root = _Unforeseen(), logging.getLogger()
    before = root.handlers[:]
    root.handlers[:] = [handler]
    try:
        yield handler
    finally:
        root.handlers[:] = before


class HttpCases:
    """Requests of all kinds, each with the frontier's answer to it.

    Parameters
    ----------
    port : int
    frontier : Frontier
    store : TrafficStore
        Takes what was answered; no record may be one that it cannot hold.
    seen : _Unforeseen
        What the service logs.
    """

    def __init__(self, port: int, frontier: Frontier, store: TrafficStore, seen: _Unforeseen) -> None:
        self._port, self._frontier, self._store, self._seen = port, frontier, store, seen
        sample = ROOT / "examples/sample" / f"{NODE}.unseen.jsonl"
        self._texts = [json.loads(line)["text"] for line in sample.open(encoding="utf-8")][:100]

    def request(self, rng: random.Random) -> str:
        """A request that is HTTP, whatever is in it: never a 500 that is not the frontier's."""
        self._frontier.answer = completion(rng)
        method, path, body = self._what(rng)
        raw = self._head(rng, method, path, len(body)) + body
        with socket.create_connection(("127.0.0.1", self._port), 20) as connection:
            with suppress(ConnectionError):  # refused before it was read to its end
                connection.sendall(raw)
            response = http.client.HTTPResponse(connection, method=method)
            try:
                response.begin()
                response.read()
            except (http.client.IncompleteRead, http.client.RemoteDisconnected, ConnectionError):
                status = "broken off"
            else:
                status = str(response.status)
        self._check(f"{method} {path!r}")
        if status == "500" and b" 500 " not in self._frontier.answer[:20]:
            raise AssertionError(f"{method} {path!r}: HTTP 500")
        return status

    def garbage(self, rng: random.Random) -> str:
        """Bytes that are no HTTP, or a request that is cut, repeated or mixed up."""
        method, path, body = self._what(rng)
        raw = bytearray(self._head(rng, method, path, len(body)) + body[:2000])
        for _ in range(rng.randrange(1, 5)):
            at = rng.randrange(len(raw) + 1)
            kind = rng.randrange(4)
            if kind == 0:
                raw[at:at] = rng.randbytes(rng.randrange(1, 30))
            elif kind == 1:
                del raw[at : at + rng.randrange(1, 30)]
            elif kind == 2:
                raw[at:at] = rng.choice(
                    (b"\r\n", b"\0", b"\r\n\r\n", b" HTTP/9.9", b"transfer-encoding: chunked\r\n")
                )
            else:
                raw[at:at] = raw[at : at + rng.randrange(1, 60)]
        self._frontier.answer = completion(rng)
        with socket.create_connection(("127.0.0.1", self._port), 20) as connection:
            connection.settimeout(0.005)
            with suppress(OSError):
                connection.sendall(raw if rng.random() < 0.9 else rng.randbytes(rng.randrange(1, 300)))
                connection.recv(100)
        self._check(f"garbage {bytes(raw[:80])!r}")
        return "sent"

    def alive(self) -> None:
        """Check that the service still answers, and has kept what it answered. Raises where it does not."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        try:
            connection.request("GET", "/healthz")
            if connection.getresponse().status != 200:
                raise AssertionError("the HTTP side is not ready any more")
        finally:
            connection.close()
        self._store.flush(60)
        if self._store.stats().failed:
            raise AssertionError(f"records were lost: {self._store.stats()}")

    def _check(self, what: str) -> None:
        if self._seen.found:
            found, self._seen.found = self._seen.found, []
            raise AssertionError(f"{what}: logged {'; '.join(found)[:500]}")

    def _what(self, rng: random.Random) -> tuple[str, str, bytes]:
        if rng.random() < 0.7:
            body = dumps(chat_body(rng, self._texts))
            if rng.random() < 0.15:
                at = rng.randrange(len(body) + 1)
                body = body[:at] + rng.randbytes(rng.randrange(4)) + body[at + rng.randrange(4) :]
            elif rng.random() < 0.02:
                body = rng.choice((b"[" * 100_000, b'{"a":' * 100_000, b"1" * 5000, b"\xef\xbb\xbf{}", b""))
            elif rng.random() < 0.02:
                deep = rng.randrange(40, 1200)
                body = (
                    b'{"model": "m", "messages": [{"role": "user", "content": '
                    + b"[" * deep
                    + b"]" * deep
                    + b"}]}"
                )
            return "POST", "/v1/chat/completions", body
        word = quote(rng.choice(WORDS)[:50].encode("utf-8", "replace"), safe=rng.choice(("", "/%?#")))
        paths = (
            "/v1/models", "/v1/embeddings", f"/v1/{word}", f"/v1/a/{word}/b?{word}={word}", "/v1/..%2f..",
            "/", "/metrics", "/healthz", f"/page/{word}", "/page/nodes", f"/page/nodes?hours={word}",
            f"/page/nodes/{NODE}/{rng.choice(('approve', 'hold', 'rollback', word or 'x'))}",
            f"/page/nodes/{word}/hold", f"/{word}", "//", "/v1/chat/completions",
        )  # fmt: skip
        path = rng.choice(paths).replace(" ", "+").replace("\n", "").replace("\0", "%00")
        methods = ("GET", "GET", "POST", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS", "TRACE", "X")
        return rng.choice(methods), path, dumps(value(rng)) if rng.random() < 0.5 else b""

    def _head(self, rng: random.Random, method: str, path: str, size: int) -> bytes:
        lines = [f"{method} {path} HTTP/1.1", f"content-length: {size}", "connection: close"]
        host = rng.choice(("127.0.0.1", "localhost", "evil.example", "[::1", "", "é", "127.0.0.1:x"))
        lines.append(f"host: {'127.0.0.1' if rng.random() < 0.8 else host}")
        lines += ["cookie: cascade_csrf=t", f"x-cascade-csrf: {rng.choice(('t', 't', 'é', ''))}"]
        others = (
            "x-cascade-node", "x-cascade-tenant", "x-cascade-session", "x-cascade-request-id", "traceparent",
            "x-cascade-context-a", "x-cascade-context-", "authorization", "content-type", "content-encoding",
            "origin", "sec-fetch-site", "accept-encoding", "expect", "x-cascade-context-é", "upgrade", "te",
        )  # fmt: skip
        for name in others:
            if rng.random() < 0.08:
                said = rng.choice((NODE, "nope", "r1", "r2", "100-continue", *WORDS[:12]))
                lines.append(f"{name}: {said}".replace("\n", " ").replace("\0", "?"))
        return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "replace")
