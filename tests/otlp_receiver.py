"""A collector on loopback: takes OTLP over HTTP, decodes the protobuf, and can be slow, or refuse."""

from __future__ import annotations

import gzip
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

_OPENED: dict[str | None, Callable[[bytes], bytes]] = {"gzip": gzip.decompress, "deflate": zlib.decompress}


class Receiver:
    """What a collector took.

    Attributes
    ----------
    endpoint : str
    requests : list of ExportTraceServiceRequest
        Those that were answered with 200.
    headers : list of dict
        Of every call, in lower case.
    statuses : list of (int, dict)
        How the next calls are answered, with which headers; 200 once there are no more.
    rejected : int
        How many spans of each message it says it refused.
    go : threading.Event
        No call is answered while it is not set.
    """

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.requests: list[ExportTraceServiceRequest] = []
        self.headers: list[dict[str, str]] = []
        self.statuses: list[tuple[int, dict[str, str]]] = []
        self.rejected = 0
        self.go = threading.Event()
        self.go.set()

    @property
    def spans(self) -> list[Any]:
        """Every span that came, in order."""
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def wait(self, spans: int, seconds: float = 20) -> list[Any]:
        """Wait until so many spans came."""
        end = time.monotonic() + seconds
        while len(self.spans) < spans:
            assert time.monotonic() < end, f"{len(self.spans)} of {spans} spans came"
            time.sleep(0.01)
        return self.spans


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Run a collector."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            receiver.headers.append({name.lower(): value for name, value in self.headers.items()})
            receiver.go.wait(30)
            status, headers = receiver.statuses.pop(0) if receiver.statuses else (200, {})
            answer = b""
            if status == 200:
                opened = _OPENED.get(self.headers.get("content-encoding"), bytes)(body)
                receiver.requests.append(ExportTraceServiceRequest.FromString(opened))
                said = ExportTraceServiceResponse()
                if receiver.rejected:
                    said.partial_success.rejected_spans = receiver.rejected
                answer = said.SerializeToString()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver = Receiver(f"http://127.0.0.1:{server.server_port}/v1/traces")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.go.set()
        server.shutdown()
        server.server_close()
        thread.join()


def named(span: Any) -> dict[str, Any]:
    """Give a span's attributes."""
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes}
