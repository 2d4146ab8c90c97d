"""What a refused call is told."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from google.rpc import error_details_pb2, status_pb2

from cascade.errors import Overloaded
from cascade.server.refusals import Refusals


class Context:
    """Keeps what a call is ended with."""

    def __init__(self) -> None:
        self.code: Any = None
        self.retry = error_details_pb2.RetryInfo()

    def set_code(self, code: Any) -> None:
        self.code = code

    def set_details(self, details: str) -> None:
        self.details = details

    def set_trailing_metadata(self, metadata: Any) -> None:
        [(_, raw)] = metadata
        for detail in status_pb2.Status.FromString(raw).details:
            detail.Unpack(self.retry)


def test_each_is_told_when_to_come_back_as_it_is_then_and_who_is_not_refused_finds_the_handler() -> None:
    why: list[Overloaded | None] = [
        Overloaded("busy", retry_after=0.5),
        Overloaded("busy", retry_after=2.0),
        None,
    ]
    handlers: Any = SimpleNamespace(service=lambda details: "the handler")
    refusals = Refusals(handlers, frozenset({"/s/Decide"}), lambda: why.pop(0))
    for seconds in (0.5, 2.0):
        context = Context()
        found: Any = refusals.service(SimpleNamespace(method="/s/Decide"))
        assert asyncio.run(found.stream_unary(None, context)) == b""
        assert context.code.name == "RESOURCE_EXHAUSTED"
        assert context.retry.retry_delay.ToNanoseconds() == seconds * 1e9
    assert refusals.service(SimpleNamespace(method="/s/Decide")) == "the handler"
    assert refusals.service(SimpleNamespace(method="/s/Other")) == "the handler", "nor is any asked why"
