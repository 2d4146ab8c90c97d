"""An agent framework, as its users write it: only `base_url` is changed."""

import asyncio
from collections.abc import Callable
from typing import Any, Literal

import pytest

from cascade.gateway.fixed_part import fingerprint
from tests.conftest import NODE
from tests.gateway_side import Side

pydantic_ai = pytest.importorskip("pydantic_ai", reason="pydantic-ai-slim[openai] is not installed")


def test_a_pydantic_ai_agent_gets_its_typed_output_from_the_ladder_and_from_the_frontier(
    start: Callable[..., Side],
    unseen: list[dict[str, Any]],
) -> None:
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    labels = tuple(sorted({record["label"] for record in unseen}))
    side = start()

    def agent(at: Side) -> Any:
        provider = OpenAIProvider(base_url=f"{at.url}/v1", api_key="agents-own-key")
        return Agent(
            OpenAIChatModel("big-1", provider=provider),
            instructions="Name the intent of the customer's message.",
            output_type=Literal[labels],  # type: ignore[valid-type]
        )

    async def ask(at: Side, records: list[dict[str, Any]]) -> list[str]:
        asked = agent(at)
        return [(await asked.run(record["text"])).output for record in records]

    # First everything goes to the frontier and is captured; that tells how to recognise the node.
    assert asyncio.run(ask(side, unseen[:1])) == [unseen[0]["label"]]
    (call,) = side.calls()
    assert call.node is None
    found = fingerprint(call.messages, call.tools, call.response_format)
    live = start(node={"recognise": [found]})
    said = asyncio.run(ask(live, unseen[:40]))
    assert sum(label == record["label"] for label, record in zip(said, unseen, strict=False)) >= 37
    by = [call.context["served_by"] for call in live.calls()[1:]]
    assert len(by) == 40
    assert by.count("ladder") > 20
    assert by.count("frontier") > 0
    assert {call.node for call in live.calls()[1:]} == {NODE}
