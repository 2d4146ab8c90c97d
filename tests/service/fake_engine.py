"""A gRPC server over an engine that only pretends, and what tests ask of it."""

from __future__ import annotations

import threading

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from cascade.ask import Attempt, Decided
from cascade.client import Client
from cascade.config.schema import LimitsConfig, ServerConfig
from cascade.contract import Contract
from cascade.errors import (
    CascadeError,
    InvalidInput,
    TeacherUnavailable,
    UnknownDecision,
    UnknownNode,
)
from cascade.server.serve import CascadeServer
from cascade.v1 import decision_pb2 as pb
from cascade.v1 import decision_pb2_grpc
from cascade.waiting import waiting

LONG = 30.0
LIMITS = LimitsConfig(
    max_text_bytes=100, max_batch=8, max_messages=3, max_context_entries=2, max_request_id_bytes=10
)
CONTRACTS = {
    "intent": Contract(labels=("card_arrival", "card_lost", "refund")),
    "open": Contract(open_labels=True),
    "new": None,
    "slots": Contract(schema={"type": "object"}),
}


class FakeEngine:
    """Answers with the text in capitals; some texts do something else."""

    def __init__(self):
        self.asks, self.reports = [], []
        self.go, self.entered = threading.Event(), threading.Semaphore(0)
        self.is_ready = True

    def contract(self, node):
        if node not in CONTRACTS:
            raise UnknownNode(node, list(CONTRACTS))
        return CONTRACTS[node]

    def decide(self, ask):
        self.asks.append(ask)
        self.contract(ask.node)
        if ask.text == "boom":
            raise KeyError("secret of the inside")
        if ask.text == "teacher is down":
            raise TeacherUnavailable("the teacher does not answer", retry_after=2.5)
        if ask.text in ("wait", "stall"):
            self.entered.release()
            if ask.text == "wait":
                with waiting():
                    assert self.go.wait(LONG)
            else:
                assert self.go.wait(LONG)
        output = {"a": [1, None, True, 0.5]} if ask.node == "slots" else ask.text.upper()
        attempts = (
            Attempt("linear", 0.25, 0.5, 1.5, "confidence 0.5 is below 0.9"),
            Attempt("encoder", None, 0.97, 2.0),
        )
        return Decided("d-1", output, "encoder", 0.97, "b-7", "live", attempts, 0.5, 12, 3, ask.request_id)

    def decide_many(self, asks):
        outcomes = []
        for ask in asks:
            try:
                outcomes.append(self.decide(ask))
            except CascadeError as error:
                outcomes.append(error)
        return outcomes

    def alone(self, node):
        return True

    def decide_each(self, asks, tell, later, slow=lambda: None):
        for i, ask in enumerate(asks):
            try:
                tell(i, self.decide(ask))
            except CascadeError as error:
                tell(i, error)

    def report(self, decision_id, output, right, time, caller=None):
        if decision_id == "unknown":
            raise UnknownDecision("no decision has the id 'unknown'")
        if output == "bad":
            raise InvalidInput("output", "breaks the contract")
        self.reports.append((decision_id, output, right, time))
        return "o-1"

    def ready(self):
        return self.is_ready


class Running:
    def __init__(self, traces=None, **config):
        self.engine = FakeEngine()
        self.server = CascadeServer(self.engine, "127.0.0.1:0", ServerConfig(**config), LIMITS, traces=traces)
        self.target = f"127.0.0.1:{self.server.start()}"
        self.channel = grpc.insecure_channel(self.target)
        self.stub = decision_pb2_grpc.DecisionServiceStub(self.channel)
        self.client = Client(self.target, timeout=LONG)

    def close(self):
        self.engine.go.set()
        self.client.close()
        self.channel.close()
        self.server.stop(0)


def error_of(call):
    with pytest.raises(grpc.RpcError) as caught:
        call()
    details = {}
    status = rpc_status.from_call(caught.value)
    for packed in status.details if status else ():
        for kind in (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo):
            message = kind()
            if packed.Unpack(message):
                details[kind.__name__] = message
    return caught.value, details


def chat(*messages):
    return pb.ChatMessages(
        messages=[pb.ChatMessage(role=role, content=content) for role, content in messages]
    )
