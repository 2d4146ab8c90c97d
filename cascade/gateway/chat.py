"""`POST /v1/chat/completions`: to the frontier and into the log, or from the ladder where its node is live.

Whatever goes wrong on our side, the call still goes to the frontier. What the frontier answers, errors
included, the agent gets as it came, but for what is said of the service's own key (`cascade.gateway.told`).
One exception: who asks for the model `cascade/<node>` asks the node, and gets an error where even the
frontier breaks the contract of the node (`cascade.gateway.kept`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from cascade.ask import Ask, Decided
from cascade.config import Config
from cascade.errors import CascadeError
from cascade.gateway.audit_call import AuditCall
from cascade.gateway.completion import completion_of, stream_of
from cascade.gateway.entry import context_of, enter
from cascade.gateway.exchange import Exchange, call_of, headers_of
from cascade.gateway.kept import bare_json, body_with, events_with, why_not_kept
from cascade.gateway.load import Load
from cascade.gateway.reading import reading_of
from cascade.gateway.recognise import HEADER, Recogniser
from cascade.gateway.relay import Relay
from cascade.gateway.replies import chat_request, error_reply, raw_body
from cascade.gateway.shape import Unfit
from cascade.gateway.upstream import Upstream
from cascade.server.alone import Alone
from cascade.server.deciding import Deciding
from cascade.server.gate import Caller, Gate, overloaded
from cascade.server.lease import QuotaExceeded
from cascade.server.pool import ElasticPool
from cascade.traffic.records import Call

if TYPE_CHECKING:
    from cascade.observe.open import Observing

_log = logging.getLogger(__name__)

_SETTLE_SECONDS = 2.0  # how long a decision may still take once the frontier's answer is there

Told = Callable[[Call], None]
"""Takes a captured call; must not raise."""


class ChatCompletions:
    """The endpoint.

    Parameters
    ----------
    config : Config
        With an `http` section.
    engine : Deciding
    pool : ElasticPool
        Decides.
    upstreams : mapping of str to Upstream
        By chat rung.
    default : str
        The chat rung that takes the calls of no node.
    told : callable
        Takes each captured call.
    gate : Gate
        Says who may do what, and how much of it.
    load : Load
        Bounds what is under way.
    observing : Observing, optional
        What watches this process.
    """

    def __init__(
        self,
        config: Config,
        engine: Deciding,
        pool: ElasticPool,
        upstreams: Mapping[str, Upstream],
        default: str,
        told: Told,
        gate: Gate,
        load: Load,
        observing: Observing | None = None,
    ) -> None:
        assert config.http is not None
        self._config, self._http = config, config.http
        self._engine, self._pool = engine, pool
        self._alone = Alone(engine, pool)
        self._upstreams, self._default = upstreams, default
        self._told = told
        self._gate, self._load = gate, load
        self._metrics = observing.metrics if observing else None
        self._traces = observing.traces if observing else None
        self._recogniser = Recogniser(config)

    async def complete(self, request: Request) -> Response:
        """Answer one request."""
        try:
            caller = enter(self._gate, request, "decide")
            raw = await raw_body(request, self._http.max_body_bytes)
            exchange = await self._exchange(request, caller, chat_request(raw), raw)
        except ClientDisconnect:
            return Response(status_code=499)
        except CascadeError as error:
            return error_reply(error)
        watching = asyncio.create_task(_cancel_when_gone(request, exchange))
        try:
            return await self._answer(exchange)
        finally:
            watching.cancel()
            exchange.gone.end()

    async def _answer(self, exchange: Exchange) -> Response:
        if exchange.question is not None:
            try:
                response = await self._by_node(exchange)
            except Exception:  # a bug of ours is no reason for the agent to go without an answer
                _log.exception("answering from a node failed; the call goes to the frontier")
                response = None
            if response is not None:
                return response
        if self._gate.quotas is not None and not exchange.relay.asked:
            try:
                self._gate.quotas.check_spending(exchange.tenant)
            except QuotaExceeded as error:
                return error_reply(error, headers_of(exchange))
        exchange.relay.start()
        await exchange.relay.begun.wait()
        return await self._passed_on(exchange)

    async def _exchange(self, request: Request, caller: Caller, body: dict[str, Any], raw: bytes) -> Exchange:
        """Say whose call this is, count it, and prepare passing it on.

        Raises
        ------
        UnknownNode, InvalidInput, PermissionDenied, Overloaded
        """
        found = self._recogniser.node_of(body, request.headers.get(HEADER, ""))
        if found is not None:
            caller.check_node(found.node)
        else:
            caller.check_frontier()
        frame = self._recogniser.frames[found.node] if found else None
        read = reading_of(body, found, self._engine, frame, self._config.limits.max_text_bytes)
        rung = self._config.nodes[found.node].ladder[-1] if found else self._default
        upstream = self._upstreams[rung]
        sent_body: dict[str, Any] = body
        # Nor does a key for nodes choose what of the frontier's models answers, at a price that nobody set.
        if found is not None and (found.how == "model" or caller.nodes):
            sent_body, raw = {**body, "model": upstream.rung.model}, b""
        headers = upstream.headers(request.headers.items())
        context = context_of(request, caller)
        request_id = context.pop("request-id", "")
        tenant = context.get("tenant", "")
        self._load.admit_tenant(request.scope, tenant)
        await self._gate.counted(tenant)
        # Only now: what is refused must not push others' spans out.
        if self._traces is not None and found is not None and read.question is not None:
            self._traces.begin(found.node, context, request.headers.get("traceparent", ""))
            if context.get("traceparent"):
                headers["traceparent"] = context["traceparent"]
        relay = Relay(
            upstream, sent_body, headers, read.shape, read.why_not, raw or None, read.contract is not None,
            partial(self._pay, tenant),
        )  # fmt: skip
        audit_call = None
        if read.shape is not None and read.question is not None:
            audit_call = AuditCall(upstream, sent_body, headers, read.shape, asyncio.get_running_loop())
        return Exchange(
            body, relay, time.time(), found, read.why_not, read.question, read.shape, read.contract,
            audit_call, context=context, request_id=request_id,
        )  # fmt: skip

    async def _by_node(self, exchange: Exchange) -> Response | None:
        """Let the node decide; None where the call is to be passed on as it is."""
        assert exchange.found is not None
        assert exchange.question is not None
        assert exchange.shape is not None
        question, relay = exchange.question, exchange.relay
        ask = Ask(
            exchange.found.node, question.text, question.messages, exchange.context, exchange.request_id,
            gone=exchange.gone, teacher=relay, audit_teacher=exchange.audit_call,
            refuses=exchange.shape.refuses,
        )  # fmt: skip
        if self._pool.overfull:
            exchange.error = overloaded(self._pool)  # the frontier answers sooner than the queue would
            self._end_span(exchange)
            return None
        try:
            deciding = asyncio.wrap_future(self._alone.start(ask))
        except CascadeError as error:  # too much waits already, or the pool takes no more
            exchange.error = error
            self._end_span(exchange)
            return None
        deciding.add_done_callback(lambda _: self._end_span(exchange))
        begun = asyncio.create_task(relay.begun.wait())
        strict = exchange.contract is not None
        waited: list[asyncio.Future[Any]] = [deciding] if strict else [deciding, begun]
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        if relay.begun.is_set() and not (relay.streams and not strict):
            await asyncio.wait([deciding], timeout=None if strict else _SETTLE_SECONDS)
        begun.cancel()
        if not deciding.done():
            deciding.add_done_callback(_retrieve)
            return await self._passed_on(exchange)
        try:
            exchange.decided = deciding.result()
        except CascadeError as error:
            exchange.error = error
        except Exception:
            _log.exception("node %s: deciding failed; the call goes to the frontier", exchange.found.node)
        if relay.asked:
            await relay.begun.wait()
            return await self._passed_on(exchange)
        if exchange.decided is not None:
            return self._settled(exchange, exchange.decided)
        if exchange.error is not None:
            exchange.why_not = f"{exchange.error.reason.lower()}: {exchange.error}"
        return None

    def _end_span(self, exchange: Exchange) -> None:
        if self._traces is not None:
            self._traces.end(exchange.context)

    def _settled(self, exchange: Exchange, decided: Decided) -> Response | None:
        """Give the ladder's answer; None where it does not have the request's shape."""
        assert exchange.shape is not None
        try:
            completion = completion_of(exchange.body, decided, exchange.shape)
        except Unfit as error:  # the answer to an earlier request of the same id, in another shape
            exchange.why_not = str(error)
            return None
        self._log_call(exchange, completion["choices"][0]["message"])
        headers = headers_of(exchange)
        if exchange.streams:
            events = stream_of(exchange.body, completion)
            return StreamingResponse(_each(events), 200, headers, media_type="text/event-stream")
        return JSONResponse(completion, 200, headers)

    async def _passed_on(self, exchange: Exchange) -> Response:
        """Give what the frontier answered, unless it is an answer that breaks what it has to keep."""
        relay, bare = exchange.relay, None
        if exchange.contract is not None:
            assert exchange.found is not None
            assert exchange.shape is not None
            await relay.done()
            refused = why_not_kept(relay, exchange.contract, exchange.found.node)
            if refused is not None:
                exchange.decided, exchange.error = None, refused
                self._log_call(exchange)
                return error_reply(refused, headers_of(exchange))
            bare = bare_json(relay, exchange.shape)
        if relay.status == 0:
            self._log_call(exchange)
            failure = relay.failure or exchange.error
            assert failure is not None
            return error_reply(failure, headers_of(exchange))
        headers = {**relay.headers, **headers_of(exchange)}
        if relay.streams:
            return StreamingResponse(self._events(exchange, bare), relay.status, headers)
        self._log_call(exchange)
        return Response(relay.body if bare is None else body_with(relay.body, bare), relay.status, headers)

    async def _events(self, exchange: Exchange, bare: str | None) -> AsyncIterator[bytes]:
        events = exchange.relay.events()
        try:
            async for event in events if bare is None else events_with(events, bare):
                yield event
        finally:
            self._log_call(exchange)

    def _pay(self, tenant: str, usd: float) -> None:
        if self._gate.quotas is not None:
            self._gate.quotas.spend(tenant, usd)

    def _log_call(self, exchange: Exchange, message: Mapping[str, Any] | None = None) -> None:
        """Log a call once; nothing that fails here fails the call."""
        if exchange.logged:
            return
        exchange.logged = True
        by = "ladder" if message is not None else "frontier"
        if self._metrics is not None:
            self._metrics.served(exchange.found.node if exchange.found else None, by)
        if not self._http.capture:
            return
        try:
            self._told(call_of(exchange, message))
        except Exception:
            _log.exception("a call was not captured")


async def _cancel_when_gone(request: Request, exchange: Exchange) -> None:
    """Drop the call upstream once the agent has gone; its answer would be paid for and read by nobody."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    exchange.relay.cancel()
    exchange.gone.fire()


async def _each(events: Any) -> AsyncIterator[bytes]:
    for event in events:
        yield event


def _retrieve(task: asyncio.Future[Any]) -> None:
    """Take the result of a decision that nobody waits for, so that asyncio does not complain of it."""
    if not task.cancelled():
        task.exception()
