"""Who may read whose traffic and figures, over HTTP: by node, by tenant, and with what the refusals say."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from cascade.ask import Ask
from cascade.rollout.records import Audit, AuditResult
from cascade.security.keys import create_key
from tests.conftest import NODE
from tests.gateway_side import Side
from tests.traffic_records import decision

Start = Callable[..., Side]


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, str]:
    """Tokens of keys, by what they may do."""
    made = {
        "acme": ("acme", (), ("read",)),
        "globex": ("globex", (), ("read",)),
        "elsewhere": ("acme", ("another-node",), ("read",)),
        "caller": ("acme", (), ("decide", "report")),
        "ops": ("ops", (), ("admin",)),
        "ops elsewhere": ("ops", ("another-node",), ("admin",)),
    }
    return {
        name: create_key(tmp_path / "keys.json", tenant, nodes, verbs)[1]
        for name, (tenant, nodes, verbs) in made.items()
    }


@pytest.fixture
def side(start: Start, keys: dict[str, str], unseen: list[dict[str, Any]]) -> Side:
    """A node with 30 decisions of acme, 10 of globex and 5 of nobody; one audit each found a wrong answer."""
    made = start(auth={"keys": "keys.json"})
    for tenant, records in (("acme", unseen[:30]), ("globex", unseen[30:40]), ("", unseen[40:45])):
        context = {"tenant": tenant} if tenant else {}
        decided = [made.engine.decide(Ask(NODE, r["text"], context=context)) for r in records]
        local = next((d for d in decided if d.rung != "frontier"), None)
        if tenant and local is not None:
            drawn = Audit(local.decision_id, NODE, local.bundle_version, 5, time.time(), 0.5, local.rung)
            rollouts = made.engine.rollouts.store
            rollouts.add_audits([drawn], "test", time.time() + 60)
            rollouts.finish_audits([AuditResult(drawn, time.time(), f"told_{tenant}", False, 0.001)])
    assert made.store.flush(10)
    return made


def get(side: Side, path: str, key: str | None = None) -> Any:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    return httpx2.get(f"{side.url}{path}", headers=headers)


def why(reply: Any) -> tuple[int, str]:
    return reply.status_code, reply.json()["error"]["message"]


def test_a_key_reads_what_its_own_tenant_said_and_one_that_administers_reads_all(
    side: Side, keys: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for name, tenants in (("acme", {"acme"}), ("globex", {"globex"}), ("ops", {"acme", "globex", None})):
        reply = get(side, f"/traffic/{NODE}?last=200", keys[name])
        assert reply.status_code == 200, reply.text
        assert reply.headers["cache-control"] == "no-store"
        assert {d["context"].get("tenant") for d in reply.json()["decisions"]} == tenants
    assert len(get(side, f"/traffic/{NODE}?last=3", keys["acme"]).json()["decisions"]) == 3
    read = get(side, f"/traffic/{NODE}?last=200", keys["ops"]).json()["decisions"]
    assert all(d["mode"] == "live" and d["attempts"][-1]["rung"] == d["rung"] for d in read)
    assert any(attempt["reason"].startswith("confidence ") for d in read for attempt in d["attempts"])
    # Who read what is on record; what was said is not.
    assert f"read 10 decisions of node {NODE}, tenant 'globex'" in caplog.text
    assert "all tenants" in caplog.text
    assert keys["acme"] not in caplog.text


def test_words_of_a_validator_that_are_no_text_are_read_like_others(side: Side, keys: dict[str, str]) -> None:
    tried = [{"rung": "linear", "reason": "validator: odd: \ud800"}]
    side.store.record(decision("d-odd", node=NODE, attempts=tried))
    assert side.store.flush(60)
    reply = get(side, f"/traffic/{NODE}?last=1", keys["ops"])
    assert reply.status_code == 200, reply.text
    assert reply.json()["decisions"][0]["attempts"] == tried


def test_the_refusals_say_what_is_missing(side: Side, keys: dict[str, str]) -> None:
    path = f"/traffic/{NODE}"
    assert why(get(side, path)) == (
        401,
        "the call has no key; send the metadata `authorization: Bearer <key>`",
    )
    status, said = why(get(side, path, keys["caller"]))
    assert (status, "allows to decide, report; this needs one that allows `read`" in said) == (403, True)
    assert why(get(side, path, keys["elsewhere"])) == (403, f"the key is not for node {NODE!r}")
    assert why(get(side, path, keys["ops elsewhere"])) == (403, f"the key is not for node {NODE!r}")
    assert get(side, "/traffic/no-such-node", keys["acme"]).status_code == 404
    for last in ("100000", "0", "000000001999999", "1" + 5000 * "0", "-1", "x"):
        assert why(get(side, f"{path}?last={last}", keys["acme"]))[0] == 400
    evil = {"authorization": f"Bearer {keys['acme']}", "host": "evil.example"}
    assert httpx2.get(f"{side.url}{path}", headers=evil).status_code == 403


def test_without_keys_nobody_reads_what_was_said(start: Start) -> None:
    status, said = why(get(start(), f"/traffic/{NODE}"))
    assert status == 403
    assert "none are configured" in said
    assert "cascade key create TENANT --verb read" in said


def test_the_page_shows_a_tenant_its_own_figures(side: Side, keys: dict[str, str]) -> None:
    def shown(name: str) -> Any:
        return get(side, "/page/nodes?hours=24", keys[name]).json()

    for name, decisions, told in (
        ("acme", 30, ["told_acme"]),
        ("globex", 10, ["told_globex"]),
        ("ops", 45, ["told_acme", "told_globex"]),
    ):
        node = shown(name)["nodes"][0]
        assert node["traffic"]["decisions"] == decisions, name
        assert sorted(pair["teacher"] for pair in node["confusions"]) == told
        assert node["audited"]["n"] == len(told)
        assert node["money"]["audits"] == pytest.approx(0.001 * len(told))
    assert (shown("acme")["may_change"], shown("acme")["tenant"]) == (False, "acme")
    assert (shown("ops")["may_change"], shown("ops")["tenant"]) == (True, None)


def test_the_page_shows_the_nodes_of_the_key_only(side: Side, keys: dict[str, str]) -> None:
    for name in ("elsewhere", "ops elsewhere"):
        assert get(side, "/page/nodes", keys[name]).json()["nodes"] == []
    assert get(side, "/page/nodes", keys["caller"]).status_code == 403


def test_who_reads_cannot_change(side: Side, keys: dict[str, str]) -> None:
    token = httpx2.get(side.url).cookies["cascade_csrf"]
    headers = {
        "cookie": f"cascade_csrf={token}",
        "x-cascade-csrf": token,
        "authorization": f"Bearer {keys['acme']}",
    }
    reply = httpx2.post(f"{side.url}/page/nodes/{NODE}/rollback", headers=headers)
    assert (reply.status_code, "needs one that allows `admin`" in reply.text) == (403, True)
