"""The typed clients against a real server."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from cascade.client import AsyncClient, DecisionError, Question
from tests.service.fake_engine import LONG


def test_the_asyncio_client_does_the_same(shared):
    async def talk():
        async with AsyncClient(shared.target, timeout=LONG) as client:
            assert (await client.decide(node="intent", text="a", request_id="r")).label == "A"
            results = await client.batch_decide(node="intent", texts=["b", "teacher is down"])
            assert results[0].label == "B"
            assert results[1].code is grpc.StatusCode.UNAVAILABLE
            questions = [Question("intent", text) for text in "cde"]
            assert sorted([answer.label async for answer in client.stream_decide(questions)]) == list("CDE")
            assert await client.report_outcome(decision_id="d-1", right=True) == "o-1"
            with pytest.raises(DecisionError) as caught:
                await client.decide(node="intent", text=" ")
            assert (caught.value.field, caught.value.reason) == ("text", "INVALID_INPUT")

    asyncio.run(talk())


def test_the_client_refuses_what_cannot_be_asked(shared):
    client = shared.client
    with pytest.raises(ValueError, match="not both"):
        client.decide(node="intent", text="x", messages=[("user", "x")])
    with pytest.raises(ValueError, match="either texts or inputs"):
        client.batch_decide(node="intent")
    with pytest.raises(ValueError, match="not one string"):
        client.batch_decide(node="intent", texts="abc")
    with pytest.raises(ValueError, match="not one string"):
        client.decide(node="intent", text="x", choices="refund")
    with pytest.raises(ValueError, match="2 request_ids"):
        client.batch_decide(node="intent", texts=["x"], request_ids=["a", "b"])
    with pytest.raises(ValueError, match="exactly one"):
        client.report_outcome(decision_id="d-1", label="a", right=True)
