"""A circuit breaker: stops asking a server that keeps failing, and probes it until it answers again."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

_log = logging.getLogger(__name__)

State = Literal["closed", "open", "half_open"]


@dataclass(frozen=True, eq=False, slots=True)
class Permit:
    """Leave to make one call, handed back to the breaker with the call's outcome.

    Attributes
    ----------
    epoch : int
        How often the breaker had changed its state when the permit was given. Outcomes of calls that
        began before the last change say nothing about now and are ignored.
    """

    epoch: int


class CircuitBreaker:
    """Counts consecutive failures of one server; thread-safe.

    Closed, it lets every call through. After `failures` failures in a row it opens and lets none through.
    After `recovery_seconds` it is half-open and lets one call through at a time, the probe: its success
    closes the breaker, its failure opens it again.

    Parameters
    ----------
    failures : int
        Consecutive failures that open it.
    recovery_seconds : float
        Seconds from opening to the first probe.
    clock : callable
        Gives a monotonic time in seconds.
    name : str
        Who fails, for the log.

    Examples
    --------
    >>> breaker = CircuitBreaker(failures=1)
    >>> permit = breaker.acquire()
    >>> breaker.failed(permit)
    >>> breaker.state, breaker.acquire()
    ('open', None)
    """

    def __init__(
        self,
        failures: int = 5,
        recovery_seconds: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
        name: str = "a chat model's server",
    ) -> None:
        if failures < 1 or recovery_seconds < 0:
            raise ValueError("a breaker needs failures >= 1 and recovery_seconds >= 0")
        self.failures = failures
        self.recovery_seconds = recovery_seconds
        self._clock, self._name = clock, name
        self._lock = threading.Lock()
        self._failed = 0
        self._opened: float | None = None
        self._since = 0.0  # when it opened first since it was last closed
        self._probe: Permit | None = None
        self._epoch = 0

    @property
    def state(self) -> State:
        """What the breaker does with the next call."""
        with self._lock:
            return self._state()

    def _state(self) -> State:
        if self._opened is None:
            return "closed"
        return "open" if self._clock() - self._opened < self.recovery_seconds else "half_open"

    def acquire(self) -> Permit | None:
        """Ask for leave to make one call.

        Returns
        -------
        Permit or None
            None where the call must not be made. A permit must come back by exactly one of `succeeded`,
            `failed` and `released`, or no other probe is ever let through.
        """
        with self._lock:
            state = self._state()
            if state == "open" or (state == "half_open" and self._probe is not None):
                return None
            permit = Permit(self._epoch)
            if state == "half_open":
                self._probe = permit
            return permit

    def retry_after(self) -> float:
        """Seconds after which another call may be let through; 0 where one would be now."""
        with self._lock:
            if self._opened is None:
                return 0.0
            left = self._opened + self.recovery_seconds - self._clock()
            if left > 0:
                return left
            # Nobody knows how long the probe takes; a second is soon enough to ask again.
            return 0.0 if self._probe is None else min(1.0, self.recovery_seconds)

    def succeeded(self, permit: Permit) -> None:
        """Say that the server answered."""
        with self._lock:
            if permit.epoch != self._epoch:
                return
            if self._opened is None:
                self._failed = 0
                return
            if permit is not self._probe:
                return
            self._change(opened=None)
            seconds = self._clock() - self._since
        _log.info("%s answers again after %.0f s: the circuit breaker is closed", self._name, seconds)

    def failed(self, permit: Permit) -> None:
        """Say that the server did not answer, or answered that it cannot."""
        with self._lock:
            if permit.epoch != self._epoch:
                return
            if self._opened is not None:  # it is known to be down; the log need not have each probe
                if permit is self._probe:
                    self._change(opened=self._clock())
                return
            self._failed += 1
            if self._failed < self.failures:
                return
            self._since = self._clock()
            self._change(opened=self._since)
        _log.warning(
            "%s failed %d times in a row: the circuit breaker is open, and nothing is asked of it for %g s; "
            "then one call at a time is, until it answers",
            self._name,
            self.failures,
            self.recovery_seconds,
        )

    def released(self, permit: Permit) -> None:
        """Say that the call ended in a way that tells nothing about the server, such as a cancellation."""
        with self._lock:
            if permit is self._probe:
                self._probe = None

    def _change(self, opened: float | None) -> None:
        self._opened = opened
        self._failed = 0
        self._probe = None
        self._epoch += 1


_shared: dict[tuple[str, str], CircuitBreaker] = {}
_shared_lock = threading.Lock()


def shared_breaker(base_url: str, model: str) -> CircuitBreaker:
    """Give the process's one breaker for a server's model, shared by all nodes."""
    name = f"{urlsplit(base_url).hostname}, model {model!r}"
    with _shared_lock:
        return _shared.setdefault((base_url.rstrip("/"), model), CircuitBreaker(name=name))
