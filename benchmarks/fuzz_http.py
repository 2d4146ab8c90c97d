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
from typing import Any
from urllib.parse import quote

import yaml

from benchmarks.fuzz_input import NODE, ROOT
from cascade.config import load_config
from cascade.errors import TeacherUnavailable
from cascade.observe.open import open_observing
from cascade.server.engine import Engine
from cascade.server.gate import open_gate
from cascade.server.http import HttpSide
from cascade.server.pool import ElasticPool
from cascade.traffic import TrafficStore, open_store

WORDS = (
    "", " ", "\0", "a", "\n", "\u202e", "é" * 50, "😀", "\ud800", "{{ 7*7 }}", "../../x", "x" * 5000, "null",
    "NaN", "user", "system", "assistant", "tool", "developer", "function", "text", "auto", "none", "required",
    "json_object", "json_schema", "string", "object", "stop", "length", "content_filter", "tool_calls", NODE,
    f"cascade/{NODE}", "cascade/", "cascade/nope", "gpt", "[DONE]", "data:", "refund",
)  # fmt: skip
NUMBERS = (0, 1, 2, -1, 1.5, 1e308, -0.0, 2**53, 2**63, 2**70, 10**400, float("nan"), float("inf"))
KEYS = (
    "role", "content", "type", "text", "name", "arguments", "function", "tool_calls", "id", "index", "schema",
    "json_schema", "properties", "enum", "required", "include_usage", "message", "delta", "choices", "usage",
    "prompt_tokens", "completion_tokens", "finish_reason", "refusal", "model", "",
)  # fmt: skip


def value(rng: random.Random, depth: int = 0) -> Any:
    """Give any JSON value, rather small."""
    kind = rng.randrange(9 if depth < 4 else 6)
    if kind == 6:
        return [value(rng, depth + 1) for _ in range(rng.randrange(4))]
    if kind >= 7:
        return {rng.choice(KEYS): value(rng, depth + 1) for _ in range(rng.randrange(4))}
    return rng.choice((None, True, False, rng.choice(NUMBERS), rng.choice(WORDS), rng.choice(WORDS)))


def or_else(rng: random.Random, plausible: Any) -> Any:
    """Give what is plausible, mostly."""
    return value(rng) if rng.random() < 0.12 else plausible


def _function(rng: random.Random) -> dict[str, Any]:
    schema = {
        "type": or_else(rng, "object"),
        "properties": or_else(rng, {rng.choice(WORDS): or_else(rng, {"type": or_else(rng, "string")})}),
    }
    function = {"name": or_else(rng, rng.choice(WORDS)), "parameters": or_else(rng, schema)}
    return {"type": or_else(rng, "function"), "function": or_else(rng, function)}


def _call(rng: random.Random) -> dict[str, Any]:
    arguments = rng.choice(("{}", '{"a": 1}', "{", "[]", "null", '{"intent": "refund"}'))
    return {
        "id": or_else(rng, "c"), "index": or_else(rng, rng.randrange(3)), "type": or_else(rng, "function"),
        "function": or_else(rng, {"name": or_else(rng, "f"), "arguments": or_else(rng, arguments)}),
    }  # fmt: skip


def _message(rng: random.Random, texts: list[str]) -> Any:
    text = rng.choice(texts) if rng.random() < 0.7 else rng.choice(WORDS)
    parts = [or_else(rng, {"type": "text", "text": or_else(rng, text)}) for _ in range(rng.randrange(3))]
    message = {
        "role": or_else(
            rng, rng.choice(("user", "user", "user", "system", "assistant", "tool", "developer"))
        ),
        "content": or_else(rng, text if rng.random() < 0.8 else parts),
    }
    if rng.random() < 0.1:
        message["tool_calls"] = or_else(rng, [or_else(rng, _call(rng)) for _ in range(rng.randrange(3))])
    return or_else(rng, message)


def chat_body(rng: random.Random, texts: list[str]) -> Any:
    """Give a chat completion request, of which each part may be anything."""
    schema = {"type": "object", "properties": {"intent": or_else(rng, {"type": "string"})}}
    formats = (
        {"type": "text"}, {"type": "json_object"},
        {"type": "json_schema", "json_schema": or_else(rng, {"name": "i", "schema": or_else(rng, schema)})},
    )  # fmt: skip
    parts = {
        "tools": [or_else(rng, _function(rng)) for _ in range(rng.randrange(3))],
        "tool_choice": rng.choice(
            ("auto", "none", "required", {"type": "function", "function": or_else(rng, {"name": "f"})})
        ),
        "response_format": rng.choice(formats), "stream": rng.random() < 0.7,
        "stream_options": {"include_usage": True}, "n": rng.choice((1, 2)), "modalities": ["text"],
        "logprobs": False, "max_tokens": 5, "user": "u",
    }  # fmt: skip
    body = {
        "model": or_else(rng, rng.choice((f"cascade/{NODE}", f"cascade/{NODE}", "m", "cascade/nope"))),
        "messages": or_else(rng, [_message(rng, texts) for _ in range(rng.choice((1, 1, 1, 2, 3, 0)))]),
    }
    for name, plausible in parts.items():
        if rng.random() < 0.2:
            body[name] = or_else(rng, plausible)
    return or_else(rng, body)


def completion(rng: random.Random) -> bytes:
    """Give what a frontier answers: a status line, headers and a body, each of them maybe nonsense."""
    said = {
        "role": or_else(rng, "assistant"),
        "content": or_else(rng, rng.choice(("refund", '{"intent": "refund"}', None))),
    }
    if rng.random() < 0.3:
        said["tool_calls"] = or_else(rng, [or_else(rng, _call(rng)) for _ in range(rng.randrange(3))])
    finish = or_else(rng, rng.choice(("stop", "length", "content_filter", "tool_calls", None)))
    usage = or_else(rng, {"prompt_tokens": or_else(rng, 3), "completion_tokens": or_else(rng, 4)})
    streams = rng.random() < 0.4
    if streams:
        chunks = [
            or_else(rng, {"choices": or_else(rng, [or_else(rng, {"delta": or_else(rng, said)})])}),
            or_else(rng, {"choices": [{"delta": {}, "finish_reason": finish}]}),
            or_else(rng, {"choices": [], "usage": usage}),
        ]
        ends = (b"\n\n", b"\n\n", b"\r\n\r\n", b"\n")
        body = (
            b"".join(b"data: " + _dumps(chunk) + rng.choice(ends) for chunk in chunks) + b"data: [DONE]\n\n"
        )
    else:
        choice = or_else(rng, {"index": 0, "message": or_else(rng, said), "finish_reason": finish})
        answer = {"id": "x", "model": or_else(rng, "big"), "choices": or_else(rng, [choice]), "usage": usage}
        body = _dumps(or_else(rng, answer))
    if rng.random() < 0.15:
        body = body[: rng.randrange(len(body) + 1)]
    status = rng.choice((200,) * 8 + (204, 301, 400, 401, 404, 422, 429, 500, 503, 599))
    kind = "text/event-stream" if streams else "application/json"
    size = len(body) if rng.random() < 0.95 else rng.randrange(2 * len(body) + 2)
    named = str(or_else(rng, kind)).replace("\0", "?").encode("utf-8", "replace")
    head = b"HTTP/1.1 %d x\r\ncontent-type: %b\r\ncontent-length: %d\r\n" % (status, named, size)
    head += b"connection: close\r\n"
    if rng.random() < 0.05:
        head += rng.choice(
            (b"retry-after: soon\r\n", b"x: \xff\r\n", b"content-encoding: gzip\r\n", b"bad\r\n")
        )
    return rng.randbytes(rng.randrange(60)) if rng.random() < 0.03 else head + b"\r\n" + body


def _dumps(data: Any) -> bytes:
    return json.dumps(data, ensure_ascii=False).encode("utf-8", "surrogatepass")


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
            body = _dumps(chat_body(rng, self._texts))
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
        return rng.choice(methods), path, _dumps(value(rng)) if rng.random() < 0.5 else b""

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
