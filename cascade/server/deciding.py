"""What the gRPC layer asks of whatever decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from cascade.ask import Ask, Decided
from cascade.contract import Contract, JsonValue
from cascade.errors import CascadeError
from cascade.server.gate import ANYONE, Caller


class Deciding(Protocol):
    """Decides questions and takes reports. Every method may be called by many threads at once."""

    def contract(self, node: str) -> Contract | None:
        """Give the node's contract; None where its labels are not known yet.

        Raises
        ------
        UnknownNode
            No node has that name.
        """
        ...

    def decide(self, ask: Ask) -> Decided:
        """Decide one question. Blocks; raises CascadeError."""
        ...

    def decide_many(self, asks: Sequence[Ask]) -> list[Decided | CascadeError]:
        """Decide many questions, each on its own, in their order."""
        ...

    def decide_each(
        self,
        asks: Sequence[Ask],
        tell: Callable[[int, Decided | CascadeError], object],
        later: Callable[[Callable[[], None]], object],
        slow: Callable[[], object] = ...,
    ) -> None:
        """Decide many questions, and tell of each as soon as it is decided. See `Engine.decide_each`."""
        ...

    def alone(self, node: str) -> bool:
        """Whether a node's questions are not to be decided together with those of other callers."""
        ...

    def report(
        self,
        decision_id: str,
        output: JsonValue | None,
        right: bool | None,
        at: float | None,
        caller: Caller = ANYONE,
    ) -> str:
        """Take what was right of a decision, and give the outcome's id. Blocks until it is on disk.

        A decision of another tenant, or of a node that is not the caller's, is an unknown one.

        Raises
        ------
        UnknownDecision, StoreError, InvalidInput
            There is no such decision, the store does not take the report, or the output breaks the contract.
        """
        ...

    def ready(self) -> bool:
        """Whether questions can be decided now."""
        ...
