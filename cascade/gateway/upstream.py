"""The frontier's API as the agent would reach it without us."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx2

from cascade.config import ChatRungConfig
from cascade.errors import InvalidInput, TeacherUnavailable
from cascade.rungs.connections import http_client

_HOP_BY_HOP = frozenset({
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer",
    "transfer-encoding", "upgrade",
})  # fmt: skip
_NOT_SENT = _HOP_BY_HOP | {
    "host",
    "content-length",
    "accept-encoding",
    "cookie",
    "origin",
    "referer",
    "expect",
}
_ACCOUNT = frozenset({"openai-organization", "openai-project"})
"""Whose account of the owner's a call is billed to: not for who has a key of ours to say."""
_NOT_GIVEN = _HOP_BY_HOP | {"content-length", "content-encoding", "set-cookie", "date", "server", "alt-svc"}
_CONNECT_SECONDS = 10.0


class Upstream:
    """One chat rung's server.

    Redirects are not followed and no cookie is kept. Nothing is tried twice: the agent's own client does so.

    Parameters
    ----------
    name : str
        The rung's name.
    rung : ChatRungConfig
    timeout_seconds : float
        How long the server may be silent.
    own_key : bool
        Whether a caller's `authorization` is meant for this server. The key of the configuration wins over it
        where there is one.
    """

    def __init__(self, name: str, rung: ChatRungConfig, timeout_seconds: float, own_key: bool) -> None:
        self.name, self.rung, self._own_key = name, rung, own_key
        self._client = http_client(rung.max_concurrency)
        self._timeout = httpx2.Timeout(timeout_seconds, connect=min(timeout_seconds, _CONNECT_SECONDS))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    @property
    def key(self) -> str:
        """The service's own key; empty for none."""
        return os.environ.get(self.rung.api_key_env or "", "").strip()

    @property
    def host(self) -> str:
        """The server's name, for the log."""
        return urlsplit(self.rung.base_url).hostname or ""

    @property
    def callers_key(self) -> bool:
        """Whether a call has the caller's own key, or none: then all that is said of it is theirs."""
        return self._own_key and not self.key

    def headers(self, sent: Iterable[tuple[str, str]]) -> dict[str, str]:
        """Give the headers of a call upstream.

        Parameters
        ----------
        sent : iterable of (str, str)
            The caller's headers, names in lower case.
        """
        kept_out = _NOT_SENT if self._own_key else _NOT_SENT | _ACCOUNT
        headers = {
            name: value
            for name, value in sent
            if name not in kept_out and not name.startswith("x-cascade-") and name != "authorization"
        }
        # What comes is read as it is, so that it can be passed on byte by byte.
        headers["accept-encoding"] = "identity"
        key = self.key
        if key:
            headers["authorization"] = f"Bearer {key}"
        elif self._own_key:
            headers |= {name: value for name, value in sent if name == "authorization"}
        return headers

    @asynccontextmanager
    async def open(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        content: bytes | None = None,
        sent: Callable[[], object] | None = None,
    ) -> AsyncIterator[httpx2.Response]:
        """Start a call and give its response, the body not read yet.

        Parameters
        ----------
        path : str
            Below the rung's `base_url`, such as `/chat/completions`.
        sent : callable, optional
            Called once all of the request has gone out.

        Raises
        ------
        TeacherUnavailable
            The server cannot be reached, breaks off, or is silent for too long.
        InvalidInput
            The path cannot be one.
        """
        url = self.rung.base_url + path
        # As bytes, as they came: HTTP's headers need not be ASCII.
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]

        async def trace(event: str, _: Any) -> None:
            if sent is not None and event.endswith(".send_request_body.complete"):
                sent()

        try:
            async with self._client.stream(
                method, url, headers=raw, content=content, timeout=self._timeout, extensions={"trace": trace}
            ) as response:
                yield response
        except httpx2.InvalidURL:
            raise InvalidInput("path", "is none that is passed on") from None
        except httpx2.TimeoutException as error:
            why = f"did not answer in time ({type(error).__name__})"
            raise TeacherUnavailable(f"the upstream {self.name!r} {why}") from None
        except httpx2.HTTPError as error:
            raise TeacherUnavailable(
                f"the upstream {self.name!r} cannot be reached ({type(error).__name__})"
            ) from None

    def given_headers(self, response: httpx2.Response) -> dict[str, str]:
        """Give the headers of a response that the caller gets too."""
        key = self.key
        found = [
            (name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in response.headers.raw
        ]
        return {name: value for name, value in found if name not in _NOT_GIVEN and not (key and key in value)}
