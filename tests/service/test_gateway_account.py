"""What callers reach, and what they see, of the service's own account at the frontier."""

from __future__ import annotations

import json
import select
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from cascade.security.keys import create_key, read_keys, write_keys
from tests.conftest import NODE
from tests.gateway_side import CHATTER, SYSTEM, Side
from tests.soon import comes

SECRET = "sk-operator-0123456789/abc"
COMPLETION = {
    "id": "c", "object": "chat.completion", "created": 0, "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}  # fmt: skip
OTHERS = (
    ("POST", "embeddings"), ("POST", "responses"), ("GET", "files"), ("DELETE", "files/file-1"),
    ("POST", "fine_tuning/jobs"), ("POST", "batches"), ("GET", "chat/completions"), ("DELETE", "models/mine"),
)  # fmt: skip


class Account:
    """The frontier: says what it is told to, and keeps what it was asked."""

    def __init__(self) -> None:
        self.status, self.kind, self.body = 200, "application/json", json.dumps(COMPLETION).encode()
        self.headers: dict[str, str] = {}
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        self.hangs, self.left = False, threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                outer.asked.append((self.command, self.path, headers, body))
                if outer.hangs:
                    select.select([self.connection], [], [], 60)
                    outer.left.set()
                    return
                self.send_response(outer.status)
                self.send_header("content-type", outer.kind)
                self.send_header("content-length", str(len(outer.body)))
                for name, value in outer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(outer.body)

            do_GET = do_POST = do_DELETE = _answer  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def refuses(self, status: int, message: str, code: str | None = None) -> None:
        self.status = status
        self.body = json.dumps({"error": {"message": message, "code": code}}).encode()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def account() -> Iterator[Account]:
    made = Account()
    yield made
    made.close()


@pytest.fixture
def side(start: Callable[..., Side], account: Account, monkeypatch: pytest.MonkeyPatch) -> Side:
    """A service without keys, whose frontier has one."""
    monkeypatch.setenv("FRONTIER_KEY", SECRET)
    return start(chat={"base_url": account.url, "api_key_env": "FRONTIER_KEY"})


@pytest.fixture
def kept(
    start: Callable[..., Side], account: Account, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Side:
    """A service with keys."""
    monkeypatch.setenv("FRONTIER_KEY", SECRET)
    create_key(tmp_path / "keys.json", "somebody")
    chat = {"base_url": account.url, "api_key_env": "FRONTIER_KEY"}
    return start(chat=chat, auth={"keys": "keys.json"})


def key_of(tmp_path: Path, **what: Any) -> dict[str, str]:
    _, token = create_key(tmp_path / "keys.json", "acme", **what)
    return {"authorization": f"Bearer {token}"}


def call(side: Side, method: str, path: str, headers: dict[str, str], body: Any = None) -> httpx2.Response:
    content = None if method == "GET" else json.dumps({} if body is None else body)
    return httpx2.request(method, f"{side.url}/v1/{path}", headers=headers, content=content)


def known(side: Side, headers: dict[str, str]) -> bool:
    """Wait until the service has read a key that was just made."""
    return comes(lambda: httpx2.get(f"{side.url}/page/nodes", headers=headers).status_code != 401)


def test_a_key_for_nodes_reaches_nothing_of_the_frontier_but_what_answers_them(
    kept: Side, account: Account, tmp_path: Path
) -> None:
    headers = key_of(tmp_path, nodes=[NODE])
    assert known(kept, headers)
    free = {"model": "big-1", "messages": [CHATTER]}
    refused = call(kept, "POST", "chat/completions", headers, free)
    assert refused.status_code == 403
    assert "the key is for its nodes alone" in refused.json()["error"]["message"]
    for method, path in OTHERS:
        assert call(kept, method, path, headers).status_code == 403, path
    listed = call(kept, "GET", "models", headers).json()["data"]
    assert [model["id"] for model in listed] == [f"cascade/{NODE}"]
    assert account.asked == []
    # Its own node goes up to the frontier, and to the model that the node's ladder names.
    question = {"model": "big-1", "messages": [SYSTEM, {"role": "user", "content": "zzqx wvut"}]}
    found = call(kept, "POST", "chat/completions", headers | {"x-cascade-node": NODE}, question)
    assert found.status_code == 200
    ((_, path, sent, body),) = account.asked
    assert (path, sent["authorization"]) == ("/v1/chat/completions", f"Bearer {SECRET}")
    assert json.loads(body)["model"] == "simulated-frontier"


def test_a_key_for_other_nodes_reaches_nothing(kept: Side, account: Account, tmp_path: Path) -> None:
    headers = key_of(tmp_path, nodes=["another"])
    assert known(kept, headers)
    for model, more in ((f"cascade/{NODE}", {}), ("big-1", {"x-cascade-node": NODE}), ("big-1", {})):
        asked = {"model": model, "messages": [CHATTER]}
        assert call(kept, "POST", "chat/completions", headers | more, asked).status_code == 403
    assert account.asked == []


def test_the_rest_of_the_api_is_for_keys_that_allow_proxy(
    kept: Side, account: Account, tmp_path: Path
) -> None:
    for verbs in (("decide", "report", "read"), ("admin",)):
        headers = key_of(tmp_path, verbs=verbs)
        assert known(kept, headers)
        for method, path in OTHERS:
            refused = call(kept, method, path, headers)
            assert refused.status_code == 403
            assert "needs one that allows `proxy`" in refused.json()["error"]["message"]
    assert account.asked == []
    chats = key_of(tmp_path, verbs=["decide"])
    assert known(kept, chats)
    free = {"model": "big-1", "messages": [CHATTER]}
    assert call(kept, "POST", "chat/completions", chats, free).status_code == 200
    proxies = key_of(tmp_path, verbs=["proxy"])
    assert known(kept, proxies)
    assert call(kept, "POST", "chat/completions", proxies, free).status_code == 403
    account.asked.clear()
    whose = {"openai-organization": "org-another", "openai-project": "proj-another"}
    for method, path in OTHERS:
        assert call(kept, method, path, proxies | whose).status_code == 200
    for (method, path), (asked_method, asked_path, sent, _) in zip(OTHERS, account.asked, strict=True):
        assert (asked_method, asked_path) == (method, f"/v1/{path}")
        assert sent["authorization"] == f"Bearer {SECRET}"
        assert not sent.keys() & whose.keys()


def test_a_key_that_was_written_with_nodes_and_proxy_is_for_its_nodes(
    kept: Side, account: Account, tmp_path: Path
) -> None:
    headers = key_of(tmp_path, verbs=["decide", "proxy"])
    keys = read_keys(tmp_path / "keys.json")
    write_keys(tmp_path / "keys.json", [*keys[:-1], replace(keys[-1], nodes=(NODE,))])
    assert known(kept, headers)
    assert comes(lambda: call(kept, "GET", "files", headers).status_code == 403)
    account.asked.clear()
    assert call(kept, "GET", "files", headers).status_code == 403
    assert account.asked == []


def everywhere(side: Side, headers: dict[str, str]) -> Iterator[httpx2.Response]:
    """Ask in each way that reaches the frontier."""
    asked = {"model": "big-1", "messages": [CHATTER]}
    node = {"model": f"cascade/{NODE}", "messages": [{"role": "user", "content": "zzqx wvut"}]}
    for body in (asked, asked | {"stream": True}, node, node | {"stream": True}):
        yield call(side, "POST", "chat/completions", headers, body)
    yield call(side, "POST", "embeddings", headers, {"input": "x"})
    yield call(side, "GET", "files", headers)


@pytest.mark.parametrize("status", [401, 403])
def test_that_the_frontier_refuses_our_key_is_our_fault_and_the_key_is_not_shown(
    side: Side, account: Account, status: int
) -> None:
    account.refuses(status, f"Incorrect API key provided: {SECRET}", "invalid_api_key")
    account.headers = {"www-authenticate": f"Bearer {SECRET}"}
    for reply in everywhere(side, {}):
        assert reply.status_code == 502
        error = reply.json()["error"]
        assert error["code"] == "teacher_unavailable"
        assert f"HTTP {status}: check the key in the environment variable FRONTIER_KEY" in error["message"]
        assert SECRET not in f"{reply.text} {reply.headers}"
    assert [model["id"] for model in call(side, "GET", "models", {}).json()["data"]] == [f"cascade/{NODE}"]


def test_without_a_key_for_the_frontier_its_refusal_is_no_matter_of_who_has_a_key_of_ours(
    start: Callable[..., Side], account: Account, tmp_path: Path
) -> None:
    headers = key_of(tmp_path, verbs=["decide", "proxy"])
    side = start(chat={"base_url": account.url}, auth={"keys": "keys.json"})
    account.refuses(401, "no key")
    for reply in everywhere(side, headers):
        assert (reply.status_code, "set api_key_env" in reply.text) == (502, True)
    assert all("authorization" not in sent for _, _, sent, _ in account.asked)


def test_an_error_with_our_key_in_it_keeps_its_status_and_its_code_alone(
    side: Side, account: Account
) -> None:
    for said in (SECRET, SECRET.replace("/", "\\/")):  # the second as other writers of JSON escape it
        account.refuses(429, "for @: too many", "rate_limit")
        account.body = account.body.replace(b"@", said.encode())
        account.headers = {"retry-after": "7", "x-echo": SECRET}
        for reply in everywhere(side, {}):
            assert reply.status_code == 429
            assert reply.headers["retry-after"] == "7"
            assert reply.json()["error"]["code"] == "rate_limit"
            assert SECRET not in f"{reply.json()} {reply.headers}"
    account.refuses(400, "hm", SECRET)
    for reply in everywhere(side, {}):
        assert (reply.status_code, reply.json()["error"]["code"]) == (400, None)
        assert SECRET not in str(reply.json())


def test_any_other_error_goes_on_as_it_came(side: Side, account: Account) -> None:
    account.refuses(400, "temperature: must be 1", "unsupported_value")
    for reply in everywhere(side, {}):
        assert (reply.status_code, reply.content) == (400, account.body)


def test_a_success_that_is_no_completion_and_has_our_key_is_an_error(side: Side, account: Account) -> None:
    account.kind, account.body = "text/html", f"<html>{SECRET}".encode()
    for reply in list(everywhere(side, {}))[:4]:
        assert reply.status_code == 502
        assert SECRET not in reply.text


@pytest.mark.parametrize("spelt", ["/", "\\/", "\\u002f"])
def test_a_stream_is_broken_off_before_an_error_that_has_our_key(
    side: Side, account: Account, spelt: str
) -> None:
    chunk = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "Roses"}}]}
    for more in ({}, {"choices": [{"index": 0, "delta": {}, "finish_reason": "error"}]}):
        failed = {"error": {"message": f"no key {SECRET}"}} | more
        account.kind = "text/event-stream"
        events = (json.dumps(chunk), json.dumps(failed).replace("/", spelt))
        account.body = b"".join(b"data: " + each.encode() + b"\n\n" for each in events)
        body = json.dumps({"model": "m", "messages": [CHATTER], "stream": True})
        said: list[bytes] = []
        with (
            httpx2.stream("POST", f"{side.url}/v1/chat/completions", content=body) as reply,
            pytest.raises(httpx2.RemoteProtocolError),
        ):
            said.extend(reply.iter_raw())
        assert b"Roses" in b"".join(said)
        assert SECRET.replace("/", spelt).encode() not in b"".join(said)


@pytest.mark.parametrize("path", ["embeddings", "responses"])
def test_who_goes_away_before_there_is_an_answer_takes_the_call_to_the_frontier_along(
    side: Side, account: Account, path: str
) -> None:
    account.hangs = True
    at = urlsplit(side.url)
    assert at.hostname is not None
    with socket.create_connection((at.hostname, at.port or 0)) as agent:
        agent.sendall(
            f"POST /v1/{path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            "content-length: 2\r\n\r\n{}".encode()
        )
        assert comes(lambda: account.asked)
        assert not account.left.is_set()
    assert account.left.wait(20)
    account.hangs = False
    assert call(side, "POST", path, {}).status_code == 200
