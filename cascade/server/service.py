"""The four methods of `cascade.v1.DecisionService`.

Handlers take and give bytes: what cannot be parsed is then the caller's INVALID_ARGUMENT, where gRPC's own
deserialisation would answer INTERNAL, and parsing is off gRPC's one polling thread.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeVar, cast

import grpc
from google.protobuf.message import DecodeError, Message

from cascade.ask import Ask, Decided
from cascade.config.server import LimitsConfig
from cascade.errors import CascadeError, InvalidInput, Overloaded
from cascade.server.deciding import Deciding
from cascade.server.entrance import Entrance
from cascade.server.gate import Caller, Gate, Shedder
from cascade.server.gone import Gone
from cascade.server.outcomes import report_of
from cascade.server.pool import ElasticPool
from cascade.server.requests import Asks, deadline_of
from cascade.server.responses import batch_response, response_of
from cascade.server.status import abort, known
from cascade.server.stream import AnswerStream
from cascade.v1 import decision_pb2 as pb
from cascade.waiting import waiting

if TYPE_CHECKING:
    from cascade.observe.traces import Traces

SERVICE = "cascade.v1.DecisionService"

M = TypeVar("M", bound=Message)


def parse(kind: type[M], raw: bytes) -> M:
    """Read a message. Raises InvalidInput where the bytes are none."""
    try:
        return kind.FromString(raw)
    except DecodeError:
        name = kind.DESCRIPTOR.full_name
        raise InvalidInput(
            "request",
            f"the {len(raw)} bytes are not a {name}: a string that is not UTF-8, or a message cut short",
        ) from None


class DecisionServicer:
    """Answers the four methods.

    Parameters
    ----------
    engine : Deciding
    limits : LimitsConfig
    pool : ElasticPool
        The pool that runs these methods.
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
        gate: Gate | None = None,
        traces: Traces | None = None,
    ) -> None:
        self._traces = traces
        self._engine = engine
        self._limits = limits
        self._pool = pool
        self._gate = gate or Gate()
        self._shedder = Shedder(pool)
        self._asks = Asks(limits, engine.contract)
        # A stream keeps two threads for as long as it is open.
        self._streams = threading.BoundedSemaphore(max(1, pool.max_threads // 4))
        self._stream_items = threading.BoundedSemaphore(max(1, min(512, pool.bound) // 2))

    def admit(self) -> None:
        """Refuse where no call is taken now. Raises Overloaded."""
        self._shedder.admit()

    def decide(self, raw: bytes, context: grpc.ServicerContext) -> bytes:
        """Decide one input."""
        try:
            self._shedder.admit()
            caller = self._gate.enter(context, "decide")
            with Gone(context) as gone:
                ask = self._ask(parse(pb.DecideRequest, raw), caller, deadline_of(context), gone)
                self._count(ask.context.get("tenant", ""), 1)
                return response_of(self._engine.decide(ask)).SerializeToString()
        except Exception as error:
            abort(context, error)

    def _ask(self, request: Any, caller: Caller, deadline: float | None, gone: Gone, path: str = "") -> Ask:
        ask = self._asks.ask(request, deadline, path, caller.tenant, gone)
        caller.check_node(ask.node)
        if self._traces is not None:
            self._traces.begin(ask.node, cast("dict[str, str]", ask.context), gone.metadata("traceparent"))
        return ask

    def _count(self, tenant: str, n: int) -> None:
        """Let a tenant ask for so many decisions, or raise Overloaded."""
        self._shedder.admit_tenant(tenant, n)
        self._gate.count(tenant, n)

    def batch_decide(self, raw: bytes, context: grpc.ServicerContext) -> bytes:
        """Decide many inputs, each on its own."""
        try:
            self._shedder.admit()
            caller = self._gate.enter(context, "decide")
            requests = parse(pb.BatchDecideRequest, raw).requests
            if not requests:
                raise InvalidInput("requests", "is empty; at least one is needed")
            if len(requests) > self._limits.max_batch:
                raise InvalidInput(
                    "requests", f"has {len(requests)} requests; the limit is {self._limits.max_batch}"
                )
            with Gone(context) as gone:
                outcomes = self._decide_each(requests, caller, deadline_of(context), gone)
            return batch_response(outcomes, requests)
        except Exception as error:
            abort(context, error)

    def _decide_each(
        self, requests: Any, caller: Caller, deadline: float | None, gone: Gone
    ) -> list[Decided | CascadeError]:
        outcomes: list[Decided | CascadeError | None] = [None] * len(requests)
        asks: dict[str, list[tuple[int, Ask]]] = {}
        for index, request in enumerate(requests):
            try:
                ask = self._ask(request, caller, deadline, gone, f"requests[{index}].")
                asks.setdefault(ask.context.get("tenant", ""), []).append((index, ask))
            except CascadeError as error:
                outcomes[index] = error
        admitted: list[tuple[int, Ask]] = []
        for tenant, items in asks.items():
            try:
                self._count(tenant, len(items))
                admitted += items
            except Overloaded as error:
                if len(asks) == 1:
                    raise
                for index, _ in items:
                    outcomes[index] = error
        if admitted:
            decided = self._engine.decide_many([ask for _, ask in admitted])
            for (index, _), outcome in zip(admitted, decided, strict=True):
                outcomes[index] = outcome
        return [outcome for outcome in outcomes if outcome is not None]

    def stream_decide(self, raws: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        """Decide a stream of inputs, and answer each as soon as it is decided."""
        try:
            self._shedder.admit()
            self._gate.enter(context, "decide")
            if not self._streams.acquire(blocking=False):
                raise Overloaded("too many streams are open; try again later", retry_after=1.0)
        except Exception as error:
            abort(context, error)
        try:
            gone = Gone()

            def decide(raw: bytes, deadline: float | None) -> tuple[Decided | CascadeError, str]:
                return self._decide_item(raw, deadline, context, gone)

            answers = AnswerStream(decide, self._pool, self._stream_items)

            def cancel() -> None:
                answers.cancel()
                gone.fire()

            if not context.add_callback(cancel):
                return  # the call is over already
            yield from answers.run(raws, deadline_of(context))
        finally:
            self._streams.release()

    def _decide_item(
        self, raw: bytes, deadline: float | None, context: grpc.ServicerContext, gone: Gone
    ) -> tuple[Decided | CascadeError, str]:
        request_id = ""
        try:
            message = parse(pb.StreamDecideRequest, raw)
            if not message.HasField("request"):
                raise InvalidInput("request", "must be set")
            request_id = message.request.request_id
            # Asked for each message: a key may be revoked while its stream is open.
            caller = self._gate.enter(context, "decide")
            ask = self._ask(message.request, caller, deadline, gone, "request.")
            self._count(ask.context.get("tenant", ""), 1)
            return self._engine.decide(ask), request_id
        except Exception as error:
            return known(error), request_id

    def report_outcome(self, raw: bytes, context: grpc.ServicerContext) -> bytes:
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


def add_to_server(servicer: DecisionServicer, server: grpc.Server, entrance: Entrance) -> None:
    """Register the four methods, raw bytes in and out."""
    handlers = {
        "Decide": entrance.unary(servicer.decide),
        "BatchDecide": entrance.unary(servicer.batch_decide),
        "StreamDecide": entrance.stream(servicer.stream_decide),
        "ReportOutcome": entrance.unary(servicer.report_outcome),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_registered_method_handlers(SERVICE, handlers)
