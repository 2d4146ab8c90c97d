"""How much is under way on the HTTP side, and the refusal of what would be too much."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cascade.errors import Overloaded
from cascade.gateway.replies import Busy, error_reply

_TENANT = "cascade.tenant"
_FREE = "/healthz"
_API = "/v1/"
_MAX_ASIDE = 64
"""Requests under way at once of the page and the metrics, which must not be in the way of agents' calls, nor
they in theirs."""


class Load:
    """Bounds what is under way, as ASGI middleware. For the event loop's thread only.

    A call that comes while `max_in_flight` are under way is refused before anything of it is read; one whose
    body would be more than is held for all of them together, once that is seen. From half of that on, who has
    more than an even share under way is refused first (`admit_tenant`). Probes of `/healthz` always get in.

    Parameters
    ----------
    max_in_flight : int
        Calls of the API under way at once, streams that are being read included.
    max_held_bytes : int
        Bytes of their bodies, together.
    refused : callable
        Told of each call of the API that was refused.
    """

    def __init__(self, max_in_flight: int, max_held_bytes: int, refused: Callable[[], None]) -> None:
        self._max_in_flight, self._max_held_bytes = max_in_flight, max_held_bytes
        self._refused = refused
        self.in_flight = self.aside = self.held_bytes = 0
        self._tenants: Counter[str] = Counter()

    def around(self, app: ASGIApp) -> ASGIApp:
        """Give the application with the bounds in front of it."""

        async def bounded(scope: Scope, receive: Receive, send: Send) -> None:
            path = scope.get("path", "")
            if scope["type"] != "http" or path == _FREE:
                await app(scope, receive, send)
            elif path.startswith(_API):
                await self._api(app, scope, receive, send)
            else:
                await self._aside(app, scope, receive, send)

        return bounded

    def admit_tenant(self, scope: Scope, tenant: str) -> None:
        """Count a call as its tenant's, until it ends.

        Raises
        ------
        Overloaded
            Half of what may be under way is, and this tenant has more than an even share of it.
        """
        # A tenant that has nothing under way counts as one of those among whom it is shared.
        others = len(self._tenants.keys() - {tenant})
        mine = self._tenants.get(tenant, 0) + 1
        if 2 * self.in_flight > self._max_in_flight and others and mine * (others + 1) > self.in_flight:
            self._refused()
            raise Overloaded("the server is busy, and this tenant has more than its share under way", 1.0)
        self._tenants[tenant] += 1
        scope[_TENANT] = tenant

    async def _api(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        if self.in_flight >= self._max_in_flight:
            self._refused()
            error = Busy(f"{self._max_in_flight} calls are under way already; try again later", 1.0)
            await error_reply(error)(scope, receive, send)
            return
        held = 0

        async def counted() -> Message:
            nonlocal held
            message = await receive()
            size = len(message.get("body", b""))
            if size and self.held_bytes + size > self._max_held_bytes:
                self._refused()
                raise Busy("the bodies of the calls under way take too much memory; try again later", 1.0)
            held += size
            self.held_bytes += size
            return message

        self.in_flight += 1
        try:
            await app(scope, counted, send)
        finally:
            self.in_flight -= 1
            self.held_bytes -= held
            self._end(scope.get(_TENANT))

    async def _aside(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        if self.aside >= _MAX_ASIDE:
            await error_reply(Busy("too many requests are under way; try again later", 1.0))(
                scope, receive, send
            )
            return
        self.aside += 1
        try:
            await app(scope, receive, send)
        finally:
            self.aside -= 1

    def _end(self, tenant: Any) -> None:
        if tenant is None:
            return
        self._tenants[tenant] -= 1
        if not self._tenants[tenant]:
            del self._tenants[tenant]
