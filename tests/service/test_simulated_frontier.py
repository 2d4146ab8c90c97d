"""The simulated frontier replays recorded answers over HTTP."""

import http.client
import json
import math
from collections.abc import Iterator
from typing import Any

import pytest

from cascade.demo.frontier import MODEL, Faults, SimulatedFrontier
from cascade.text import flatten_messages

CHAT = (("user", "hi"), ("assistant", "hello"), ("user", "yes"))
ANSWERS = {
    "money": "short",
    "lend me: money": "loan",
    "two\nlines": "lines",
    "yes": "bare yes",
    flatten_messages(CHAT): "yes in a chat",
    "an object": {"n": 3},
}


@pytest.fixture
def frontier() -> Iterator[SimulatedFrontier]:
    with SimulatedFrontier(ANSWERS, seed=1) as server:
        yield server


def call(
    server: SimulatedFrontier, *messages: tuple[str, str], path: str = "/v1/chat/completions", **more: Any
) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    chat = [{"role": role, "content": content} for role, content in messages]
    method = "POST" if messages else "GET"
    body = json.dumps({"model": MODEL, "messages": chat} | more) if messages else None
    connection.request(method, path, body)
    response = connection.getresponse()
    reply = json.loads(response.read())
    connection.close()
    return response.status, reply


def said(server: SimulatedFrontier, *messages: tuple[str, str], **more: Any) -> str:
    status, reply = call(server, *messages, **more)
    assert status == 200
    return str(reply["choices"][0]["message"]["content"])


@pytest.mark.parametrize(
    ("content", "answer"),
    [
        ("lend me: money", "loan"),
        ("Labels: a, b\nText: lend me: money\n", "loan"),
        ("Text: two\nlines", "lines"),
        ("Text: give money: money", "short"),
        ("an object", '{"n": 3}'),
        ("Text: two\nlines\n\nAnswer with nothing but JSON: {}", "lines"),
    ],
)
def test_the_longest_recorded_input_is_found(frontier: SimulatedFrontier, content: str, answer: str) -> None:
    assert said(frontier, ("user", content)) == answer


def test_a_chat_is_found_whole_or_by_its_last_message(frontier: SimulatedFrontier) -> None:
    assert said(frontier, ("system", "Intent?"), *CHAT) == "yes in a chat"
    assert said(frontier, ("system", "Intent?"), *CHAT[1:]) == "bare yes"
    assert said(frontier, ("system", "Intent?"), ("user", "eh"), ("assistant", "yes")) == "bare yes"


def test_a_label_schema_gets_an_object(frontier: SimulatedFrontier) -> None:
    schema = {"type": "object", "properties": {"label": {"type": "string"}}}
    response_format = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    assert said(frontier, ("user", "yes"), response_format=response_format) == '{"label": "bare yes"}'


def test_it_says_that_it_is_no_real_model(frontier: SimulatedFrontier) -> None:
    status, models = call(frontier, path="/v1/models")
    assert status == 200
    assert [model["id"] for model in models["data"]] == ["simulated-frontier"]
    _, reply = call(frontier, ("user", "yes"), model="big-1")
    assert reply["model"] == "simulated-frontier"
    assert reply["usage"] == {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    assert frontier.requests == 1


def test_what_it_does_not_know_is_an_error(frontier: SimulatedFrontier) -> None:
    status, reply = call(frontier, ("user", "never heard of"))
    assert status == 404
    assert "simulated-frontier has no recorded answer to this text" in reply["error"]["message"]
    assert call(frontier, path="/v2/models")[0] == 404
    assert call(frontier, ("user", "yes"), messages="nonsense")[0] == 400


def test_faults_come_in_the_asked_share_and_repeat_with_the_seed() -> None:
    texts = [f"text {i}" for i in range(200)]
    seen = []
    for seed in (1, 1, 2):
        with SimulatedFrontier(dict.fromkeys(texts, "a"), seed=seed, faults=Faults(error_rate=0.3)) as server:
            seen.append([call(server, ("user", text))[0] for text in texts])
    assert seen[0] == seen[1] != seen[2]
    assert seen[0].count(500) == pytest.approx(60, abs=25)


def test_latency_is_log_normal_and_depends_on_seed_and_text_alone() -> None:
    with SimulatedFrontier({}, latency_spread=0.5, seed=3) as server:
        chances = [server._chance("latency", f"text {i}", 0) for i in range(2000)]
        assert chances == [server._chance("latency", f"text {i}", 0) for i in range(2000)]
    assert sorted(chances)[1000] == pytest.approx(0.5, abs=0.05)
    assert math.isclose(sum(chance < 0.1 for chance in chances) / 2000, 0.1, abs_tol=0.03)


def test_faults_can_be_set_while_it_runs(frontier: SimulatedFrontier) -> None:
    frontier.faults.refuse_all = True
    assert call(frontier, ("user", "yes"))[0] == 503
    frontier.faults.refuse_all = False
    assert said(frontier, ("user", "yes")) == "bare yes"


def test_a_port_that_is_taken_is_an_error(frontier: SimulatedFrontier) -> None:
    with pytest.raises(OSError, match="in use"):
        SimulatedFrontier({}, port=frontier.port)
