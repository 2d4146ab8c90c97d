"""The OpenAI-compatible side over real HTTP, with the official client and the shipped bundle."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx2
import openai
import pytest

from cascade.demo.frontier import SimulatedFrontier
from cascade.gateway.fixed_part import fingerprint
from tests.conftest import NODE
from tests.gateway_side import CHATTER, SYSTEM, Side, settled_and_escalated


def test_a_live_nodes_calls_are_answered_from_the_ladder_and_the_rest_by_the_frontier(
    start: Callable[..., Side], unseen: list[dict[str, Any]], chatty: SimulatedFrontier
) -> None:
    side = start()
    settled = right = 0
    for record in unseen[:60]:
        before = chatty.requests
        reply = side.ask(record["text"])
        completion = reply.parse()
        local = reply.headers["x-cascade-served-by"] == "ladder"
        assert chatty.requests == before + (not local)
        assert reply.headers["x-cascade-node"] == NODE
        assert reply.headers["x-cascade-decision-id"]
        assert completion.choices[0].finish_reason == "stop"
        settled += local
        right += completion.choices[0].message.content == record["label"]
        if local:
            assert float(reply.headers["x-cascade-confidence"]) > 0.5
            assert completion.usage.total_tokens == 0
        else:
            assert (
                "confidence" in reply.headers["x-cascade-why"] or "skipped" in reply.headers["x-cascade-why"]
            )
            assert completion.usage.total_tokens > 0
    assert settled > 30
    assert right >= 57
    calls = side.calls()
    assert len(calls) == 60
    assert {call.node for call in calls} == {NODE}
    assert sum(call.context["served_by"] == "ladder" for call in calls) == settled
    assert side.store.counts(NODE)["decisions"] == 60


def test_a_call_of_no_node_goes_to_the_frontier_and_is_captured(start: Callable[..., Side]) -> None:
    side = start()
    reply = side.client.chat.completions.with_raw_response.create(model="big-1", messages=[CHATTER])
    assert reply.parse().choices[0].message.content.startswith("Roses")
    assert reply.headers["x-cascade-served-by"] == "frontier"
    (call,) = side.calls()
    assert call.node is None
    assert call.messages == [CHATTER]
    assert call.output["content"].startswith("Roses")
    assert call.usd > 0
    assert call.input_tokens > 0


@pytest.mark.parametrize("how", ["header", "fixed part", "prompt"])
def test_a_node_is_recognised_without_the_model_being_changed(
    start: Callable[..., Side], unseen: list[dict[str, Any]], how: str
) -> None:
    side = start(node={"recognise": [fingerprint([SYSTEM])]})
    text = settled_and_escalated(side, unseen)[0]["text"]
    if how == "header":
        more = {"messages": [CHATTER], "extra_headers": {"x-cascade-node": NODE}}
    elif how == "fixed part":
        more = {"messages": [SYSTEM, {"role": "user", "content": text}]}
    else:
        more = {
            "messages": [{"role": "user", "content": f"Name the intent of this customer's message: {text}"}]
        }
    reply = side.client.chat.completions.with_raw_response.create(model="big-1", **more)
    assert reply.headers["x-cascade-recognised-by"] == how
    assert reply.headers["x-cascade-served-by"] == ("frontier" if how == "header" else "ladder")
    assert reply.parse().model == ("simulated-frontier" if how == "header" else "big-1")


def test_the_async_client_does_the_same(start: Callable[..., Side], unseen: list[dict[str, Any]]) -> None:
    side = start()

    async def talk() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{side.url}/v1", api_key="k", max_retries=0) as client:

            async def one(record: dict[str, Any], streamed: bool) -> str:
                messages = [{"role": "user", "content": record["text"]}]
                found = await client.chat.completions.create(  # type: ignore[call-overload]
                    model=f"cascade/{NODE}", messages=messages, stream=streamed
                )
                if not streamed:
                    return str(found.choices[0].message.content)
                return "".join([c.choices[0].delta.content or "" async for c in found])

            return await asyncio.gather(*[one(r, i % 2 == 0) for i, r in enumerate(unseen[:40])])

    said = asyncio.run(talk())
    assert sum(text == record["label"] for text, record in zip(said, unseen, strict=False)) >= 37


def test_what_no_ladder_can_answer_is_passed_on_with_the_reason(
    start: Callable[..., Side], unseen: list[dict[str, Any]]
) -> None:
    side = start()
    text = unseen[0]["text"]
    image = [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": "data:x"}}]
    for more, why in (
        ({"logprobs": True}, "logprobs"),
        ({"messages": [{"role": "user", "content": image}]}, "more than text"),
        ({"messages": [{"role": "user", "content": f"{text}{' ' * 17_000}x: {text}"}]}, "longer than"),
    ):
        reply = side.ask(text, **more)
        assert reply.parse().choices[0].message.content == unseen[0]["label"]
        assert why in reply.headers["x-cascade-why"]
        assert reply.headers["x-cascade-served-by"] == "frontier"


def test_models_list_the_nodes_and_other_paths_are_passed_on(start: Callable[..., Side]) -> None:
    side = start()
    assert [model.id for model in side.client.models.list()] == ["simulated-frontier", f"cascade/{NODE}"]
    with pytest.raises(openai.NotFoundError, match="there is no POST /v1/embeddings"):
        side.client.embeddings.create(model="e", input="x")
    assert httpx2.get(f"{side.url}/v1/a/../../etc").status_code in (400, 404)
    assert httpx2.get(f"{side.url}/healthz").json() == {"ready": True}
