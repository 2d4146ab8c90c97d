"""HTTP connections of a chat rung, kept so that hundreds at once cost no more each than one.

The pool of httpx looks at every connection for every request, which at 256 connections takes longer than
all else. Here each connection is a pool of its own on a stack of idle ones.
"""

from __future__ import annotations

import urllib.request
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import httpx2
import openai

_IDLE_SECONDS = 30.0


class StackTransport(httpx2.AsyncBaseTransport):
    """Sends each request on the connection that was given back last. The caller bounds how many there are."""

    def __init__(self) -> None:
        self._verify = httpx2.create_ssl_context()  # costs tens of milliseconds, so all share one
        self._limits = httpx2.Limits(
            max_connections=1, max_keepalive_connections=1, keepalive_expiry=_IDLE_SECONDS
        )
        self._idle: list[httpx2.AsyncHTTPTransport] = []
        self._all: list[httpx2.AsyncHTTPTransport] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request."""
        if self._idle:
            transport = self._idle.pop()
        else:
            transport = httpx2.AsyncHTTPTransport(verify=self._verify, limits=self._limits)
            self._all.append(transport)
        try:
            response = await transport.handle_async_request(request)
        except BaseException:
            self._idle.append(transport)  # it has closed its connection and opens another
            raise
        stream = cast(httpx2.AsyncByteStream, response.stream)
        response.stream = _Borrowed(stream, lambda: self._idle.append(transport))
        return response

    async def aclose(self) -> None:
        """Close all connections."""
        for transport in self._all:
            await transport.aclose()


class _Borrowed(httpx2.AsyncByteStream):
    """A response's body that gives its connection back when it is closed."""

    def __init__(self, stream: httpx2.AsyncByteStream, give_back: Callable[[], None]) -> None:
        self._stream = stream
        self._give_back: Callable[[], None] | None = give_back

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._stream:
            yield part

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            give_back, self._give_back = self._give_back, None
            if give_back is not None:
                give_back()


def http_client(max_concurrency: int) -> httpx2.AsyncClient:
    """Give the HTTP client for a chat rung. It follows no redirects: the key goes to one server only."""
    options: dict[str, Any] = {"follow_redirects": False}
    if urllib.request.getproxies():  # httpx heeds the environment's proxies in its own pool only
        options["limits"] = httpx2.Limits(
            max_connections=max_concurrency, max_keepalive_connections=max_concurrency
        )
    else:
        options["transport"] = StackTransport()
    return openai.DefaultAsyncHttpxClient(**options)
