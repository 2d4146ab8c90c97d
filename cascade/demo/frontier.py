"""The simulated frontier: a local HTTP server that speaks the OpenAI API and replays recorded answers.

It is no model. It knows the answers that it was given and nothing else, and says so in its model id.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import statistics
import threading
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from cascade.contract import JsonValue
from cascade.demo.completions import SSE, chunks, said_text, text_of, tool_call
from cascade.demo.recorded import Recorded
from cascade.text import flatten_messages

MODEL = "simulated-frontier"
NO_ANSWER = (
    "the_simulated_frontier_has_no_recorded_answer"  # the code is all that a chat rung tells of an error
)

_MAX_BODY = 16 << 20
_LOOK_SECONDS = 0.2  # how often a slow answer looks whether its client is still there
_NORMAL = statistics.NormalDist()
_REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 413: "Content Too Large"}


@dataclass(slots=True)
class Faults:
    """What goes wrong; every field may be set while the server runs.

    Attributes
    ----------
    error_rate : float
        Share of requests that get `error_status`.
    timeout_rate : float
        Share of requests that are never answered.
    garbage_rate : float
        Share of answers that are cut in the middle of a JSON object.
    refusal_rate : float
        Share of answers that are a refusal.
    refuse_all : bool
        Whether every request gets HTTP 503, as from a server that is down.
    fail_next : int
        How many of the next requests get `error_status`, whatever the rates.
    error_status : int
        The HTTP status of errors.
    retry_after : float, optional
        Sent as the header `Retry-After` of errors.
    no_response_format : bool
        Whether a `response_format` is refused with HTTP 400, as by a server without structured output.
    """

    error_rate: float = 0.0
    timeout_rate: float = 0.0
    garbage_rate: float = 0.0
    refusal_rate: float = 0.0
    refuse_all: bool = False
    fail_next: int = 0
    error_status: int = 500
    retry_after: float | None = None
    no_response_format: bool = False


class _HttpError(Exception):
    def __init__(self, status: int, message: str, code: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = {
            "error": {"message": message, "type": "simulated_error", "code": code, "param": param},
        }


class SimulatedFrontier:
    """Serves `POST /v1/chat/completions`, streamed or not, and `GET /v1/models` from a thread of its own.

    Parameters
    ----------
    answers : mapping of str to JSON value
        The answer to each input, found as `Recorded` says.
    latency_ms : float
        Median latency in milliseconds.
    latency_spread : float
        Sigma of the log-normal latency; 0 for none.
    seed : int
        With the request's text it determines latency and faults.
    faults : Faults, optional
        What goes wrong.
    port : int
        TCP port on 127.0.0.1; 0 for any free one.
    api_key : str, optional
        The only key that is let in; by default any is.

    Examples
    --------
    >>> with SimulatedFrontier({"where is my card?": "card_arrival"}) as frontier:
    ...     frontier.url.startswith("http://127.0.0.1:")
    True
    """

    def __init__(
        self,
        answers: Mapping[str, JsonValue],
        latency_ms: float = 0.0,
        latency_spread: float = 0.0,
        seed: int = 0,
        faults: Faults | None = None,
        port: int = 0,
        api_key: str | None = None,
    ) -> None:
        self.faults = faults or Faults()
        self.requests = 0
        """Chat completions that were asked for."""
        self.abandoned = 0
        """Those whose client went away before the answer."""
        self.traceparents: list[str] = []
        """The trace context that came with requests, as far as it did."""
        self._recorded = Recorded(answers)
        self._latency, self._spread, self._seed = latency_ms / 1000, latency_spread, seed
        self._key = api_key
        self._asked: Counter[str] = Counter()
        self._writers: set[asyncio.StreamWriter] = set()
        started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, int]] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(port, started), name="simulated-frontier", daemon=True
        )
        self._thread.start()
        self._loop, self._stop, self.port = started.result()

    @property
    def url(self) -> str:
        """The base URL for an OpenAI client."""
        return f"http://127.0.0.1:{self.port}/v1"

    def close(self) -> None:
        """Stop; open connections are dropped."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()

    def __enter__(self) -> SimulatedFrontier:
        """Give the running server."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the server."""
        self.close()

    def _run(self, port: int, started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, int]]) -> None:
        async def serve() -> None:
            stop = asyncio.Event()
            server = await asyncio.start_server(self._connection, "127.0.0.1", port, backlog=512)
            started.set_result((asyncio.get_running_loop(), stop, server.sockets[0].getsockname()[1]))
            await stop.wait()
            server.close()
            for writer in self._writers:
                writer.transport.abort()

        try:
            asyncio.run(serve())
        except OSError as error:  # the port is taken: the constructor raises it
            started.set_exception(error)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the client went away, or does not speak HTTP
        except asyncio.CancelledError:
            pass  # close() was called
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        request_line, *lines = head.split("\r\n")
        method, _, rest = request_line.partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        keep = headers.get("connection", "").lower() != "close"
        streamed: dict[str, Any] | None = None
        try:
            size = int(headers.get("content-length", "0"))
            if not 0 <= size <= _MAX_BODY or "transfer-encoding" in headers:
                keep = False  # the body is not read, so the connection cannot go on
                raise _HttpError(413, "a body of a stated length up to 16 MiB is needed", "bad_length")
            raw = await reader.readexactly(size)
            status = 200
            body, streamed = await self._answer(method, path, headers, raw, reader)
        except _HttpError as error:
            status, body = error.status, error.body
        kind, payload = "application/json", json.dumps(body).encode()
        if streamed is not None:
            kind, payload = SSE, b"".join(chunks(body, streamed))
        retry = self.faults.retry_after if status >= 429 else None
        writer.write(
            f"HTTP/1.1 {status} {_REASONS.get(status, 'Error')}\r\nContent-Type: {kind}\r\n"
            f"Content-Length: {len(payload)}\r\nConnection: {'keep-alive' if keep else 'close'}\r\n"
            f"{'' if retry is None else f'Retry-After: {retry:g}' + chr(13) + chr(10)}\r\n".encode()
            + payload
        )
        await writer.drain()
        return keep

    async def _answer(
        self, method: str, path: str, headers: dict[str, str], raw: bytes, reader: asyncio.StreamReader
    ) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """Give the response's body, and the request where the body is to be streamed."""
        if (method, path) == ("POST", "/v1/chat/completions"):
            self.requests += 1
            if "traceparent" in headers:
                self.traceparents.append(headers["traceparent"])
        if self.faults.refuse_all:
            raise _HttpError(503, "the simulated frontier is down", "unavailable")
        if self._key is not None and headers.get("authorization") != f"Bearer {self._key}":
            raise _HttpError(401, "this key is not let in", "invalid_api_key")
        if (method, path) == ("GET", "/v1/models"):
            listed = [{"id": MODEL, "object": "model", "created": 0, "owned_by": "cascade"}]
            return {"object": "list", "data": listed}, None
        if (method, path) != ("POST", "/v1/chat/completions"):
            raise _HttpError(404, f"there is no {method} {path[:80]}", "not_found")
        try:
            request = json.loads(raw)
            chat = [(str(m["role"]), said_text(m)) for m in request["messages"]]
        except (ValueError, TypeError, LookupError) as error:
            raise _HttpError(400, "the body is not a chat completion request", "bad_request") from error
        return await self._complete(request, chat, reader), request if request.get("stream") else None

    async def _complete(
        self, request: dict[str, Any], chat: list[tuple[str, str]], reader: asyncio.StreamReader
    ) -> dict[str, Any]:
        faults, text = self.faults, flatten_messages(chat)
        response_format = request.get("response_format") or {}
        if faults.no_response_format and response_format:
            raise _HttpError(400, "response_format is not supported", "unsupported", "response_format")
        # The same text meets other faults when it is asked again, or retries would be pointless.
        self._asked[text] += 1
        turn = self._asked[text]
        if self._chance("timeout", text, turn) < faults.timeout_rate:
            await self._wait(math.inf, reader)
        noise = _NORMAL.inv_cdf(self._chance("latency", text, 0))
        await self._wait(self._latency * math.exp(self._spread * noise), reader)
        if faults.fail_next > 0 or self._chance("error", text, turn) < faults.error_rate:
            faults.fail_next = max(0, faults.fail_next - 1)
            raise _HttpError(faults.error_status, "a simulated error", "simulated")
        try:
            found = self._recorded.answer(chat)
        except LookupError:
            why = f"{MODEL} has no recorded answer to this text; it is no model"
            raise _HttpError(404, why, NO_ANSWER) from None
        content = text_of(found, response_format)
        refusal = None
        finish = "stop"
        call = tool_call(found, request, _digest(f"{text}:{turn}").hex())
        if self._chance("refusal", text, turn) < faults.refusal_rate:
            content, refusal, call = "", "I cannot help with that.", None
        elif self._chance("garbage", text, turn) < faults.garbage_rate:
            content = '{"label": "gar'
        limit = request.get("max_completion_tokens") or request.get("max_tokens")
        if limit and math.ceil(len(content) / 4) > limit:
            content, finish = content[: 4 * limit], "length"
        read = sum(math.ceil(len(said) / 4) for _, said in chat)
        written = math.ceil(len(refusal or content) / 4)
        said = None if refusal or call else content
        message: dict[str, Any] = {"role": "assistant", "content": said, "refusal": refusal}
        if call:
            message["tool_calls"], finish = [call], "tool_calls"
        return {
            "id": f"simulated-{_digest(f'{self._seed}:{text}:{turn}')[:8].hex()}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": MODEL,
            "choices": [{"index": 0, "message": message, "finish_reason": finish, "logprobs": None}],
            "usage": {
                "prompt_tokens": read,
                "completion_tokens": written,
                "total_tokens": read + written,
            },
        }

    async def _wait(self, seconds: float, reader: asyncio.StreamReader) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            await asyncio.sleep(min(left, _LOOK_SECONDS))
            if reader.at_eof():
                self.abandoned += 1
                raise ConnectionResetError("the client went away")

    def _chance(self, what: str, text: str, turn: int) -> float:
        """Give a number strictly between 0 and 1 that depends on the seed and the arguments alone."""
        number = int.from_bytes(_digest(f"{self._seed}:{what}:{turn}:{text}")[:6], "big")
        return (number + 0.5) / 2**48


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
