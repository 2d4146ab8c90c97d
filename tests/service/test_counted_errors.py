"""Every error that a caller is told of is counted, refusals as well, of which nothing is in the log."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

from cascade.config.security import TenantConfig
from cascade.config.server import ServerConfig
from cascade.errors import Unauthenticated
from cascade.gateway.replies import error_reply
from cascade.observe.failures import failures
from cascade.security.keys import KeyRing, create_key
from cascade.server.gate import Gate
from cascade.server.quotas import Quotas
from cascade.server.serve import CascadeServer
from cascade.v1 import decision_pb2 as pb
from cascade.v1 import decision_pb2_grpc
from tests.service.fake_engine import LIMITS, LONG, FakeEngine


class Guarded:
    """A server with keys and a tenant's limit of a call an hour, and five at once."""

    def __init__(self, folder: Path) -> None:
        self.engine: Any = FakeEngine()
        keys = folder / "keys.json"
        made = {verb: create_key(keys, "acme", verbs=[verb])[1] for verb in ("decide", "report")}
        self.decides, self.reports = ((("authorization", f"Bearer {key}"),) for key in made.values())
        limits = {"acme": TenantConfig(requests_per_second=1 / 3600, burst=5)}
        self.gate = Gate(KeyRing(keys), Quotas(limits, folder / "tenants.state"))
        self.server = CascadeServer(self.engine, "127.0.0.1:0", ServerConfig(), LIMITS, gate=self.gate)
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.server.start()}")
        self.stub = decision_pb2_grpc.DecisionServiceStub(self.channel)

    def close(self) -> None:
        self.channel.close()
        self.server.stop(0)
        self.gate.close()


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    made = Guarded(tmp_path)
    yield made
    made.close()


def counted(call: Callable[[], Any]) -> dict[tuple[str, str, str], int]:
    """Give what was counted during a call, whatever became of it."""
    before = Counter(failures.counts())
    with suppress(grpc.RpcError):
        call()
    return dict(Counter(failures.counts()) - before)


def test_refused_calls_are_counted_by_method_code_and_reason(guarded: Guarded) -> None:
    question = pb.DecideRequest(node="intent", text="refund")
    stub, decides = guarded.stub, guarded.decides

    def decide(**more: Any) -> dict[tuple[str, str, str], int]:
        return counted(lambda: stub.Decide(question, timeout=LONG, **more))

    def stream(**more: Any) -> dict[tuple[str, str, str], int]:
        sent = [pb.StreamDecideRequest(request=question)] * 2
        return counted(lambda: list(stub.StreamDecide(iter(sent), timeout=LONG, **more)))

    assert decide() == {("Decide", "UNAUTHENTICATED", "UNAUTHENTICATED"): 1}
    assert decide(metadata=guarded.reports) == {("Decide", "PERMISSION_DENIED", "PERMISSION_DENIED"): 1}
    assert stream() == {("StreamDecide", "UNAUTHENTICATED", "UNAUTHENTICATED"): 1}
    for method in ("ModelInfer", "ModelReady"):
        ask = guarded.channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
        assert counted(partial(ask, b"", timeout=LONG)) == {(method, "UNAUTHENTICATED", "UNAUTHENTICATED"): 1}
    found = [decide(metadata=decides) for _ in range(8)]
    assert found[0] == {}
    assert found[-1] == {("Decide", "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED"): 1}
    assert stream(metadata=decides) == {("StreamDecide", "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED"): 2}

    guarded.server.batches.bound = -1  # whoever comes is refused before anything is read
    assert decide(metadata=decides) == {("Decide", "RESOURCE_EXHAUSTED", "OVERLOADED"): 1}


def test_what_a_caller_got_wrong_is_counted_each_question_of_a_batch_for_itself(guarded: Guarded) -> None:
    questions = [pb.DecideRequest(node=node, text="x") for node in ("nope", "intent", "nope")]
    batch = pb.BatchDecideRequest(requests=questions)
    found = counted(lambda: guarded.stub.BatchDecide(batch, timeout=LONG, metadata=guarded.decides))
    assert found == {("BatchDecide", "NOT_FOUND", "UNKNOWN_NODE"): 2}
    report = pb.ReportOutcomeRequest(decision_id="unknown", right=True)
    found = counted(lambda: guarded.stub.ReportOutcome(report, timeout=LONG, metadata=guarded.reports))
    assert found == {("ReportOutcome", "NOT_FOUND", "UNKNOWN_DECISION"): 1}


def test_what_is_answered_and_a_method_that_somebody_made_up_count_nothing(guarded: Guarded) -> None:
    question = pb.DecideRequest(node="intent", text="refund")
    assert counted(lambda: guarded.stub.Decide(question, timeout=LONG, metadata=guarded.decides)) == {}
    invented = guarded.channel.unary_unary("/cascade.v1.DecisionService/Invented")
    assert counted(lambda: invented(b"", timeout=LONG)) == {}


def test_errors_over_http_are_counted_too() -> None:
    assert counted(lambda: error_reply(Unauthenticated("no key"))) == {
        ("http", "UNAUTHENTICATED", "UNAUTHENTICATED"): 1
    }
