"""An agent's call once more, for an audit: the frontier is asked as the agent asked."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from cascade.errors import RungError, TeacherUnavailable
from cascade.gateway.relay import Relay
from cascade.gateway.shape import AnswerShape
from cascade.gateway.upstream import Upstream
from cascade.rungs.chat_replies import PASSING
from cascade.rungs.protocol import Answer, Query


class AuditCall:
    """Sends a call that the ladder settled to the frontier, after the agent was answered.

    It is the `cascade.ask.Teacher` of the question's audit. An audit waits for as long as the frontier is
    down, so this keeps what was said and nothing of the connection that it came by; a key of the agent's own
    is kept in memory only.

    Parameters
    ----------
    upstream : Upstream
    body : JSON object
        The request as the agent sent it, but for the model's name.
    headers : mapping of str to str
        From `Upstream.headers`.
    shape : AnswerShape
        How the completion is read as the node's value.
    loop : asyncio.AbstractEventLoop
        The upstream's.
    """

    def __init__(
        self,
        upstream: Upstream,
        body: Mapping[str, Any],
        headers: Mapping[str, str],
        shape: AnswerShape,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._upstream, self._body, self._headers = upstream, body, headers
        self._shape, self._loop = shape, loop

    def submit(self, query: Query) -> Future[Answer]:
        """Send the request; may be called by any thread, and more than once."""
        asking = self._ask()
        try:
            return asyncio.run_coroutine_threadsafe(asking, self._loop)
        except RuntimeError:  # the HTTP side has ended
            asking.close()
            ended: Future[Answer] = Future()
            ended.set_result(Answer(error=TeacherUnavailable("the connections to the upstream are closed")))
            return ended

    async def _ask(self) -> Answer:
        # Nobody reads along, so the answer is taken in one piece.
        whole = {
            name: value for name, value in self._body.items() if name not in ("stream", "stream_options")
        }
        relay = Relay(self._upstream, whole, self._headers, self._shape)
        relay.start()
        try:
            await relay.begun.wait()
            if relay.streams:  # some servers stream all the same
                with suppress(TeacherUnavailable):
                    async for _ in relay.events():
                        pass
            await relay.done()
        except asyncio.CancelledError:
            relay.cancel()
            raise
        answer = relay.answer()
        ours = relay.answered == 401 and relay.failure is not None  # our key is wrong until somebody mends it
        if 400 <= relay.answered < 500 and relay.answered not in PASSING and not ours:
            # The frontier is there and does not want this call: other audits need not wait for it.
            answer.error = RungError(str(answer.error))
        return answer
