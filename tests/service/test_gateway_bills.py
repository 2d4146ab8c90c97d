"""What calls cost that are passed on as they are: `/v1/responses`, `/v1/completions` and others."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import openai
import pytest

from tests.gateway_side import Side
from tests.service.fake_engine import LONG
from tests.soon import comes

PRICE = {"input": 1_000_000, "output": 1_000}  # a dollar for a token that is read, a tenth of a cent else


class Frontier:
    """Answers whatever is asked with what it is told to say."""

    def __init__(self) -> None:
        self.status, self.kind, self.parts = 200, "application/json", [b"{}"]
        self.go = threading.Event()
        self.go.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                self.rfile.read(int(self.headers.get("content-length") or 0))
                self.send_response(outer.status)
                self.send_header("content-type", outer.kind)
                self.send_header("content-length", str(sum(map(len, outer.parts))))
                self.end_headers()
                for part in outer.parts[:-1]:
                    self.wfile.write(part)
                outer.go.wait(LONG)
                self.wfile.write(outer.parts[-1])

            do_GET = do_POST = _answer  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def says(self, **answer: Any) -> None:
        self.parts = [json.dumps(answer).encode()]

    def streams(self, *events: dict[str, Any]) -> None:
        self.kind = "text/event-stream"
        self.parts = [b"data: " + json.dumps(event).encode() + b"\n\n" for event in events]

    def close(self) -> None:
        self.go.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def frontier() -> Iterator[Frontier]:
    made = Frontier()
    yield made
    made.close()


@pytest.fixture
def side(start: Callable[..., Side], frontier: Frontier) -> Side:
    return start(
        chat={"base_url": frontier.url, "price": PRICE, "timeout_seconds": LONG},
        tenants={"default": {"usd_per_day": 10}},
    )


def spent(side: Side, usd: float) -> bool:
    quotas = side.http._gate.quotas
    assert quotas is not None
    return comes(lambda: quotas.spent("") == pytest.approx(usd, abs=1e-6))


def test_a_limit_of_spending_holds_for_what_is_passed_on(side: Side, frontier: Frontier) -> None:
    frontier.says(object="text_completion", choices=[], usage={"prompt_tokens": 4, "total_tokens": 4})
    assert httpx2.post(f"{side.url}/v1/completions", json={"prompt": "x"}).status_code == 200
    assert spent(side, 4)
    frontier.says(id="r", object="response", usage={"input_tokens": 5, "output_tokens": 30})
    side.client.responses.create(model="m", input="x")
    assert spent(side, 9.03)
    side.client.responses.create(model="m", input="x")
    assert spent(side, 14.06)
    with pytest.raises(openai.RateLimitError, match="used up its"):
        side.client.responses.create(model="m", input="x")


def test_a_stream_that_is_passed_on_says_what_it_took_in_its_last_event(
    side: Side, frontier: Frontier
) -> None:
    said = {"type": "response.output_text.delta", "delta": 400 * "w"}
    end = {"type": "response.completed", "response": {"usage": {"input_tokens": 2, "output_tokens": 7}}}
    frontier.streams(said, end)
    assert httpx2.post(f"{side.url}/v1/responses", json={"input": "x"}).text.count("data: ") == 2
    assert spent(side, 2.007)


def test_a_stream_may_say_what_it_took_in_parts(side: Side, frontier: Frontier) -> None:
    begin = {"type": "message_start", "message": {"usage": {"input_tokens": 3, "output_tokens": 1}}}
    said = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": 400 * "w"}}
    frontier.streams(begin, said, {"type": "message_delta", "usage": {"output_tokens": 90}})
    asked = {"messages": [{"role": "user", "content": "hi"}]}
    assert httpx2.post(f"{side.url}/v1/messages", json=asked).text.count("data: ") == 3
    assert spent(side, 3.09)
    frontier.go.clear()
    with httpx2.stream("POST", f"{side.url}/v1/messages", json=asked) as reply:
        lines = reply.iter_lines()
        assert sum("data: " in next(lines) for _ in range(3)) == 2
    assert spent(side, 6.19), "what was said when the agent left is more than was told at the start"


@pytest.mark.parametrize(
    ("path", "asked", "said"),
    [
        ("responses", {"input": [{"role": "user", "content": "12345678"}]}, {"delta": 400 * "w"}),
        ("completions", {"prompt": "12345678"}, {"choices": [{"index": 0, "text": 400 * "w"}]}),
    ],
)
def test_who_leaves_a_stream_that_is_passed_on_pays_for_what_was_asked_and_said(
    side: Side, frontier: Frontier, path: str, asked: dict[str, Any], said: dict[str, Any]
) -> None:
    frontier.go.clear()
    frontier.streams(said, {"usage": {"prompt_tokens": 1}})
    with httpx2.stream("POST", f"{side.url}/v1/{path}", json=asked | {"stream": True}) as reply:
        assert "w" in next(reply.iter_lines())
    assert spent(side, 2.1)


def test_who_leaves_an_answer_in_the_middle_pays_for_what_was_asked(side: Side, frontier: Frontier) -> None:
    frontier.go.clear()
    frontier.parts = [b'{"object": "list", "data": [' + 9000 * b" ", b"]}"]
    with httpx2.stream("POST", f"{side.url}/v1/responses", json={"input": "12345678"}) as reply:
        assert next(reply.iter_raw())
    assert spent(side, 2)


def test_what_says_nothing_of_tokens_and_what_is_refused_or_only_looked_at_costs_nothing(
    side: Side, frontier: Frontier
) -> None:
    usage = {"usage": {"input_tokens": 5}}
    frontier.says(id="file")
    assert httpx2.post(f"{side.url}/v1/files", json={"input": "12345678"}).status_code == 200
    frontier.says(**usage)
    assert httpx2.get(f"{side.url}/v1/responses/r").status_code == 200
    assert httpx2.post(f"{side.url}/v1/embeddings", json={"input": "12345678"}).status_code == 200
    frontier.status = 500
    assert httpx2.post(f"{side.url}/v1/responses", json={"input": "x"}).status_code == 500
    frontier.status = 200
    assert httpx2.post(f"{side.url}/v1/responses", json={"input": "x"}).status_code == 200
    assert spent(side, 5)


def test_a_large_answer_pays_what_it_says_at_its_end(side: Side, frontier: Frontier) -> None:
    # A few hundred tokens with twenty `top_logprobs` each are a megabyte, which any agent may ask for.
    output = [{"text": 'x "usage": {"output_tokens": 9}', "logprobs": ["{" * 1_500_000]}]
    frontier.says(
        output=output, usage={"input_tokens": 5, "details": {"x": {}}, "output_tokens": 30}, user="u"
    )
    assert httpx2.post(f"{side.url}/v1/responses", json={"input": "x"}).status_code == 200
    assert spent(side, 5.03)


def test_what_a_stream_says_in_pieces_and_then_once_more_is_paid_once(side: Side, frontier: Frontier) -> None:
    frontier.go.clear()
    text = 400 * "w"
    frontier.streams(
        {"type": "response.output_text.delta", "delta": text},
        {"type": "response.output_text.done", "text": text},
        {"type": "response.completed"},
    )
    asked = {"input": "12345678", "stream": True}
    with httpx2.stream("POST", f"{side.url}/v1/responses", json=asked) as reply:
        lines = reply.iter_lines()
        while "output_text.done" not in next(lines):
            pass
    assert spent(side, 2.1)


def test_a_part_of_the_usage_that_is_not_known_yet_takes_nothing_back(side: Side, frontier: Frontier) -> None:
    frontier.streams(
        {"type": "message_start", "message": {"usage": {"input_tokens": 25, "output_tokens": 1}}},
        {"type": "message_delta", "usage": {"input_tokens": None, "output_tokens": 15}},
    )
    assert httpx2.post(f"{side.url}/v1/messages", json={"messages": []}).status_code == 200
    assert spent(side, 25.015)
