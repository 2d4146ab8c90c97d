"""Whose key goes where, and what a tenant may do and spend over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from cascade.demo.frontier import SimulatedFrontier
from cascade.security.keys import create_key
from cascade.traffic import TrafficStore
from tests.gateway_side import CHATTER, Configure, Side


def test_the_key_of_the_configuration_wins_and_the_agents_own_passes_through(
    models: Path, configure: Configure, store: TrafficStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRONTIER_KEY", "ours")
    for key, options in (("agents-own-key", {}), ("ours", {"api_key_env": "FRONTIER_KEY"})):
        with SimulatedFrontier({CHATTER["content"]: "yes"}, api_key=key) as frontier:
            chat = {"base_url": frontier.url} | options
            side = Side(configure(chat=chat, http={"listen": "127.0.0.1:0"}), store)
            try:
                side.client.chat.completions.create(model="m", messages=[CHATTER])
                monkeypatch.setenv("FRONTIER_KEY", "another")
                other = side.client.with_options(api_key="another").chat.completions
                # Whose key it is, his is the error.
                refused = openai.InternalServerError if options else openai.AuthenticationError
                with pytest.raises(refused):
                    other.create(model="m", messages=[CHATTER])
                monkeypatch.setenv("FRONTIER_KEY", "ours")
            finally:
                side.close()
    store.flush(10)
    raw = b"".join(
        path.read_bytes() for path in Path(store.path).parent.glob("traffic.db*") if path.is_file()
    )  # type: ignore[attr-defined]
    assert b"agents-own-key" not in raw


def test_keys_and_quotas_hold_over_http_too(
    start: Callable[..., Side], unseen: list[dict[str, Any]], tmp_path: Path
) -> None:
    _, secret = create_key(tmp_path / "keys.json", "acme", verbs=("decide",))
    _, elsewhere = create_key(tmp_path / "keys.json", "acme", nodes=("another",))
    _, reporter = create_key(tmp_path / "keys.json", "acme", verbs=("report",))
    tenants = {"acme": {"usd_per_day": 1e-9}}
    side = start(auth={"keys": "keys.json"}, tenants=tenants)
    with pytest.raises(openai.AuthenticationError, match="unknown, revoked or has expired"):
        side.ask(unseen[0]["text"])
    with pytest.raises(openai.PermissionDeniedError, match="needs one that allows `decide`"):
        side.client.with_options(api_key=reporter).models.list()
    assert httpx2.post(f"{side.url}/v1/embeddings", json={}).status_code == 401
    side.client = side.client.with_options(api_key=elsewhere)
    with pytest.raises(openai.PermissionDeniedError, match="is not for node"):
        side.ask(unseen[0]["text"])
    side.client = side.client.with_options(api_key=secret)
    assert side.ask(unseen[0]["text"], model="m").status_code == 200  # the first dollar is spent
    reasons, hints = set(), set()
    for record in unseen[:30]:
        try:
            assert side.ask(record["text"]).headers["x-cascade-served-by"] == "ladder"
        except openai.RateLimitError as error:
            reasons.add(error.body["code"])
            hints.add(int(error.response.headers["retry-after"]))
    assert reasons == {"quota_exceeded"}
    assert 1 <= min(hints) <= max(hints) <= 86_400
    with pytest.raises(openai.RateLimitError, match="only local answers are left"):
        side.ask(unseen[0]["text"], model="m")
    assert {call.tenant for call in side.calls()} == {"acme"}
