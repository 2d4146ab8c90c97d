"""The circuit breaker opens after consecutive failures and lets one probe through at a time."""

import threading

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cascade.rungs.breaker import CircuitBreaker, Permit, shared_breaker


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def fail(breaker: CircuitBreaker, times: int = 1) -> None:
    for _ in range(times):
        permit = breaker.acquire()
        assert permit is not None
        breaker.failed(permit)


def test_only_consecutive_failures_open_it() -> None:
    breaker = CircuitBreaker(failures=3, clock=Clock())
    fail(breaker, 2)
    permit = breaker.acquire()
    assert permit is not None
    breaker.succeeded(permit)
    fail(breaker, 2)
    assert breaker.state == "closed"
    fail(breaker)
    assert breaker.state == "open"
    assert breaker.acquire() is None


def test_it_says_when_to_come_back() -> None:
    clock = Clock()
    breaker = CircuitBreaker(failures=1, recovery_seconds=10, clock=clock)
    assert breaker.retry_after() == 0
    fail(breaker)
    clock.now += 4
    assert breaker.retry_after() == pytest.approx(6)
    clock.now += 6
    assert breaker.retry_after() == 0
    assert breaker.acquire() is not None
    assert 0 < breaker.retry_after() <= 1


@pytest.mark.parametrize(
    ("outcome", "state"), [("succeeded", "closed"), ("failed", "open"), ("released", "half_open")]
)
def test_one_probe_decides(outcome: str, state: str) -> None:
    clock = Clock()
    breaker = CircuitBreaker(failures=1, recovery_seconds=10, clock=clock)
    fail(breaker)
    clock.now += 10
    assert breaker.state == "half_open"
    probe = breaker.acquire()
    assert probe is not None
    assert breaker.acquire() is None
    getattr(breaker, outcome)(probe)
    assert breaker.state == state
    assert (breaker.acquire() is None) == (state == "open")


def test_outcomes_of_calls_from_before_the_opening_are_ignored() -> None:
    clock = Clock()
    breaker = CircuitBreaker(failures=1, recovery_seconds=10, clock=clock)
    late = [breaker.acquire() for _ in range(3)]
    fail(breaker)
    clock.now += 9
    assert late[0] is not None
    assert late[1] is not None
    breaker.succeeded(late[0])
    assert breaker.state == "open"
    breaker.failed(late[1])
    clock.now += 1
    assert breaker.state == "half_open"  # the late failure did not put the probe off


def test_threads_get_one_probe_between_them() -> None:
    clock = Clock()
    breaker = CircuitBreaker(failures=1, recovery_seconds=1, clock=clock)
    fail(breaker)
    clock.now += 1
    start, permits = threading.Barrier(16), []

    def ask() -> None:
        start.wait()
        permits.append(breaker.acquire())

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(permit is not None for permit in permits) == 1


def test_a_server_and_model_have_one_breaker() -> None:
    assert shared_breaker("http://a/v1", "m") is shared_breaker("http://a/v1/", "m")
    assert shared_breaker("http://a/v1", "m") is not shared_breaker("http://a/v1", "n")


@pytest.mark.parametrize("bad", [{"failures": 0}, {"recovery_seconds": -1.0}])
def test_senseless_settings_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="breaker needs"):
        CircuitBreaker(**bad)  # type: ignore[arg-type]


class BreakerMachine(RuleBasedStateMachine):
    """Checks the breaker against what it promises, with calls that end in any order."""

    FAILURES, RECOVERY = 3, 10

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.breaker = CircuitBreaker(self.FAILURES, self.RECOVERY, self.clock)
        self.flying: list[Permit] = []
        self.opened: float | None = None
        self.failed = 0
        self.current: list[Permit] = []  # those given since the last change of state

    def change(self, opened: float | None) -> None:
        self.opened, self.failed, self.current = opened, 0, []

    @rule()
    def acquire(self) -> None:
        permit = self.breaker.acquire()
        if self.opened is None:
            expected = True
        elif self.clock.now - self.opened < self.RECOVERY:
            expected = False
        else:
            expected = not self.current  # no probe is out
        assert (permit is not None) == expected
        if permit is not None:
            self.flying.append(permit)
            self.current.append(permit)

    @precondition(lambda self: self.flying)
    @rule(data=st.data(), outcome=st.sampled_from(["succeeded", "failed", "failed", "released"]))
    def finish(self, data: st.DataObject, outcome: str) -> None:
        permit = self.flying.pop(data.draw(st.integers(0, len(self.flying) - 1)))
        getattr(self.breaker, outcome)(permit)
        if permit not in self.current:
            return
        self.current.remove(permit)
        if outcome == "succeeded":
            self.failed = 0
            if self.opened is not None:
                self.change(None)
        elif outcome == "failed":
            self.failed += 1
            if self.opened is not None or self.failed == self.FAILURES:
                self.change(self.clock.now)

    @rule(seconds=st.integers(1, 12))
    def wait(self, seconds: int) -> None:
        self.clock.now += seconds

    @invariant()
    def state_is_as_promised(self) -> None:
        if self.opened is None:
            assert self.breaker.state == "closed"
            assert self.failed < self.FAILURES
        else:
            recovered = self.clock.now - self.opened >= self.RECOVERY
            assert self.breaker.state == ("half_open" if recovered else "open")
            assert len(self.current) <= 1
            assert (self.breaker.retry_after() > 0) == (not recovered or bool(self.current))


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(
    max_examples=60, stateful_step_count=40, derandomize=True, database=None
)
