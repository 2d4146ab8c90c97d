"""The chat rung over real HTTP on loopback, against the simulated frontier."""

import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from dataclasses import replace

import pytest

from cascade.contract import Contract
from cascade.demo.frontier import MODEL, Faults, SimulatedFrontier
from cascade.demo.recorded import Recorded
from cascade.errors import ConfigError, DeadlineExceeded, RungError, TeacherUnavailable
from cascade.rungs import Answer, Batch, Query, Rung
from cascade.rungs.breaker import CircuitBreaker
from cascade.rungs.chat import ChatRung
from cascade.rungs.chat_settings import ChatSettings
from tests.soon import comes

KEY = "sk-very-secret-0123456789"
PROMPT = "Name the intent, one of {{ choices | join(', ') }}.\nMessage: {{ text }}"
CONTRACT = Contract(labels=("card", "loan", "other"))
ANSWERS = {"where is my card?": "card", "lend me: money": "loan", "hello\nthere": "other"}
Make = Callable[..., ChatRung]


@pytest.fixture
def frontier() -> Iterator[SimulatedFrontier]:
    with SimulatedFrontier(ANSWERS, seed=1, api_key=KEY) as server:
        yield server


@pytest.fixture
def make(frontier: SimulatedFrontier, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    monkeypatch.setenv("FRONTIER_KEY", KEY)
    rungs = []

    def build(
        prompt: str = PROMPT,
        contract: Contract = CONTRACT,
        breaker: CircuitBreaker | None = None,
        **changes: object,
    ) -> ChatRung:
        settings = ChatSettings(
            "frontier", frontier.url, MODEL, "FRONTIER_KEY", price_input=2.5, price_output=10.0
        )
        settings = replace(settings, **changes)  # type: ignore[arg-type]
        rungs.append(ChatRung(settings, prompt, contract, breaker or CircuitBreaker(failures=100)))
        return rungs[-1]

    yield build
    for rung in rungs:
        rung.close()


def ask(rung: ChatRung, text: str = "where is my card?", seconds: float | None = None) -> Answer:
    deadline = None if seconds is None else time.monotonic() + seconds
    [answer] = rung.answer(Batch([Query(text, deadline=deadline)])).each
    if answer.error is not None:
        assert KEY not in f"{answer.error!r} {answer.error.__cause__!r} {answer.error.__context__!r}"
    return answer


def test_it_gives_each_query_its_answer_in_order(make: Make) -> None:
    rung = make()
    assert isinstance(rung, Rung)
    texts = list(ANSWERS) * 20
    answers = rung.answer(Batch([Query(text) for text in texts])).each
    assert [answer.error for answer in answers] == [None] * len(texts)
    assert [answer.value for answer in answers] == [ANSWERS[text] for text in texts]


def test_it_counts_tokens_and_dollars(make: Make) -> None:
    answer = ask(make())
    prompt = "Name the intent, one of card, loan, other.\nMessage: where is my card?"
    assert answer.input_tokens == math.ceil(len(prompt) / 4)
    assert answer.output_tokens == math.ceil(len('{"label": "card"}') / 4)
    assert answer.usd == pytest.approx((answer.input_tokens * 2.5 + answer.output_tokens * 10) / 1e6)


def test_a_chat_follows_the_prompt(make: Make) -> None:
    chat = (("user", "hi"), ("tool", "balance: 3"), ("user", "where is my card?"))
    [answer] = make("Intent?").answer(Batch([Query("flat", messages=chat)])).each
    assert (answer.value, answer.error) == ("card", None)


def test_a_schema_contract_gives_json(make: Make, frontier: SimulatedFrontier) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    frontier._recorded = Recorded({"three": {"n": 3}})
    assert ask(make(contract=Contract(schema=schema)), "three").value == {"n": 3}
    assert ask(make(contract=Contract(schema=schema), structured=False), "three").value == {"n": 3}


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503])
def test_passing_errors_are_retried(make: Make, frontier: SimulatedFrontier, status: int) -> None:
    frontier.faults = Faults(fail_next=2, error_status=status)
    assert ask(make()).value == "card"
    assert frontier.requests == 3


def test_tries_are_bounded(make: Make, frontier: SimulatedFrontier) -> None:
    frontier.faults = Faults(error_rate=1.0)
    error = ask(make(attempts=2)).error
    assert isinstance(error, TeacherUnavailable)
    assert "HTTP 500" in str(error)
    assert "2 of 2 tries" in str(error)
    assert frontier.requests == 2


def test_retry_after_is_honoured(make: Make, frontier: SimulatedFrontier) -> None:
    frontier.faults = Faults(fail_next=1, error_status=429, retry_after=0.4)
    began = time.monotonic()
    assert ask(make()).value == "card"
    assert time.monotonic() - began >= 0.4


def test_a_retry_after_beyond_the_deadline_is_not_waited_for(make: Make, frontier: SimulatedFrontier) -> None:
    frontier.faults = Faults(error_rate=1.0, error_status=429, retry_after=60)
    began = time.monotonic()
    error = ask(make(), seconds=20).error
    assert time.monotonic() - began < 10
    assert isinstance(error, TeacherUnavailable)
    assert error.retry_after == 60
    assert frontier.requests == 1


def test_a_server_that_hangs_is_an_error(make: Make, frontier: SimulatedFrontier) -> None:
    frontier.faults = Faults(timeout_rate=1.0)
    error = ask(make(timeout_seconds=0.1, attempts=2)).error
    assert isinstance(error, TeacherUnavailable)
    assert comes(lambda: frontier.requests == 2)  # a busy machine reads the first after its caller gave up


def test_the_deadline_ends_a_try(make: Make, frontier: SimulatedFrontier) -> None:
    frontier.faults = Faults(timeout_rate=1.0)
    began = time.monotonic()
    assert isinstance(ask(make(), seconds=0.2).error, DeadlineExceeded)
    assert time.monotonic() - began < 5
    assert comes(lambda: frontier.abandoned == 1)


def test_a_deadline_that_has_passed_asks_nobody(make: Make, frontier: SimulatedFrontier) -> None:
    assert isinstance(ask(make(), seconds=-1).error, DeadlineExceeded)
    assert frontier.requests == 0


def test_the_deadline_holds_while_waiting_for_a_slot(make: Make, frontier: SimulatedFrontier) -> None:
    frontier.faults = Faults(timeout_rate=1.0)
    rung = make(max_concurrency=1)
    first = rung.submit(Query("where is my card?"))
    assert comes(lambda: frontier.requests == 1)
    assert isinstance(ask(rung, seconds=0.1).error, DeadlineExceeded)
    assert frontier.requests == 1
    first.cancel()


def test_a_server_that_cannot_be_reached_is_an_error(make: Make) -> None:
    error = ask(make(base_url="http://127.0.0.1:1/v1", attempts=2)).error
    assert isinstance(error, TeacherUnavailable)
    assert "cannot be reached" in str(error)


def test_the_breaker_opens_and_recovers(make: Make, frontier: SimulatedFrontier) -> None:
    class Clock:
        now = 0.0

        def __call__(self) -> float:
            return self.now

    clock = Clock()
    breaker = CircuitBreaker(failures=3, recovery_seconds=10, clock=clock)
    rung, sibling = make(breaker=breaker, attempts=3), make(breaker=breaker)
    frontier.faults.refuse_all = True
    assert "HTTP 503" in str(ask(rung).error)
    assert breaker.state == "open"
    error = ask(sibling).error
    assert isinstance(error, TeacherUnavailable)
    assert error.retry_after == pytest.approx(10)
    assert frontier.requests == 3
    frontier.faults.refuse_all = False
    clock.now = 10
    assert ask(sibling).value == "card"
    assert breaker.state == "closed"


def test_a_cancelled_probe_lets_another_through(make: Make, frontier: SimulatedFrontier) -> None:
    breaker = CircuitBreaker(failures=1, recovery_seconds=0)
    rung = make(breaker=breaker, attempts=1)
    frontier.faults = Faults(fail_next=1)
    ask(rung)
    frontier.faults = Faults(timeout_rate=1.0)
    probe = rung.submit(Query("where is my card?"))
    assert comes(lambda: frontier.requests == 2)
    assert "not asked for now" in str(ask(rung).error)
    probe.cancel()
    assert comes(lambda: frontier.abandoned == 1)
    frontier.faults = Faults()
    assert ask(rung).value == "card"


def test_rungs_of_one_server_share_a_breaker(frontier: SimulatedFrontier) -> None:
    settings = ChatSettings("a", frontier.url, MODEL)
    one = ChatRung(settings, PROMPT, CONTRACT)
    two = ChatRung(replace(settings, name="b"), "{{ text }}", CONTRACT)
    assert one.breaker is two.breaker
    one.close()
    two.close()


def test_a_server_without_structured_output_is_remembered(make: Make, frontier: SimulatedFrontier) -> None:
    frontier.faults.no_response_format = True
    rung = make()
    first = ask(rung)
    assert (first.value, first.error) == ("card", None)
    assert frontier.requests == 2
    assert ask(rung, "lend me: money").value == "loan"
    assert frontier.requests == 3


@pytest.mark.parametrize(
    ("faults", "settings", "says"),
    [
        (Faults(garbage_rate=1.0), {}, "cannot be read"),
        (Faults(refusal_rate=1.0), {}, "refused"),
        (Faults(), {"max_tokens": 2}, "length limit"),
    ],
)
def test_what_is_no_answer_still_costs(
    make: Make, frontier: SimulatedFrontier, faults: Faults, settings: dict[str, int], says: str
) -> None:
    frontier.faults = faults
    answer = ask(make(**settings))
    assert isinstance(answer.error, RungError)
    assert says in str(answer.error)
    assert answer.usd > 0
    assert answer.input_tokens > 0
    assert answer.output_tokens > 0
    assert frontier.requests == 1


def test_a_wrong_key_names_its_variable(
    make: Make, frontier: SimulatedFrontier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRONTIER_KEY", "sk-wrong-key")
    error = ask(make()).error
    assert isinstance(error, TeacherUnavailable)
    assert "FRONTIER_KEY" in str(error)
    assert "sk-wrong-key" not in str(error)
    assert frontier.requests == 1


def test_other_refusals_are_not_retried(make: Make, frontier: SimulatedFrontier) -> None:
    error = ask(make(), "never recorded").error
    assert type(error) is RungError
    assert "HTTP 404 (the_simulated_frontier_has_no_recorded_answer)" in str(error)
    assert frontier.requests == 1


def test_cancelling_the_future_stops_the_call(make: Make, frontier: SimulatedFrontier) -> None:
    frontier.faults = Faults(timeout_rate=1.0)
    future = make().submit(Query("where is my card?"))
    assert comes(lambda: frontier.requests == 1)
    assert future.cancel()
    with pytest.raises(CancelledError):
        future.result(1)
    assert comes(lambda: frontier.abandoned == 1)


def test_close_drops_what_is_under_way(make: Make, frontier: SimulatedFrontier) -> None:
    frontier.faults = Faults(timeout_rate=1.0)
    rung = make()
    future = rung.submit(Query("where is my card?"))
    assert comes(lambda: frontier.requests == 1)
    rung.close()
    assert future.cancelled()
    assert isinstance(ask(rung).error, TeacherUnavailable)


def test_a_missing_key_is_a_configuration_error(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FRONTIER_KEY")
    with pytest.raises(ConfigError, match="FRONTIER_KEY"):
        make()


@pytest.mark.parametrize("prompt", ["{{ text", "{{ txet }}"])
def test_a_wrong_prompt_is_a_configuration_error(make: Make, prompt: str) -> None:
    with pytest.raises(ConfigError, match="prompt"):
        make(prompt)


@pytest.mark.parametrize("prompt", ["{{ text.nothing }}", "{{ text / 2 }}", "{{ text.__class__.__mro__ }}"])
def test_a_prompt_that_fails_fails_the_query_alone(make: Make, prompt: str) -> None:
    assert "cannot be rendered" in str(ask(make(prompt)).error)


def test_connections_are_used_again(make: Make, frontier: SimulatedFrontier) -> None:
    rung = make(max_concurrency=4)
    answers = rung.answer(Batch([Query("where is my card?") for _ in range(40)])).each
    assert {answer.value for answer in answers} == {"card"}
    assert len(frontier._writers) <= 4
