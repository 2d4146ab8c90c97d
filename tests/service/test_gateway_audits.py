"""Audits of what the ladder answered to a captured call ask the frontier as the agent asked."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import grpc
import httpx2
import pytest
from starlette.requests import HTTPConnection

from cascade.config import Config
from cascade.demo.frontier import SimulatedFrontier
from cascade.gateway.audit_call import AuditCall
from cascade.rollout.database_store import DatabaseRolloutStore
from cascade.traffic import TrafficStore
from tests.conftest import NODE
from tests.gateway_side import FORMAT, SYSTEM, Side

OWN_KEY = "agents-own-key"


class Recording(SimulatedFrontier):
    """Keeps the requests that it answers; lets in only the agent's own key."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.asked: list[dict[str, Any]] = []
        super().__init__(answers, api_key=OWN_KEY)

    async def _complete(self, request: dict[str, Any], *rest: Any) -> dict[str, Any]:
        self.asked.append(request)
        return await super()._complete(request, *rest)


@pytest.fixture
def frontier_asked(unseen: list[dict[str, Any]]) -> Iterator[Recording]:
    with Recording({record["text"]: record["label"] for record in unseen}) as server:
        yield server


@pytest.fixture
def side(
    models: Path, configure: Callable[..., Config], store: TrafficStore, frontier_asked: Recording
) -> Iterator[Side]:
    made = Side(audited(configure, frontier_asked), store)
    yield made
    made.close()


def audited(configure: Callable[..., Config], frontier: SimulatedFrontier, **chat: Any) -> Config:
    """Every settled answer is audited; the service has no key of its own, unless `chat` names one."""
    audit = {"ceiling": 1.0, "floor": 1.0}
    return configure(
        chat={"base_url": frontier.url} | chat, http={"listen": "127.0.0.1:0"}, rollout={"audit": audit}
    )


def settle(side: Side, unseen: list[dict[str, Any]], **more: Any) -> str:
    """Have one question answered from the ladder; gives its text."""
    for record in unseen:
        reply = side.ask(record["text"], **more)
        if reply.headers["x-cascade-served-by"] == "ladder":
            return str(record["text"])
    raise AssertionError("the sample holds one")


def audit_all(side: Side) -> None:
    """Let the background do its work until no audit waits."""
    auditor = side.engine.rollouts.auditor
    end = time.monotonic() + 10
    while auditor.waiting and time.monotonic() < end:
        auditor.round()
        auditor._ready.probe_now()
        time.sleep(0.01)
    auditor.round()


def audits(side: Side) -> list[tuple[Any, ...]]:
    with side.store.database.reading() as connection:
        return list(connection.execute("SELECT status, is_right, error, usd FROM audits").fetchall())


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "more", [{}, {"response_format": FORMAT, "temperature": 0.2, "seed": 7}], ids=["text", "JSON"]
)
def test_an_audit_asks_as_the_agent_asked_and_with_its_key(
    side: Side, unseen: list[dict[str, Any]], frontier_asked: Recording, more: dict[str, Any], stream: bool
) -> None:
    asked = {**more, **({"stream": True, "stream_options": {"include_usage": True}} if stream else {})}
    text = settle(side, unseen, **asked)
    frontier_asked.asked.clear()
    audit_all(side)
    (request,) = frontier_asked.asked
    messages = [SYSTEM, {"role": "user", "content": text}]
    assert request == {"model": "simulated-frontier", "messages": messages, **more}
    ((status, right, error, usd),) = audits(side)
    assert (status, right, error) == ("done", 1, None)
    assert usd > 0
    assert side.engine.rollouts.auditor._own_words == set()


def test_a_tool_call_is_audited_as_a_tool_call(
    side: Side, unseen: list[dict[str, Any]], frontier_asked: Recording
) -> None:
    labels = sorted({record["label"] for record in unseen})
    tools = [{"type": "function", "function": {"name": label, "parameters": {}}} for label in labels]
    settle(side, unseen, tools=tools, tool_choice="required")
    frontier_asked.asked.clear()
    audit_all(side)
    assert frontier_asked.asked[0]["tool_choice"] == "required"
    assert [row[:2] for row in audits(side)] == [("done", 1)]


def test_an_audit_that_the_frontier_does_not_want_is_given_up_and_holds_up_no_other(
    side: Side, unseen: list[dict[str, Any]], frontier_asked: Recording
) -> None:
    settle(side, unseen)
    frontier_asked._key = "the agent's key was changed meanwhile"
    audit_all(side)
    ((status, right, error, _),) = audits(side)
    assert (status, right) == ("given-up", None)
    assert "HTTP 401" in error
    assert not any(line.pause for line in side.engine.rollouts.auditor._ready._lines.values())
    assert side.engine.rollouts.auditor._own_words == set()


@pytest.mark.parametrize("status", [401, 403])
def test_while_the_services_own_key_is_refused_audits_wait_but_not_for_what_the_frontier_forbids(
    models: Path,
    configure: Callable[..., Config],
    store: TrafficStore,
    frontier_asked: Recording,
    unseen: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    status: int,
) -> None:
    monkeypatch.setenv("FRONTIER_KEY", OWN_KEY)
    config = audited(configure, frontier_asked, api_key_env="FRONTIER_KEY")
    side = Side(config, store)
    try:
        settle(side, unseen)
        frontier_asked.faults.fail_next, frontier_asked.faults.error_status = 10**6, status
        auditor = side.engine.rollouts.auditor
        end = time.monotonic() + 60
        while auditor.counts.teacher_failures < 4 and auditor.waiting and time.monotonic() < end:
            auditor.round()
            auditor._ready.probe_now()
            time.sleep(0.01)
        auditor.round()
        assert [row[0] for row in audits(side)] == ["waiting" if status == 401 else "given-up"]
        frontier_asked.faults.fail_next = 0
        audit_all(side)
        assert [row[:2] for row in audits(side)] == [("done", 1) if status == 401 else ("given-up", None)]
    finally:
        side.close()


def test_while_the_frontier_is_down_audits_wait_in_memory_but_not_for_ever(
    side: Side, unseen: list[dict[str, Any]], frontier_asked: Recording
) -> None:
    settle(side, unseen)
    auditor = side.engine.rollouts.auditor
    frontier_asked.faults.refuse_all = True
    for _ in range(100):
        auditor.round()
        if auditor.counts.teacher_failures:
            break
        time.sleep(0.02)
    assert [row[0] for row in audits(side)] == ["waiting"]
    next(iter(auditor._ready)).since -= 3601
    audit_all(side)
    assert [row[:3] for row in audits(side)] == [
        ("given-up", None, "the teacher did not answer within an hour")
    ]


def test_what_a_dead_process_was_to_ask_in_an_agents_words_is_given_up_and_not_asked_otherwise(
    side: Side, unseen: list[dict[str, Any]], frontier_asked: Recording, configure: Callable[..., Config]
) -> None:
    settle(side, unseen)
    side.engine.rollouts.auditor._put_down()
    frontier_asked.asked.clear()
    heir = Side(audited(configure, frontier_asked), side.store)
    try:
        assert side.store.flush(10)
        heir.engine.rollouts.auditor.clock = lambda: 4e9
        heir.engine.rollouts.auditor.round()
    finally:
        heir.close()
    assert frontier_asked.asked == []
    ((status, right, error, _),) = audits(side)
    assert (status, right) == ("given-up", None)
    assert "caller's own words" in error
    bundle = side.engine.nodes[NODE].bundle.version
    assert DatabaseRolloutStore(side.store).evidence(NODE, bundle, 0) == []


def test_an_audit_that_waits_holds_nothing_of_the_agents_connection(
    side: Side, unseen: list[dict[str, Any]]
) -> None:
    settle(side, unseen, stream=True)
    (task,) = side.engine.rollouts.auditor._new
    assert isinstance(task.teacher, AuditCall)
    seen, todo = {id(task.teacher._loop), id(task.teacher._upstream)}, [task]
    while todo:
        held = todo.pop()
        if id(held) in seen or isinstance(held, type | ModuleType | FunctionType):
            continue
        seen.add(id(held))
        assert not isinstance(held, HTTPConnection | grpc.aio.ServicerContext | httpx2.Response)
        todo += gc.get_referents(held)


def test_an_audit_outlives_the_http_side(side: Side, unseen: list[dict[str, Any]]) -> None:
    settle(side, unseen)
    side.http.stop()
    auditor = side.engine.rollouts.auditor
    auditor.round()
    auditor.round()
    assert auditor.counts.teacher_failures == 1
    assert [row[0] for row in audits(side)] == ["waiting"]
