"""The four methods of `cascade.v1.DecisionService`.

Handlers take and give bytes: what cannot be parsed is then the caller's INVALID_ARGUMENT, where gRPC's own
deserialisation would answer INTERNAL.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import grpc

from cascade.ask import Ask, Decided
from cascade.config.server import LimitsConfig
from cascade.errors import CascadeError, InvalidInput, Overloaded
from cascade.server.batches import Batches
from cascade.server.call import Call, end_with
from cascade.server.deciding import Deciding
from cascade.server.entrance import Entrance, no_message
from cascade.server.gate import Caller, Gate, Shedder
from cascade.server.gone import Gone
from cascade.server.hand_over import HandOver, Reply
from cascade.server.intake import Intake, parse
from cascade.server.outcomes import report_of
from cascade.server.parents import Parents, parent_in
from cascade.server.pool import ElasticPool
from cascade.server.refusals import Refusals
from cascade.server.requests import Asks, deadline_of
from cascade.server.responses import batch_response, response_of, streamed_response
from cascade.server.status import abort, known
from cascade.server.stream import AnswerStream
from cascade.v1 import decision_pb2 as pb
from cascade.waiting import waiting

if TYPE_CHECKING:
    from cascade.observe.traces import Traces

SERVICE = "cascade.v1.DecisionService"


class DecisionServicer:
    """Answers the four methods.

    `Decide` and `StreamDecide` run on gRPC's event loop, where nothing blocks: what is asked is decided in
    the pool's threads (`Batches`). The other two run in those threads from their beginning.

    Parameters
    ----------
    engine : Deciding
    limits : LimitsConfig
    pool : ElasticPool
    batches : Batches
    shedder : Shedder
    loop : asyncio.AbstractEventLoop
        gRPC's.
    gate : Gate, optional
        Says who may do what; by default anyone may.
    traces : Traces, optional
        Takes and gives trace context.
    """

    def __init__(
        self,
        engine: Deciding,
        limits: LimitsConfig,
        pool: ElasticPool,
        batches: Batches,
        shedder: Shedder,
        loop: asyncio.AbstractEventLoop,
        gate: Gate | None = None,
        traces: Traces | None = None,
    ) -> None:
        self._engine = engine
        self._limits = limits
        self._batches = batches
        self._loop = loop
        self._gate = gate or Gate()
        self._shedder = shedder
        self._intake = Intake(Asks(limits, engine.contract), self._shedder, self._gate, batches, traces)
        self._hand_over = HandOver(loop)
        self._open_streams, self._most_streams = 0, max(1, pool.max_threads // 4)
        self._stream_slots = asyncio.Semaphore(max(1, min(512, pool.bound) // 2))

    @property
    def traces(self) -> bool:
        """Whether questions have spans."""
        return self._intake.traces

    def why_not(self) -> Overloaded | None:
        """Say why no question is taken now; None where one is."""
        try:
            self._shedder.admit()
            self._batches.admit()
        except Overloaded as error:
            return error
        return None

    async def decide(self, raw: bytes, context: grpc.aio.ServicerContext, parent: str = "") -> bytes:
        """Decide one input, within the trace of its caller's `traceparent` where it has one."""
        gone = Gone()
        try:
            self._shedder.admit()
            self._batches.admit()  # before the tenant's quota counts it
            if raw is None:
                raise no_message()
            caller = self._gate.enter(context, "decide")
            ask = self._intake.ask(parse(pb.DecideRequest, raw), caller, deadline_of(context), gone)
            counted = self._intake.begin_count(ask.context.get("tenant", ""))
            if counted is not None:
                await asyncio.wrap_future(counted)
            answer: asyncio.Future[bytes] = self._loop.create_future()
            self._intake.put(ask, parent, partial(self._hand_over.tell, partial(_settle, answer), _response))
            return await answer
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError):
                gone.fire()
            ending = end_with(context, error, "Decide")
            ask = answer = counted = context = None  # type: ignore[assignment]  # see `end_with`
            await ending
        finally:
            gone.end()

    def batch_decide(self, raw: bytes, context: Call) -> bytes:
        """Decide many inputs, each on its own."""
        try:
            self._shedder.admit_holding()
            caller = self._gate.enter(context, "decide")
            requests = parse(pb.BatchDecideRequest, raw).requests
            if not requests:
                raise InvalidInput("requests", "is empty; at least one is needed")
            if len(requests) > self._limits.max_batch:
                raise InvalidInput(
                    "requests", f"has {len(requests)} requests; the limit is {self._limits.max_batch}"
                )
            with Gone(context) as gone:
                outcomes = self._decide_all(requests, caller, deadline_of(context), gone, context)
            return batch_response(outcomes, requests)
        except Exception as error:
            abort(context, error)

    def _decide_all(
        self, requests: Any, caller: Caller, deadline: float | None, gone: Gone, call: Call
    ) -> list[Decided | CascadeError]:
        outcomes: list[Decided | CascadeError | None] = [None] * len(requests)
        asks: dict[str, list[tuple[int, Ask]]] = {}
        for index, request in enumerate(requests):
            try:
                ask = self._intake.ask(request, caller, deadline, gone)
                asks.setdefault(ask.context.get("tenant", ""), []).append((index, ask))
            except InvalidInput as error:
                outcomes[index] = error.within(f"requests[{index}].")
            except CascadeError as error:
                outcomes[index] = error
        admitted: list[tuple[int, Ask]] = []
        for tenant, items in asks.items():
            try:
                self._intake.count(tenant, len(items))
                admitted += items
            except Overloaded as error:
                if len(asks) == 1:
                    raise
                for index, _ in items:
                    outcomes[index] = error
        if admitted:
            traced = [ask for _, ask in admitted] if self._intake.traces else []
            parent = parent_in(call.invocation_metadata())
            for ask in traced:
                self._intake.begin_span(ask, parent)
            decided = self._engine.decide_many([ask for _, ask in admitted])
            for ask in traced:
                self._intake.end_span(ask)
            for (index, _), outcome in zip(admitted, decided, strict=True):
                outcomes[index] = outcome
        return [outcome for outcome in outcomes if outcome is not None]

    async def stream_decide(self, raws: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> None:
        """Decide a stream of inputs, and answer each as soon as it is decided."""
        try:
            self._shedder.admit()
            self._batches.admit()
            self._gate.enter(context, "decide")
            if self._open_streams >= self._most_streams:
                raise Overloaded("too many streams are open; try again later", retry_after=1.0)
        except Exception as error:
            ending = end_with(context, error, "StreamDecide")
            del context, raws  # see `end_with`
            await ending
        parent = parent_in(context.invocation_metadata()) if self._intake.traces else ""
        begin = partial(self._begin_item, context, parent, deadline_of(context))
        answers = AnswerStream(begin, self._stream_slots)
        self._open_streams += 1
        # Not by a callback of the context: gRPC would hold the call by it until the garbage collector comes.
        try:
            async for answer in answers.run(raws):
                await context.write(answer)
        finally:
            self._open_streams -= 1
            answers.cancel()

    def _begin_item(
        self,
        context: grpc.aio.ServicerContext,
        parent: str,
        deadline: float | None,
        raw: bytes,
        gone: Gone,
        done: Callable[[bytes], object],
        lend: Callable[[], object],
    ) -> None:
        """Have one message of a stream decided, or say why it is not."""
        request_id = ""
        try:
            message = parse(pb.StreamDecideRequest, raw)
            if not message.HasField("request"):
                raise InvalidInput("request", "must be set")
            request_id = message.request.request_id
            # Asked for each message: a key may be revoked while its stream is open.
            caller = self._gate.enter(context, "decide")
            on_wait = partial(self._hand_over.soon, lend)
            try:
                ask = self._intake.ask(message.request, caller, deadline, gone, on_wait)
            except InvalidInput as error:
                raise error.within("request.") from None
            counted = self._intake.begin_count(ask.context.get("tenant", ""))
            if counted is None:
                self._put_item(ask, request_id, done, parent)
            else:
                then = partial(self._put_counted, ask, request_id, done, parent, counted)
                counted.add_done_callback(lambda _: self._hand_over.soon(then))
        except Exception as error:
            done(_streamed(request_id, known(error)))

    def _put_item(self, ask: Ask, request_id: str, done: Callable[[bytes], object], parent: str) -> None:
        """Have a question of a stream decided, now that it is counted."""
        take = cast("Callable[[Reply], object]", done)  # what a stream is told is bytes
        self._intake.put(ask, parent, partial(self._hand_over.tell, take, partial(_streamed, request_id)))

    def _put_counted(
        self,
        ask: Ask,
        request_id: str,
        done: Callable[[bytes], object],
        parent: str,
        counted: Future[None],
    ) -> None:
        """Likewise, or say why it is not."""
        try:
            counted.result()
            self._put_item(ask, request_id, done, parent)
        except Exception as error:
            done(_streamed(request_id, known(error)))

    def report_outcome(self, raw: bytes, context: Call) -> bytes:
        """Take a report, and return once it is on disk."""
        try:
            self._shedder.admit()
            caller = self._gate.enter(context, "report")
            report = report_of(parse(pb.ReportOutcomeRequest, raw), self._limits)
            try:
                with waiting():
                    outcome_id = self._engine.report(
                        report.decision_id, report.output, report.right, report.time, caller
                    )
            except InvalidInput as error:
                if error.field == "output":  # the engine does not know that it came as a label
                    raise InvalidInput(report.field, error.description) from None
                raise
            return pb.ReportOutcomeResponse(outcome_id=outcome_id).SerializeToString()
        except Exception as error:
            abort(context, error)


def _settle(answer: asyncio.Future[bytes], message: Reply) -> None:
    if answer.done():
        return
    if isinstance(message, bytes):
        answer.set_result(message)
    else:
        answer.set_exception(message)


def _response(result: Decided | CascadeError) -> Reply:
    if isinstance(result, CascadeError):
        return result
    try:
        return response_of(result)
    except Exception as error:
        return known(error)


def _streamed(request_id: str, result: Decided | CascadeError) -> bytes:
    try:
        return streamed_response(result, request_id)
    except Exception as error:
        return streamed_response(known(error), request_id)


def add_to_server(servicer: DecisionServicer, server: grpc.aio.Server, entrance: Entrance) -> None:
    """Register the four methods, raw bytes in and out."""
    handlers = {
        "Decide": grpc.unary_unary_rpc_method_handler(servicer.decide),
        "BatchDecide": entrance.unary("BatchDecide", servicer.batch_decide),
        "StreamDecide": grpc.stream_stream_rpc_method_handler(servicer.stream_decide),
        "ReportOutcome": entrance.unary("ReportOutcome", servicer.report_outcome),
    }
    decide = f"/{SERVICE}/Decide"
    found = grpc.method_handlers_generic_handler(SERVICE, handlers)
    if servicer.traces:
        found = Parents(found, {decide: servicer.decide})
    server.add_generic_rpc_handlers((Refusals(found, frozenset({decide}), servicer.why_not),))
