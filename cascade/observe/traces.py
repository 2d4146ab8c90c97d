"""OpenTelemetry traces by the GenAI conventions: one span a decision, and below it one span an attempt.

A decision's span begins when the request is read and ends when it is logged. What this costs on the request's
way is two random numbers, a text and a place in a queue; spans are made in the thread that sends them, and
without the SDK's objects, which cost as much as the decision (`span_queue`, `span_encoding`, `otlp`). The
caller's trace goes on through us: its `traceparent` is the parent, and the decision's own goes to the
frontier and into the log (`context["traceparent"]`).
"""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

from cascade.config.observe import TracesConfig
from cascade.errors import ConfigError
from cascade.observe.ended import Ended
from cascade.observe.span_queue import QueueLimits, SpanQueue, SpanStats
from cascade.traffic.records import Decision

PARENT = "traceparent"
_MOST_OPEN = 10_000
_DRAWN = 128
_W3C = re.compile(r"[ \t]*([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?[ \t]*")
_SAMPLED, _RANDOM = 1, 2  # flags of W3C trace context, level 2
_FLAGS_OF_OURS = f"{_SAMPLED | _RANDOM:02x}"
_make = tuple.__new__


class _Above(NamedTuple):
    """A caller's span: ids in hexadecimal, and the flags."""

    trace_id: str
    span_id: str
    flags: int


def _above(parent: str) -> _Above | None:
    """Read a `traceparent`; None for what is none."""
    found = _W3C.fullmatch(parent)
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more) or not int(trace_id, 16) or not int(span_id, 16):
        return None
    return _Above(trace_id, span_id, int(flags, 16))


class Traces:
    """Begins and ends spans. A `cascade.observe.watcher.Watcher`.

    Parameters
    ----------
    queue : SpanQueue
        Takes what ended; closed with this.
    sample : float
        Share of the requests without a trace of the caller's that begin one, in [0, 1].
    """

    def __init__(self, queue: SpanQueue, sample: float = 1.0) -> None:
        self._queue, self._sample = queue, sample
        self._random = random.Random()
        self._drawn: list[str] = []
        # By `traceparent`, the oldest first. Each step is one of the interpreter's own, and needs no lock.
        self._open: dict[str, tuple[str, int, str]] = {}

    def begin(self, node: str, context: dict[str, str], parent: str) -> None:
        """Begin a decision's span; its own `traceparent` is put into the request's context.

        Parameters
        ----------
        parent : str
            The caller's `traceparent`; empty for none. What is no `traceparent` is none.
        """
        above = _above(parent) if parent else None
        if above is None:
            if self._sample < 1 and self._random.random() >= self._sample:
                return
            try:
                own = self._drawn.pop()
            except IndexError:
                own = self._draw()
            self._begin(own, node, "")
            context[PARENT] = own
            return
        flags = above.flags & (_SAMPLED | _RANDOM)
        own = f"00-{above.trace_id}-{self._random.getrandbits(64) or 1:016x}-{flags:02x}"
        context[PARENT] = own
        if flags & _SAMPLED:
            self._begin(own, node, above.span_id)

    def _draw(self) -> str:
        """Give a new trace's `traceparent`, and keep some more: many at once are drawn in half the time."""
        ids = self._random.randbytes(24 * _DRAWN).hex()  # one of zeros comes once in 2**64
        drawn = [
            f"00-{ids[at : at + 32]}-{ids[at + 32 : at + 48]}-{_FLAGS_OF_OURS}"
            for at in range(0, len(ids), 48)
        ]
        own = drawn.pop()
        self._drawn += drawn
        return own

    def _begin(self, own: str, node: str, parent: str) -> None:
        begun = self._open
        begun[own] = node, time.time_ns(), parent
        if len(begun) > _MOST_OPEN:
            with suppress(StopIteration, RuntimeError):  # another thread changes it: the next one sees to it
                oldest = next(iter(begun))
                left = begun.pop(oldest, None)
                if left is not None:
                    self._queue.put(Ended(oldest, *left, time.time_ns()))

    def saw(self, *decisions: Decision) -> None:
        """End the spans of decisions, and those of their attempts."""
        end_of, now = self._open.pop, time.time_ns()
        ended: list[Ended] = []
        for d in decisions:
            own = d.context.get(PARENT)
            if own is not None and (begun := end_of(own, None)) is not None:
                node, began, parent = begun
                # Not the decision itself: with it, a queue whose collector is down would hold the texts of
                # requests. Made as `Ended(...)` makes it, in half the time.
                ended.append(_make(Ended, (
                    own, node, began, parent, now, d.time, d.decision_id, d.rung, d.mode, d.bundle_version,
                    d.usd, d.attempts, d.by_teacher, d.input_tokens, d.output_tokens, d.error,
                )))  # fmt: skip
        if ended:
            self._queue.put(*ended)

    def end(self, context: Mapping[str, str]) -> None:
        """End a request's span now that it is over, where nothing was logged: then only its times are known.

        So it is with what is answered from the log, and with what never came to be decided.
        """
        own = context.get(PARENT)
        if own is None:
            return
        begun = self._open.pop(own, None)
        if begun is not None:
            self._queue.put(Ended(own, *begun, time.time_ns()))

    def stats(self) -> SpanStats:
        """Say what became of spans."""
        return self._queue.stats()

    def close(self) -> None:
        """Send what is not sent yet, as far as it is taken within a few seconds."""
        self._queue.close()


def open_traces(config: TracesConfig, models: Mapping[str, tuple[str, str]]) -> Traces | None:
    """Build the traces of a configuration. In the process that serves: it starts a thread.

    Parameters
    ----------
    models : mapping of str to (str, str)
        For each chat rung, the model's name and the API's host.

    Returns
    -------
    Traces or None
        None where the environment says `OTEL_SDK_DISABLED=true`.

    Raises
    ------
    ConfigError
        The extra `otel` is not installed, or a variable of OpenTelemetry has a value that cannot be used.
    """
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    try:
        from cascade.observe.otlp import OtlpSender, destination
        from cascade.observe.span_encoding import SpanEncoder, resource
    except ImportError as error:
        raise ConfigError(
            f"observe.traces: `{error.name}` is not installed: pip install 'cascade-ladder[otel]'"
        ) from error
    encoder, sender = SpanEncoder(resource(), models), OtlpSender(destination(config.endpoint))
    return Traces(SpanQueue(encoder, sender, QueueLimits.of_environment()), config.sample)
