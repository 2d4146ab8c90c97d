"""One stream of questions: decided side by side, answered in the order in which they are ready."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue

import grpc

from cascade.ask import Decided
from cascade.errors import CascadeError
from cascade.server.pool import ElasticPool
from cascade.server.responses import result_of
from cascade.server.status import internal
from cascade.v1 import decision_pb2 as pb
from cascade.waiting import waiting

MAX_IN_FLIGHT = 64
"""Questions of one stream that are read and not yet answered. Beyond that the stream is not read."""

DecideItem = Callable[[bytes, float | None], tuple[Decided | CascadeError, str]]


class AnswerStream:
    """Reads one stream's questions and gives their answers.

    Three kinds of tasks of the pool take part: one reads, many decide, and the caller of `run` sends.

    Parameters
    ----------
    decide : callable
        Decides one message; gives the decision or error, and the request's id.
    pool : ElasticPool
    slots : Semaphore
        Bounds the questions in flight of all streams together, so that streams cannot fill the pool's queue.
    """

    def __init__(self, decide: DecideItem, pool: ElasticPool, slots: threading.Semaphore) -> None:
        self._decide = decide
        self._pool = pool
        self._slots = slots
        self._mine = threading.Semaphore(MAX_IN_FLIGHT)
        self._answers: SimpleQueue[bytes | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._open = 1  # questions in flight, and one for the reader
        self._cancelled = False

    def cancel(self) -> None:
        """Stop: nobody wants the answers any more."""
        self._cancelled = True
        self._mine.release()
        self._answers.put(None)

    def run(self, raws: Iterator[bytes], deadline: float | None) -> Iterator[bytes]:
        """Give the answers, until the last of them or until cancelled."""
        self._pool.submit(self._read, raws, deadline)
        try:
            while not self._cancelled:
                answer = self._next()
                if answer is None:
                    return
                yield answer
                self._mine.release()
        finally:
            self.cancel()

    def _next(self) -> bytes | None:
        try:
            return self._answers.get_nowait()
        except Empty:
            with waiting():
                return self._answers.get()

    def _read(self, raws: Iterator[bytes], deadline: float | None) -> None:
        try:
            while self._acquire(self._mine):
                with waiting():
                    raw = next(raws, None)
                # Only a question that is there takes a slot: idle streams must not hold any.
                if raw is None or not self._acquire(self._slots):
                    return
                self._submit(raw, deadline)
        except (grpc.RpcError, RuntimeError):  # the caller is gone, or the server shuts down
            self.cancel()
        finally:
            self._leave()

    def _submit(self, raw: bytes, deadline: float | None) -> None:
        with self._lock:
            self._open += 1
        try:
            self._pool.submit(self._answer, raw, deadline)
        except RuntimeError:
            self._slots.release()
            self._leave()
            raise

    def _acquire(self, semaphore: threading.Semaphore) -> bool:
        if not semaphore.acquire(blocking=False):
            with waiting():
                while not semaphore.acquire(timeout=0.5):
                    if self._cancelled:
                        return False
        if self._cancelled:
            semaphore.release()
        return not self._cancelled

    def _answer(self, raw: bytes, deadline: float | None) -> None:
        try:
            if not self._cancelled:
                self._answers.put(self._answer_to(raw, deadline).SerializeToString())
        finally:
            self._slots.release()
            self._leave()

    def _answer_to(self, raw: bytes, deadline: float | None) -> pb.StreamDecideResponse:
        request_id = ""
        try:
            outcome, request_id = self._decide(raw, deadline)
            return pb.StreamDecideResponse(result=result_of(outcome, request_id))
        except Exception as error:
            return pb.StreamDecideResponse(result=result_of(internal(error), request_id))

    def _leave(self) -> None:
        with self._lock:
            self._open -= 1
            last = self._open == 0
        if last:
            self._answers.put(None)
