"""From a message to a question that is taken: read, counted against its tenant, its span begun."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from google.protobuf.message import DecodeError, Message

from cascade.ask import Ask, Decided
from cascade.errors import CascadeError, InvalidInput
from cascade.server.batches import Batches
from cascade.server.gate import Caller, Gate, Shedder
from cascade.server.gone import Gone
from cascade.server.requests import Asks

if TYPE_CHECKING:
    from cascade.observe.traces import Traces

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


class Intake:
    """Takes questions, or says why not.

    Parameters
    ----------
    asks : Asks
    shedder : Shedder
    gate : Gate
    batches : Batches
    traces : Traces, optional
        Takes and gives trace context.
    """

    def __init__(
        self, asks: Asks, shedder: Shedder, gate: Gate, batches: Batches, traces: Traces | None
    ) -> None:
        self._asks, self._shedder, self._gate = asks, shedder, gate
        self._batches, self._traces = batches, traces

    def ask(
        self,
        request: Any,
        caller: Caller,
        deadline: float | None,
        gone: Gone,
        on_wait: Callable[[], object] | None = None,
    ) -> Ask:
        """Read a question, and check that its caller may ask that node. Raises CascadeError."""
        ask = self._asks.ask(request, deadline, caller.tenant, gone, on_wait)
        caller.check_node(ask.node)
        return ask

    def count(self, tenant: str, n: int) -> None:
        """Let a tenant ask for so many decisions, or raise Overloaded. For threads."""
        self._shedder.admit_tenant(tenant, n)
        self._gate.count(tenant, n)

    def begin_count(self, tenant: str) -> Future[None] | None:
        """Likewise for one decision, on the event loop: see `Quotas.begin_take`."""
        self._shedder.admit_tenant(tenant)
        return self._gate.begin_count(tenant)

    @property
    def traces(self) -> bool:
        """Whether questions have spans."""
        return self._traces is not None

    def begin_span(self, ask: Ask, parent: str) -> None:
        """Begin a question's span, now that it is taken: what is refused must not push others' spans out.

        Parameters
        ----------
        parent : str
            The caller's `traceparent`; empty for none.
        """
        if self._traces is not None:
            self._traces.begin(ask.node, cast("dict[str, str]", ask.context), parent)

    def end_span(self, ask: Ask) -> None:
        """End it where nothing of the question was logged."""
        if self._traces is not None:
            self._traces.end(ask.context)

    def put(self, ask: Ask, parent: str, tell: Callable[[Decided | CascadeError], object]) -> None:
        """Have a question decided whose span begins now. Raises CascadeError where it is not taken."""
        if self._traces is None:
            self._batches.put(ask, tell)
            return
        self.begin_span(ask, parent)
        try:
            self._batches.put(ask, partial(_ended, self._traces, ask.context, tell))
        except CascadeError:
            self._traces.end(ask.context)
            raise


def _ended(
    traces: Traces,
    context: Mapping[str, str],
    tell: Callable[[Decided | CascadeError], object],
    result: Decided | CascadeError,
) -> None:
    traces.end(context)
    tell(result)
