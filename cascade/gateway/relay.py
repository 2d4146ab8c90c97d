"""One call to the frontier: given to the agent as it comes, and to the engine as the teacher's answer."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from cascade.errors import RungError, TeacherUnavailable, UnreadableAnswer, UnusableAnswer
from cascade.gateway.accumulate import Events, Said, data_of
from cascade.gateway.shape import AnswerShape, Unfit, Wordless
from cascade.gateway.told import key_in, told
from cascade.gateway.unstated import UNSEEN_PER_SECOND, most_tokens, request_tokens, tokens
from cascade.gateway.upstream import Upstream
from cascade.rungs.chat_replies import PASSING
from cascade.rungs.failure_log import failure_log
from cascade.rungs.protocol import Answer, Query
from cascade.server.gone import CallerGone
from cascade.traffic.strict_json import Refused, parse

_log = logging.getLogger(__name__)

_AHEAD = 256  # events that are read before a slow agent takes them


class Relay:
    """Sends one chat completion request upstream, once it is told to.

    It is the `cascade.ask.Teacher` of its question: when the ladder does not settle, the engine asks it, and
    the frontier is sent what the agent said, not the node's prompt.

    Parameters
    ----------
    upstream : Upstream
    body : JSON object
        The request as the agent sent it, but for the model's name.
    headers : mapping of str to str
        From `Upstream.headers`.
    shape : AnswerShape, optional
        How the completion is read as the node's value; None where it is of no node, or cannot be read.
    why_unread : str
        Why there is no shape.
    raw : bytes, optional
        The request's own bytes, sent as they are where nothing in it is changed.
    whole : bool
        Whether the agent is given nothing before all of it has come.
    pay : callable, optional
        Told at the end what the call cost, in dollars, unless the engine was told it with the answer.
    """

    def __init__(
        self,
        upstream: Upstream,
        body: Mapping[str, Any],
        headers: Mapping[str, str],
        shape: AnswerShape | None = None,
        why_unread: str = "",
        raw: bytes | None = None,
        whole: bool = False,
        pay: Callable[[float], object] = lambda _: None,
    ) -> None:
        self.upstream = upstream
        self.said = Said()
        self.status = self.answered = 0
        """What the agent is given, and what the upstream answered: it may have to do with us alone."""
        self.headers: dict[str, str] = {}
        self.body = b""
        self.streams = False
        """Whether the response is a stream of events; then `events` gives it, else `body` is all of it."""
        self.failure: TeacherUnavailable | None = None
        """Why there is no response at all."""
        self.begun = asyncio.Event()
        """Set once `status` or `failure` is known, and `body` where it is no stream."""
        self.asked = self.taught = False
        """Whether the call was sent, and whether it was the engine who asked for it."""
        self._request, self._raw, self._sent_headers = dict(body), raw, dict(headers)
        self._shape, self._why_unread = shape, why_unread
        self._loop = asyncio.get_running_loop()
        self._whole, self._pay = whole, pay
        self._key = upstream.key
        self._events: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._room = asyncio.Event()  # set whenever the agent has taken an event
        self._task: asyncio.Task[None] | None = None
        self._under_way = self._left = False
        self._sent = self._shown = 0.0  # when (monotonic) all was sent, and something was first said
        self._answer: Future[Answer] = Future()
        options = self._request.get("stream_options")
        wanted = isinstance(options, dict) and options.get("include_usage")
        # Without it a stream does not tell what it cost; the agent, who did not ask, does not get to see it.
        self._adds_usage = (
            bool(self._request.get("stream")) and not wanted and isinstance(options, dict | None)
        )

    def submit(self, query: Query) -> Future[Answer]:
        """Send the request; may be called by any thread. See `cascade.ask.Teacher`."""
        self.asked = self.taught = True
        self._loop.call_soon_threadsafe(self.start)
        return self._answer

    def start(self) -> None:
        """Send the request; on the event loop. Does nothing the second time."""
        self.asked = True
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    def cancel(self) -> None:
        """Drop the call, or do not even begin it: the agent has gone."""
        self._left = True
        # A task that is cancelled before its first step never takes it, and would tell nobody.
        if self._task is not None and self._under_way:
            self._task.cancel()

    async def events(self) -> AsyncIterator[bytes]:
        """Give the events of a stream as they come."""
        try:
            while (event := await self._events.get()) is not None:
                self._room.set()
                yield event
        except BaseException:
            self.cancel()
            raise
        if self.failure is not None:
            # The status has been given; breaking off is how HTTP says that there is no more.
            raise self.failure

    async def done(self) -> None:
        """Wait until the response has come whole, or has failed."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        self._under_way = True
        try:
            if self._left:
                raise asyncio.CancelledError
            if not await self._once(self._adds_usage):
                await self._once(False)
        except TeacherUnavailable as error:
            self.failure = error
        except asyncio.CancelledError:
            self.failure = TeacherUnavailable("the agent went away before the answer")
        except Exception as error:  # a bug here must not leave the agent waiting
            _log.exception("passing a call on failed")
            self.failure = TeacherUnavailable(f"passing the call on failed ({type(error).__name__})")
        self._say_failure()
        self.begun.set()
        waited_for = self._answer.set_running_or_notify_cancel()
        if not (self.taught and waited_for):  # who left may have had the engine stop waiting
            try:
                self._pay(self.usd())
            except Exception:  # nor whoever waits for the end
                _log.exception("a call was not charged")
        if waited_for:
            self._answer.set_result(self.read())
        self._events.put_nowait(None)  # never waits for room: who was to make it may have gone

    def _say_failure(self) -> None:
        """Have the log say what the upstream failed at, unless the call or its caller's key was at fault."""
        error = self.error()
        theirs = self.upstream.callers_key or self.status not in PASSING
        if error is not None and not self._left and not (400 <= self.status < 500 and theirs):
            failure_log.say(f"{error} ({self.upstream.host})")

    async def _once(self, add_usage: bool) -> bool:
        """Make the call; False where it was refused for the option that we added."""
        request = self._request
        if add_usage:
            options = {**(request.get("stream_options") or {}), "include_usage": True}
            request = {**request, "stream_options": options}
        content = self._raw if request is self._request else None
        content = content or json.dumps(request).encode()
        async with self.upstream.open(
            "POST", "/chat/completions", self._sent_headers, content, self._all_sent
        ) as response:
            kind = response.headers.get("content-type", "")
            if response.status_code == 200 and kind.startswith("text/event-stream"):
                self.status, self.headers, self.streams = 200, self.upstream.given_headers(response), True
                self.begun.set()
                events = Events()
                async for raw in response.aiter_raw():
                    for event in events.feed(raw):
                        await self._take(event, add_usage)
                if rest := events.rest():
                    await self._take(rest, add_usage)
                return True
            body = b"".join([part async for part in response.aiter_raw()])
            if add_usage and response.status_code in (400, 422) and re.search(rb"stream_options|usage", body):
                return False
            status, headers = response.status_code, self.upstream.given_headers(response)
        if status == 200:
            with suppress(Refused):  # `answer` says where this was no completion
                self.said.take_completion(parse(body, repeated_keys=True))
        self.answered = status
        if not self.said.complete:
            headers, body = told(self.upstream, status, headers, body)
        self.status, self.headers, self.body = status, headers, body
        return True

    def _all_sent(self) -> None:
        self._sent = time.monotonic()

    async def _take(self, event: bytes, added_usage: bool) -> None:
        data = data_of(event)
        self.said.take_chunk(data)
        if self.said.bytes and not self._shown:
            self._shown = time.monotonic()
        if added_usage and isinstance(data, dict) and data.get("usage") and data.get("choices") == []:
            return
        chunk = isinstance(data, dict) and data.get("choices") and not data.get("error")
        if not chunk and self._key and key_in(event.decode("utf-8", "replace"), self._key):
            raise TeacherUnavailable(f"the upstream {self.upstream.name!r} broke its answer off by an error")
        self._events.put_nowait(event)
        # Who waits for the whole of it takes nothing before.
        while self._events.qsize() >= _AHEAD and not self._whole:
            self._room.clear()
            await self._room.wait()

    def used(self) -> tuple[int, int]:
        """Give the tokens that went in and came out: as the frontier says, or else by an estimate.

        What never reached the frontier, and what it answered with an error, took none.
        """
        said = self.said
        left = self._left and self._sent and self.answered in (0, 200)
        begun = self.status == 200 and (said.complete or said.bytes)
        if not (left or begun) or (said.told and (said.complete or not self.streams)):
            return said.input_tokens, said.output_tokens
        read, written = request_tokens(self._request), float(tokens(said.bytes))
        if self.streams and self._left:
            unseen = UNSEEN_PER_SECOND * ((self._shown or time.monotonic()) - self._sent)
            written = max(written, min(written + unseen, most_tokens(self._request)))
        return max(read, said.input_tokens), max(round(written), said.output_tokens)

    def usd(self) -> float:
        """Give what the call cost, in dollars."""
        price = self.upstream.rung.price
        read, written = self.used()
        return (read * price.input + written * price.output) / 1e6

    def error(self) -> RungError | None:
        """Say why there is no completion; None where there is one."""
        name = self.upstream.name
        if self.failure is not None:
            return self.failure
        if self.status != 200:
            return TeacherUnavailable(f"the upstream {name!r} answered HTTP {self.status}")
        if not self.said.complete:
            return RungError(f"the upstream {name!r} sent no whole chat completion")
        return None

    def read(self) -> Answer:
        """Give the completion as the teacher's answer; where a bug keeps it from being read, that."""
        try:
            return self.answer()
        except Exception as error:  # nobody who waits for it is to wait for ever
            _log.exception("reading a completion failed")
            return Answer(error=RungError(f"reading the completion failed ({type(error).__name__})"))

    def answer(self) -> Answer:
        """Give the completion as the teacher's answer."""
        said, (read, written) = self.said, self.used()
        answer = Answer(usd=self.usd(), input_tokens=read, output_tokens=written)
        answer.error = self.error()
        if answer.error is not None:
            if self._left:  # who asks the same, and waits for this answer, has not left
                answer.error = CallerGone()
            return answer
        if said.message.get("refusal") or said.finish_reason == "content_filter":
            answer.error = UnusableAnswer("the frontier refused to answer")
        elif said.finish_reason == "length":
            answer.error = UnusableAnswer("the frontier's answer was cut at its length limit")
        elif self._shape is None:
            answer.error = UnusableAnswer(f"the completion is not read as an answer: {self._why_unread}")
        else:
            try:
                answer.value = self._shape.read(said.message)
            except Unfit as error:
                kind = UnusableAnswer if isinstance(error, Wordless) else UnreadableAnswer
                answer.error = kind(f"the completion is not read as an answer: {error}")
        return answer
