"""Spans are sent, and no collector can hurt a decision."""

from __future__ import annotations

import gzip
import itertools
import logging
import socket
import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from cascade.observe.metrics import Metrics
from cascade.observe.otlp import Destination, NotTaken, OtlpSender, destination
from cascade.observe.span_encoding import SpanEncoder, resource
from cascade.observe.span_queue import QueueLimits, SpanQueue, SpanStats
from cascade.observe.time_limit import LimitedAdapter
from cascade.observe.traces import Traces
from cascade.traffic.records import StoreStats
from tests.otlp_receiver import Receiver, receiving
from tests.unit.test_traces import MODELS, opened, traced


@pytest.fixture(autouse=True)
def _errors(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)


def test_batches_are_no_larger_than_asked_and_leave_without_a_wait_once_they_are_full(
    collector: Receiver,
) -> None:
    traces = opened(collector.endpoint, QueueLimits(most=1000, batch=10, seconds=60.0))
    for _ in range(7):
        traced(traces)  # three spans each
    collector.wait(18)
    traces.close()
    sizes = [len(request.resource_spans[0].scope_spans[0].spans) for request in collector.requests]
    assert max(sizes) <= 10
    assert sum(sizes) == 21
    traces = opened(collector.endpoint, QueueLimits(most=1000, batch=500, seconds=0.05))
    traced(traces)
    collector.wait(24)  # and what is no batch does not wait for more
    traces.close()


def test_a_collector_that_hangs_costs_a_bounded_queue_and_counted_spans_and_no_time(
    collector: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    collector.go.clear()
    traces = opened(collector.endpoint, QueueLimits(most=30, batch=9, seconds=0.01))
    began = time.perf_counter()
    for _ in range(1000):
        traced(traces)
    took = time.perf_counter() - began
    stats = traces.stats()
    assert took < 2.0
    assert stats.sent == 0
    assert stats.waiting <= 30 + 9
    assert stats.dropped + stats.waiting == 3000
    collector.go.set()
    traces.close()
    end = traces.stats()
    assert (end.sent, end.dropped, end.failed, end.waiting) == (stats.waiting, stats.dropped, 0, 0)
    assert len(collector.spans) == stats.waiting
    assert "spans were lost" in caplog.text


def test_a_collector_that_is_not_there_is_tried_again_and_ends_with_the_service(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with receiving() as receiver:
        nowhere = receiver.endpoint
    traces = opened(nowhere, QueueLimits(most=30, batch=9, seconds=0.01))
    for _ in range(1000):
        traced(traces)
    began = time.monotonic()
    traces.close()
    assert time.monotonic() - began < 3.0
    stats = traces.stats()
    assert (stats.sent, stats.waiting) == (0, 0)
    assert stats.dropped + stats.failed == 3000
    assert "Connection refused" in caplog.text
    assert caplog.text.count("spans were lost") == 1  # not a line for each


def test_a_collector_that_hangs_does_not_hold_up_the_end(
    collector: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    collector.go.clear()
    traces = opened(collector.endpoint)
    traced(traces)
    began = time.monotonic()
    traces._queue.close(seconds=0.3)
    assert time.monotonic() - began < 2.0
    assert "3 spans were not sent" in caplog.text
    traced(traces)
    assert traces.stats().dropped == 3  # what comes later is refused, not kept


class Broken:
    """A sender whose collector is down, once it is let go."""

    def __init__(self) -> None:
        self.go, self.tries = threading.Event(), 0

    def send(self, message: bytes, closing: threading.Event) -> int:
        self.go.wait(30)
        self.tries += 1
        raise NotTaken("it is down")


def test_losses_are_told_once_in_a_while_and_nothing_is_expected_of_a_broken_collector_at_the_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sender = Broken()
    traces = Traces(SpanQueue(SpanEncoder(resource(), MODELS), sender, QueueLimits(most=3000, batch=3)))
    sender.go.set()
    for _ in range(20):
        traced(traces)
    end = time.monotonic() + 10
    while traces.stats().failed < 60:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert sender.tries == 20
    assert caplog.text.count("spans were lost; the last reason: it is down") == 1
    sender.go.clear()
    for _ in range(20):
        traced(traces)
    threading.Timer(0.2, sender.go.set).start()
    traces.close()
    assert sender.tries <= 22
    assert traces.stats() == SpanStats(sent=0, dropped=0, failed=120, waiting=0)


_DRIPS = {
    "head": b"HTTP/1.1 200 OK\r\nx-more: ",
    "interim": b"HTTP/1.1 100 Continue\r\n\r\n" * 20,
    "body": b"HTTP/1.1 200 OK\r\ncontent-length: 4000\r\n\r\n",
    "tls": b"\x16\x03\x03\x3f\xff\x02\x00\x3f\xf0",  # a record of 16 kB, of which little comes
}


@contextmanager
def dripping(what: str) -> Iterator[str]:
    """Run a collector that answers a byte at a time, for as long as it is listened to."""
    ended = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def drip() -> None:
        with suppress(OSError):
            while not ended.is_set():
                taken, _ = listener.accept()
                with taken, suppress(OSError):
                    taken.recv(65536)
                    quick = _DRIPS[what] if what in ("body", "tls") else b""
                    taken.sendall(quick)
                    for byte in itertools.chain(_DRIPS[what][len(quick) :], itertools.repeat(0x61)):
                        taken.sendall(bytes([byte]))
                        if ended.wait(0.02):
                            break

    thread = threading.Thread(target=drip, daemon=True)
    thread.start()
    try:
        yield f"http{'s' if what == 'tls' else ''}://127.0.0.1:{listener.getsockname()[1]}/v1/traces"
    finally:
        ended.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


@pytest.mark.parametrize("what", list(_DRIPS))
def test_a_collector_that_drips_its_answer_holds_nobody_for_longer_than_the_timeout(what: str) -> None:
    with dripping(what) as url:
        sender = OtlpSender(Destination(url, timeout=0.5))
        ended: list[object] = []

        def send() -> None:
            try:
                ended.append(sender.send(b"some spans", threading.Event()))
            except NotTaken as error:
                ended.append(str(error))

        thread = threading.Thread(target=send, daemon=True)
        thread.start()
        thread.join(5)
        assert ended == [0 if what == "body" else "the collector did not answer in time"]
        sender.close()


def test_what_a_collector_sends_is_not_unpacked() -> None:
    bomb = gzip.compress(gzip.compress(bytes(64 << 20), 1), 9)
    assert len(bomb) < 4096
    head = f"HTTP/1.1 200 OK\r\ncontent-encoding: gzip, gzip\r\ncontent-length: {len(bomb)}\r\n\r\n"
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            taken, _ = listener.accept()
            with taken:
                taken.recv(65536)
                taken.sendall(head.encode() + bomb)

        threading.Thread(target=answer, daemon=True).start()
        sender = OtlpSender(Destination(f"http://127.0.0.1:{listener.getsockname()[1]}/", timeout=10.0))
        tracemalloc.start()
        try:
            assert sender.send(b"some spans", threading.Event()) == 0
            assert tracemalloc.get_traced_memory()[1] < 8 << 20
        finally:
            tracemalloc.stop()
            sender.close()


def test_a_message_that_fails_when_it_is_time_to_go_is_not_tried_again(collector: Receiver) -> None:
    collector.statuses = [(503, {})] * 50
    closing = threading.Event()
    closing.set()
    with pytest.raises(NotTaken, match="HTTP 503"):
        OtlpSender(destination(collector.endpoint, {})).send(b"", closing)
    assert len(collector.headers) == 1


def test_what_a_collector_cannot_take_now_is_sent_again_and_what_it_refuses_is_not(
    collector: Receiver,
) -> None:
    collector.statuses = [
        (503, {}),
        (429, {"retry-after": "0"}),
        (504, {"retry-after": "Mon, 01 Jan 2024 00:00:00 GMT"}),
    ]
    traces = opened(collector.endpoint, QueueLimits(most=100, batch=3))
    traced(traces)
    collector.wait(3)
    assert len(collector.headers) == 4
    collector.statuses = [(400, {})]
    traced(traces)
    traced(traces)
    collector.wait(6)
    collector.rejected = 2
    traced(traces)
    collector.wait(9)
    traces.close()
    assert traces.stats() == SpanStats(sent=7, dropped=0, failed=5, waiting=0)


@pytest.mark.parametrize("rejected", [-5, 5])
def test_a_collector_that_refuses_more_spans_than_there_are_or_fewer_than_none_ends_no_metrics(
    collector: Receiver, rejected: int
) -> None:
    collector.rejected = rejected
    traces = opened(collector.endpoint, QueueLimits(most=100, batch=3, seconds=60.0))
    traced(traces)
    traces.close()
    stats = traces.stats()
    assert (stats.sent, stats.failed) == ((3, 0) if rejected < 0 else (0, 3))
    Metrics().look(lambda: StoreStats(0, 0, 0, 0), lambda: 0, dict, traces.stats)


def test_no_more_time_than_the_timeout_is_spent_on_one_message(collector: Receiver) -> None:
    collector.statuses = [(503, {"retry-after": "5"})] * 2
    traces = opened(collector.endpoint, QueueLimits(most=100, batch=3), OTEL_EXPORTER_OTLP_TIMEOUT="1")
    traced(traces)
    end = time.monotonic() + 3
    while not traces.stats().failed:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert len(collector.headers) == 1
    traces.close()


def test_metrics_say_what_became_of_spans() -> None:
    metrics = Metrics()
    for sent in (5, 7):
        metrics.look(
            lambda: StoreStats(0, 0, 0, 0), lambda: 0, dict, lambda sent=sent: SpanStats(sent, 2, 1, 9)
        )
    text = metrics.page().decode()
    for state, count in (("sent", 7), ("dropped", 2), ("failed", 1)):
        assert f'cascade_trace_spans_total{{state="{state}"}} {count}.0' in text


def test_a_redirect_is_not_followed(collector: Receiver) -> None:
    with receiving() as other:
        collector.statuses = [(307, {"location": other.endpoint})]
        traces = opened(collector.endpoint)
        traced(traces)
        traces.close()
        assert traces.stats().failed == 3
        assert not other.headers


def test_a_connection_that_is_there_once_the_time_is_up_is_cut_off() -> None:
    adapter = LimitedAdapter()
    ours, collectors = socket.socketpair()
    with ours, collectors, adapter.limit(0.001):
        while not adapter.cut:
            time.sleep(0.001)
        adapter._opened(ours)
        collectors.settimeout(5)
        assert collectors.recv(1) == b""
    with adapter.limit(60):
        assert not adapter.cut
    adapter.close()
