"""The `chat` rung: a model behind an OpenAI-compatible API, such as the frontier teacher."""

from __future__ import annotations

import asyncio
import os
import random
import re
import threading
import time
from concurrent.futures import CancelledError, Future
from typing import Any
from urllib.parse import urlsplit

import openai
import stamina
import stamina.instrumentation
from openai.types.chat import ChatCompletion

from cascade.contract import Contract, JsonValue
from cascade.errors import (
    CascadeError,
    ConfigError,
    DeadlineExceeded,
    RungError,
    TeacherUnavailable,
)
from cascade.event_loop import CHAT
from cascade.rungs.breaker import CircuitBreaker, shared_breaker
from cascade.rungs.chat_replies import Replies, TryAgain
from cascade.rungs.chat_settings import ChatSettings
from cascade.rungs.connections import http_client
from cascade.rungs.failure_log import failure_log
from cascade.rungs.identity import ChatIdentity, digest
from cascade.rungs.prompt import Prompt, chat_messages, with_instruction
from cascade.rungs.protocol import Answer, Answers, Batch, Query

# By default stamina would log through structlog, which prints to stdout where nobody has set it up, and says
# each try. `failure_log` says what failed.
stamina.instrumentation.set_on_retry_hooks([])

_WAIT_FIRST, _WAIT_MAX = 0.1, 5.0


class ChatRung:
    """Asks a chat model over HTTP.

    Every query's outcome is an `Answer`, failures included, with what all its tries cost.

    Parameters
    ----------
    settings : ChatSettings
        How the model is reached.
    prompt : str
        Template of the prompt, see `cascade.rungs.prompt.Prompt`. It becomes the one user message; for a
        chat it becomes a system message that goes before the chat.
    contract : Contract
        What an answer is.
    breaker : CircuitBreaker, optional
        By default the one that all rungs of this process share for the same server and model.

    Raises
    ------
    ConfigError
        The key's environment variable is not set, or the prompt is not a valid template.
    """

    def __init__(
        self,
        settings: ChatSettings,
        prompt: str,
        contract: Contract,
        breaker: CircuitBreaker | None = None,
    ) -> None:
        self.settings = settings
        self.name = settings.name
        self.contract = contract
        self._template = prompt
        self.breaker = breaker or shared_breaker(settings.base_url, settings.model)
        self._prompt = Prompt(prompt, contract, settings.name)
        self._structured = settings.structured
        self._where = f"{self.name!r} ({urlsplit(settings.base_url).hostname}, model {settings.model!r})"
        self._slots = asyncio.Semaphore(settings.max_concurrency)
        self._lock = threading.Lock()
        self._flying: set[Future[Answer]] = set()
        self._closed = False
        key = _read_key(settings)
        self._replies = Replies(settings, contract, self._where, key)
        self._client = openai.AsyncOpenAI(
            api_key=key,
            base_url=settings.base_url,
            max_retries=0,
            # One try as a whole is limited by asyncio; this is for each phase of it.
            timeout=settings.timeout_seconds,
            http_client=http_client(settings.max_concurrency),
        )
        # The client reads these from the environment; they are not meant for this server.
        self._client.organization = self._client.project = None

    @property
    def identity(self) -> ChatIdentity:
        """What a bundle records of it."""
        return ChatIdentity(self.settings.model, digest(self._template))

    def answer(self, batch: Batch) -> Answers:
        """Ask all queries of a batch at once and wait for their answers."""
        futures = [self.submit(query) for query in batch.queries]
        try:
            return Answers([self._wait(future) for future in futures])
        except BaseException:
            for future in futures:
                future.cancel()
            raise

    def _wait(self, future: Future[Answer]) -> Answer:
        try:
            return future.result()
        except CancelledError:  # by close()
            return Answer(error=TeacherUnavailable(f"chat rung {self._where} was closed"))

    def submit(self, query: Query) -> Future[Answer]:
        """Ask one query.

        Returns
        -------
        Future
            Gives an `Answer` and never raises. Cancelling it drops the HTTP request.
        """
        try:
            prompt = self._prompt.render(query)
        except RungError as error:
            failure_log.say(str(error))
            return _done(Answer(error=error))
        with self._lock:
            if self._closed:
                return _done(Answer(error=TeacherUnavailable(f"chat rung {self._where} is closed")))
            future = CHAT.start(self._ask(query, prompt))
            self._flying.add(future)
        future.add_done_callback(self._landed)
        return future

    def close(self) -> None:
        """Drop what is under way and close the connections."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            flying = list(self._flying)
        for future in flying:
            future.cancel()
        CHAT.start(self._client.close()).result(10)

    def _landed(self, future: Future[Answer]) -> None:
        with self._lock:
            self._flying.discard(future)

    async def _ask(self, query: Query, prompt: str) -> Answer:
        answer = Answer()
        left = None if query.deadline is None else query.deadline - time.monotonic()
        try:
            if left is not None and left <= 0:
                raise DeadlineExceeded(self.name)
            async with asyncio.timeout(left), self._slots:
                answer.value = await self._persist(query, prompt, answer)
        except TimeoutError:
            answer.error = DeadlineExceeded(self.name)
        except CascadeError as error:
            answer.error = error
        except Exception as error:  # a bug here or in the client must not lose the answer's cost
            answer.error = RungError(f"chat rung {self._where} failed: {type(error).__name__}")
        if isinstance(answer.error, RungError):
            failed = str(answer.error)
            failure_log.say(failed, failed.partition("; ")[0])  # however many tries there was time for
        return answer

    async def _persist(self, query: Query, prompt: str, answer: Answer) -> JsonValue:
        tries = 0
        by_deadline = False

        def pause(error: Exception) -> bool | float:
            nonlocal by_deadline
            if not isinstance(error, TryAgain):
                return False
            wait = error.retry_after
            if wait is None:
                wait = min(_WAIT_MAX, _WAIT_FIRST * 2 ** (tries - 1)) * random.uniform(0.5, 1.0)
            attempts = self.settings.attempts
            left = self.settings.timeout_seconds
            if query.deadline is not None:
                left = query.deadline - time.monotonic()
                more = tries < attempts and wait < self.settings.timeout_seconds
                by_deadline = more and wait >= left
            if wait >= left:
                return False
            if tries < attempts:
                failure_log.say(f"{error}; try {tries + 1} of {attempts} in {wait:.1f} s", f"{error}; try")
            return wait

        try:
            async for attempt in stamina.retry_context(
                on=pause, attempts=self.settings.attempts, timeout=None
            ):
                with attempt:
                    tries += 1
                    return self._replies.value(await self._try(query, prompt), answer)
        except TryAgain as error:
            failure = TeacherUnavailable(
                f"{error}; gave up after {tries} of {self.settings.attempts} tries", error.retry_after
            )
            failure.by_deadline = by_deadline
            raise failure from None
        raise AssertionError("unreachable")

    async def _try(self, query: Query, prompt: str) -> object:
        """Make one try; the one repetition without structured output belongs to it."""
        permit = self.breaker.acquire()
        if permit is None:
            raise TeacherUnavailable(
                f"chat rung {self._where} failed repeatedly and is not asked for now",
                max(self.breaker.retry_after(), 0.01),
            )
        began = time.monotonic()
        limit = self.settings.timeout_seconds
        try:
            async with asyncio.timeout(limit):
                reply = await self._request(query, prompt)
        except (TimeoutError, openai.APITimeoutError):
            self.breaker.failed(permit)
            raise TryAgain(f"chat rung {self._where} did not answer in {limit:g} s") from None
        except openai.APIConnectionError as error:
            self.breaker.failed(permit)
            why = type(error.__cause__ or error).__name__
            raise TryAgain(f"chat rung {self._where} cannot be reached ({why})") from None
        except openai.APIStatusError as error:
            # Any other answer, even a refusal of the key, shows that the server is alive.
            (self.breaker.failed if error.status_code >= 500 else self.breaker.succeeded)(permit)
            raise self._replies.error(error) from None
        except asyncio.CancelledError:
            # A caller that hardly waited has learnt nothing about the server.
            waited = time.monotonic() - began
            if waited >= limit / 2:
                self.breaker.failed(permit)
                failure_log.say(
                    f"chat rung {self._where} had not answered after {waited:.1f} s, when its caller left",
                    f"{self._where} is slow",
                )
            else:
                self.breaker.released(permit)
            raise
        except Exception as error:
            self.breaker.succeeded(permit)
            why = type(error).__name__
            raise RungError(f"chat rung {self._where} sent no chat completion ({why})") from None
        self.breaker.succeeded(permit)
        return reply

    async def _request(self, query: Query, prompt: str) -> object:
        schema = self.contract.answer_schema(query.choices)
        if self._structured:
            try:
                return await self._post(query, prompt, schema)
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                if not re.search("response_format|json_schema", f"{error.param} {error.body}"):
                    raise
                self._structured = False
        return await self._post(query, with_instruction(prompt, schema), None)

    async def _post(self, query: Query, prompt: str, schema: dict[str, Any] | None) -> object:
        body: dict[str, Any] = {"model": self.settings.model, "messages": chat_messages(query, prompt)}
        if schema is not None:
            wanted = {"name": "answer", "strict": True, "schema": schema}
            body["response_format"] = {"type": "json_schema", "json_schema": wanted}
        if self.settings.temperature is not None:
            body["temperature"] = self.settings.temperature
        if self.settings.max_tokens is not None:
            body["max_tokens"] = self.settings.max_tokens
        options: Any = {"headers": {"traceparent": query.trace}} if query.trace else {}
        # `chat.completions.create` walks through every label of the schema; `post` sends it as it is.
        return await self._client.post(
            "/chat/completions", cast_to=ChatCompletion, body=body, options=options
        )


def _read_key(settings: ChatSettings) -> str:
    if settings.api_key_env is None:
        return "none"
    key = os.environ.get(settings.api_key_env, "").strip()
    if not key:
        raise ConfigError(
            f"rung {settings.name!r} wants its API key in the environment variable "
            f"{settings.api_key_env}, which is not set"
        )
    return key


def _done(answer: Answer) -> Future[Answer]:
    future: Future[Answer] = Future()
    future.set_result(answer)
    return future
