"""What the log says while a chat model fails: each thing soon, once in a while, and nothing secret."""

from __future__ import annotations

import io
import json
import logging
import random
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest

from cascade.contract import Contract
from cascade.gateway import relay as relay_module
from cascade.observe.logs import set_up_logs
from cascade.rungs import Batch, Query
from cascade.rungs import chat as chat_module
from cascade.rungs.breaker import CircuitBreaker
from cascade.rungs.chat import ChatRung
from cascade.rungs.chat_settings import ChatSettings
from cascade.rungs.failure_log import FailureLog
from tests.conftest import NODE
from tests.gateway_side import Side
from tests.soon import comes
from tests.told_frontier import Frontier

KEY = "sk-very-secret-0123456789"
TEXT = "my private words"
WHERE = "chat rung 'frontier' (127.0.0.1, model 'big')"


@pytest.fixture
def frontier() -> Iterator[Frontier]:
    made = Frontier()
    yield made
    made.close()


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """The log as it is written, and nothing held back that other tests said."""
    for module in (chat_module, relay_module):
        monkeypatch.setattr(module, "failure_log", FailureLog())
    root, stream = logging.getLogger(), io.StringIO()
    handlers, level = root.handlers[:], root.level
    set_up_logs("text", stream=stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)


def rung_of(url: str, breaker: CircuitBreaker | None = None, **settings: Any) -> ChatRung:
    made = ChatSettings("frontier", url, "big", "FRONTIER_KEY", **settings)
    return ChatRung(
        made, "Name it: {{ text }}", Contract(labels=("a", "b")), breaker or CircuitBreaker(failures=100)
    )


def ask(rung: ChatRung, seconds: float | None = None) -> None:
    deadline = None if seconds is None else time.monotonic() + seconds
    assert rung.answer(Batch([Query(TEXT, deadline=deadline)])).each[0].error is not None


def lines(said: io.StringIO, form: str = "text") -> list[str]:
    found = said.getvalue().splitlines()
    return [json.loads(line)["event"] if form == "json" else line.split("]: ", 1)[1] for line in found]


def echo(code: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": f"{KEY} may not say {TEXT}"}}


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (500, echo("down"), ["answered HTTP 500 (down); try 2 of 2 in 0.1 s", "gave up after 2 of 2 tries"]),
        (429, echo(KEY), ["answered HTTP 429; try 2 of 2 in 0.1 s", "gave up after 2 of 2 tries"]),
        (503, echo("a\nERROR root: forged"), ["answered HTTP 503; try 2", "answered HTTP 503; gave up"]),
        (401, echo("bad_key"), ["answered HTTP 401: check the key in the environment variable FRONTIER_KEY"]),
        (400, echo("too_long"), ["answered HTTP 400 (too_long)"]),
        (200, b"<html>", ["sent no chat completion"]),
        (200, {"choices": []}, ["sent a completion without choices"]),
    ],
)  # fmt: skip
def test_each_failure_is_said_once_with_rung_reason_and_next_try(
    frontier: Frontier, said: io.StringIO, monkeypatch: pytest.MonkeyPatch, form: Any, status: int, body: Any,
    expected: list[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("FRONTIER_KEY", KEY)
    set_up_logs(form, stream=said)
    monkeypatch.setattr(chat_module, "_WAIT_FIRST", 0.1)
    monkeypatch.setattr(random, "uniform", lambda low, high: 1.0)
    frontier.says(body, status=status)
    rung = rung_of(frontier.url, attempts=2)
    for _ in range(5):
        ask(rung)
    rung.close()
    found = lines(said, form)
    assert len(found) == len(expected)
    for line, words in zip(found, expected, strict=True):
        assert line.startswith(WHERE)
        assert words in line
    for secret in (KEY, TEXT, "forged"):
        assert secret not in said.getvalue()


def test_a_server_that_is_gone_or_stands_still_is_said(
    frontier: Frontier, said: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRONTIER_KEY", KEY)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        rung = rung_of(url, attempts=1, timeout_seconds=0.4)
        ask(rung, seconds=0.3)  # whoever waits for less than the rung would
        assert comes(lambda: "had not answered after 0.3 s, when its caller left" in said.getvalue())
        ask(rung, seconds=0.1)  # says nothing of the server
        ask(rung)
        rung.close()
    gone = rung_of(url, attempts=1)
    ask(gone)
    gone.close()
    assert [line.removeprefix(WHERE)[:25] for line in lines(said)] == [
        " had not answered after 0", " did not answer in 0.4 s;", " cannot be reached (Conne",
    ]  # fmt: skip


def test_the_breaker_says_that_it_opens_and_closes(
    frontier: Frontier, said: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRONTIER_KEY", KEY)
    now = [0.0]
    breaker = CircuitBreaker(3, 10, lambda: now[0], "api.example.com, model 'big'")
    rung = rung_of(frontier.url, breaker, attempts=1)
    frontier.says(echo("down"), status=500)
    for at in (0, 0, 0, 1, 10, 20):  # the last two are probes
        now[0] = at
        ask(rung)
    assert frontier.asked == 5
    now[0] = 34.0
    frontier.says(b"{}")
    ask(rung)  # no answer, but it is there
    rung.close()
    assert [line.split()[1] for line in said.getvalue().splitlines() if "breaker" in line] == [
        "WARNING", "INFO",
    ]  # fmt: skip
    opened, closed = (line for line in lines(said) if "breaker" in line)
    assert opened.startswith(
        "api.example.com, model 'big' failed 3 times in a row: the circuit breaker is open"
    )
    assert closed == "api.example.com, model 'big' answers again after 34 s: the circuit breaker is closed"
    assert sum("is not asked for now" in line for line in lines(said)) == 1


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (503, echo("down"), "the upstream 'frontier' answered HTTP 503 (127.0.0.1)"),
        (429, echo("slow"), "the upstream 'frontier' answered HTTP 429 (127.0.0.1)"),
        (401, echo("bad"), "the upstream 'frontier' answered HTTP 401: check the key"),
        (200, b"<html>", "the upstream 'frontier' sent no whole chat completion (127.0.0.1)"),
        (404, echo("no_such_model"), None),
    ],
)  # fmt: skip
def test_what_the_frontier_fails_at_over_http_is_said_but_not_what_an_agent_does_wrong(
    start: Callable[..., Side], frontier: Frontier, said: io.StringIO, monkeypatch: pytest.MonkeyPatch,
    status: int, body: Any, words: str | None,
) -> None:  # fmt: skip
    monkeypatch.setenv("FRONTIER_KEY", KEY)
    side = start(chat={"base_url": frontier.url, "api_key_env": "FRONTIER_KEY"})
    frontier.says(body, status=status)
    for _ in range(3):
        _post(side)
    found = [line for line in lines(said) if "upstream" in line]
    assert len(found) == (words is not None)
    assert all(line.startswith(words or "") for line in found)
    assert KEY not in said.getvalue()
    assert TEXT not in said.getvalue()


def _post(side: Side) -> None:
    body = {"model": "big", "messages": [{"role": "user", "content": TEXT}]}
    httpx2.post(f"{side.url}/v1/chat/completions", json=body, headers={"x-cascade-node": NODE}, timeout=20)
