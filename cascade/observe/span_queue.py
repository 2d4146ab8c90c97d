"""A bounded queue of what ended, and the thread that makes spans of it and sends them."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from cascade.errors import ConfigError
from cascade.observe.ended import Ended

_log = logging.getLogger(__name__)

_LOG_EVERY = 30.0
_MOST, _BATCH = 8192, 2048
_CLOSE_SECONDS = 4.0  # a worker that ends is killed five seconds after it has drained


class Encoder(Protocol):
    """Makes a message of what ended; see `cascade.observe.span_encoding.SpanEncoder`."""

    def encode(self, batch: Sequence[Ended]) -> tuple[bytes, int]:
        """Give the message, and how many spans it holds."""
        ...


class Sender(Protocol):
    """Takes messages; see `cascade.observe.otlp.OtlpSender`."""

    def send(self, message: bytes, closing: threading.Event) -> int:
        """Send a message and give how many spans of it were refused. Raises where none was taken."""
        ...


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """How much waits, and how much goes at once: by the variables of the SDK's `BatchSpanProcessor`.

    Four times its defaults: a busy worker fills those in 0.15 s, and each message costs 0.3 ms besides its
    spans.

    Attributes
    ----------
    most : int
        Spans that may wait (`OTEL_BSP_MAX_QUEUE_SIZE`).
    batch : int
        Spans in one message (`OTEL_BSP_MAX_EXPORT_BATCH_SIZE`); more only where one decision has more.
    seconds : float
        How long fewer than that wait (`OTEL_BSP_SCHEDULE_DELAY`, in milliseconds).
    """

    most: int = _MOST
    batch: int = _BATCH
    seconds: float = 5.0

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ) -> QueueLimits:
        """Read the variables. Raises ConfigError for what is no positive number."""

        def number(name: str, default: int) -> int:
            text = environment.get(name, "").strip() or str(default)
            if not text.isdecimal() or not int(text):
                raise ConfigError(f"{name}: expected a positive whole number, found {text!r}")
            return int(text)

        most = number("OTEL_BSP_MAX_QUEUE_SIZE", _MOST)
        batch = number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", min(_BATCH, most))
        if batch > most:
            raise ConfigError(
                f"OTEL_BSP_MAX_EXPORT_BATCH_SIZE: {batch} is more than OTEL_BSP_MAX_QUEUE_SIZE, {most}"
            )
        return cls(most, batch, number("OTEL_BSP_SCHEDULE_DELAY", 5000) / 1e3)


@dataclass(frozen=True, slots=True)
class SpanStats:
    """What became of spans.

    Attributes
    ----------
    sent : int
        Taken by the collector.
    dropped : int
        Never queued: too many waited.
    failed : int
        Queued, and neither sent nor waiting: the collector was down, or refused them.
    waiting : int
        Queued or under way.
    """

    sent: int
    dropped: int
    failed: int
    waiting: int


class SpanQueue:
    """Takes what ended, at once, and sends it in batches.

    A collector that is slow or down costs whoever puts nothing: what finds no room is counted.

    Parameters
    ----------
    encoder : Encoder
    sender : Sender
    limits : QueueLimits, optional
    """

    def __init__(self, encoder: Encoder, sender: Sender, limits: QueueLimits | None = None) -> None:
        self._encoder, self._sender = encoder, sender
        self._limits = limits or QueueLimits()
        self._changed = threading.Condition()
        self._queue: deque[tuple[Ended, int]] = deque()
        self._waiting = self._under_way = self._sent = self._dropped = self._failed = 0
        self._closing = threading.Event()
        # What the log was told of losses; touched by the thread only.
        self._told, self._why = 0, ""
        self._last_log: float | None = None
        self._thread = threading.Thread(target=self._run, name="cascade-traces", daemon=True)
        self._thread.start()

    def put(self, *ended: Ended) -> None:
        """Queue what ended, a decision and its attempts each; drop and count what finds no room."""
        with self._changed:
            for each in ended:
                spans = 1 + len(each.attempts)
                if self._waiting + spans > self._limits.most or self._closing.is_set():
                    self._dropped += spans
                    continue
                self._queue.append((each, spans))
                self._waiting += spans
            if self._waiting >= self._limits.batch:
                self._changed.notify()

    def stats(self) -> SpanStats:
        """See `SpanStats`."""
        with self._changed:
            return SpanStats(self._sent, self._dropped, self._failed, self._waiting + self._under_way)

    def close(self, seconds: float = _CLOSE_SECONDS) -> None:
        """Send what waits and end the thread, or give up after that many seconds."""
        with self._changed:
            self._closing.set()
            self._changed.notify()
        self._thread.join(seconds)
        if self._thread.is_alive():
            _log.error("%d spans were not sent in the %g s left to them", self.stats().waiting, seconds)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(self._enough, self._limits.seconds)
                batch = self._take()
            if batch:
                taken = self._deliver(batch)
                if not taken and self._closing.is_set():
                    self._give_up()
                self._complain()
            elif self._closing.is_set():
                return

    def _enough(self) -> bool:
        return self._waiting >= self._limits.batch or self._closing.is_set()

    def _take(self) -> list[Ended]:
        batch: list[Ended] = []
        while self._queue and (not batch or self._under_way + self._queue[0][1] <= self._limits.batch):
            ended, spans = self._queue.popleft()
            batch.append(ended)
            self._under_way += spans
            self._waiting -= spans
        return batch

    def _deliver(self, batch: Sequence[Ended]) -> bool:
        """Send a batch, and say whether the collector took it."""
        sent = 0
        try:
            message, made = self._encoder.encode(batch)
            if made:
                refused = self._sender.send(message, self._closing)
                sent = min(max(0, made - refused), made)  # whatever number a collector names
                if refused:
                    self._why = "the collector refused them"
        except Exception as error:  # whatever it is, the thread must live to send what comes later
            self._why = str(error)
        with self._changed:
            self._sent += sent
            self._failed += self._under_way - sent
            self._under_way = 0
        return bool(sent)

    def _give_up(self) -> None:
        with self._changed:
            self._failed += self._waiting
            self._waiting = 0
            self._queue.clear()

    def _complain(self) -> None:
        now, stats = time.monotonic(), self.stats()
        lost = stats.dropped + stats.failed - self._told
        if not lost or (self._last_log is not None and now - self._last_log < _LOG_EVERY):
            return
        why = self._why or "more were made than the collector took"
        _log.error("%d spans were lost; the last reason: %s", lost, why)
        self._told, self._last_log, self._why = self._told + lost, now, ""
