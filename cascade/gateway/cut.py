"""What HTTP callers are told whose calls the end of a drain cuts: else the server sends a bare 500."""

from __future__ import annotations

import asyncio
import logging

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cascade.errors import ShuttingDown
from cascade.gateway.replies import error_reply

_log = logging.getLogger(__name__)


class Cut:
    """An app whose calls end in order when they are cancelled, which the HTTP server does when time is up.

    Whoever was told nothing yet gets 503, to be tried elsewhere; a stream that has begun breaks off.

    Parameters
    ----------
    app : ASGI application
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a call on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except asyncio.CancelledError:
            _log.warning("a call over HTTP was cut: it was still under way at the end of the drain")
            if not begun:
                reply = error_reply(ShuttingDown())
                await reply(scope, receive, send)
