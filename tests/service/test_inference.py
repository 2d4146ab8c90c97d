"""The Open Inference Protocol over real gRPC, and Triton's own client calling a node unchanged."""

import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from cascade.config import Config
from cascade.inference import open_inference_pb2 as pb
from cascade.inference import open_inference_pb2_grpc
from cascade.security.keys import create_key
from cascade.server import inference
from cascade.server.engine import Engine
from cascade.server.gate import open_gate
from cascade.server.inference import pack, unpack
from cascade.server.serve import CascadeServer
from cascade.traffic import open_store
from tests.conftest import NODE

Tensor = pb.ModelInferRequest.InferInputTensor


@pytest.fixture
def target(models: Path, configure: Callable[..., Config], tmp_path: Path) -> Iterator[str]:
    store = open_store(f"sqlite:///{tmp_path}/traffic.db")
    engine = Engine(configure(), store, refresh_seconds=0)
    server = CascadeServer(engine, "127.0.0.1:0")
    yield f"127.0.0.1:{server.start()}"
    server.stop(0)
    engine.close()
    store.close()


@pytest.fixture
def stub(target: str) -> Iterator[Any]:
    with grpc.insecure_channel(target) as channel:
        yield open_inference_pb2_grpc.GRPCInferenceServiceStub(channel)


def infer(texts: list[str], **changes: Any) -> pb.ModelInferRequest:
    contents = pb.InferTensorContents(bytes_contents=[text.encode() for text in texts])
    inputs = [Tensor(name="text", datatype="BYTES", shape=[len(texts)], contents=contents)]
    return pb.ModelInferRequest(**{"model_name": NODE, "inputs": inputs} | changes)


def columns(reply: pb.ModelInferResponse) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for output, raw in zip(reply.outputs, reply.raw_output_contents, strict=True):
        if output.datatype == "FP32":
            found[output.name] = np.frombuffer(raw, "<f4").tolist()
        else:
            found[output.name] = [text.decode() for text in unpack(raw)]
    return found


def test_texts_are_decided_together_in_either_form(stub: Any, unseen: list[dict[str, Any]]) -> None:
    texts = [record["text"] for record in unseen[:20]]
    reply = stub.ModelInfer(infer(texts))
    found = columns(reply)
    assert sum(a == r["label"] for a, r in zip(found["label"], unseen, strict=False)) >= 19
    assert [json.loads(output) for output in found["output"]] == found["label"]
    by_teacher = [rung == "frontier" for rung in found["rung"]]
    assert [math.isnan(confidence) for confidence in found["confidence"]] == by_teacher
    assert any(by_teacher)
    assert not all(by_teacher)
    raw = Tensor(name="text", datatype="BYTES", shape=[20, 1])
    again = stub.ModelInfer(
        infer([], inputs=[raw], raw_input_contents=[pack([text.encode() for text in texts])])
    )
    assert columns(again)["label"] == found["label"]
    assert list(again.outputs[0].shape) == [20, 1]
    only = [pb.ModelInferRequest.InferRequestedOutputTensor(name="rung")]
    assert [o.name for o in stub.ModelInfer(infer(texts[:1], outputs=only)).outputs] == ["rung"]


def test_parameters_are_read_once_for_all_texts(
    stub: Any, unseen: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, str]] = []
    read = inference._context

    def counted(request: Any) -> dict[str, str]:
        seen.append(read(request))
        return seen[-1]

    monkeypatch.setattr(inference, "_context", counted)
    request = infer([record["text"] for record in unseen[:3]])
    request.parameters["session"].string_param = "s-1"
    request.parameters["binary_data_output"].bool_param = True
    assert len(stub.ModelInfer(request).outputs) == 5
    assert seen == [{"session": "s-1"}]


def test_a_nodes_metadata_and_readiness(stub: Any) -> None:
    assert stub.ServerLive(pb.ServerLiveRequest()).live
    assert stub.ServerReady(pb.ServerReadyRequest()).ready
    assert stub.ModelReady(pb.ModelReadyRequest(name=NODE)).ready
    assert stub.ServerMetadata(pb.ServerMetadataRequest()).name == "cascade"
    found = stub.ModelMetadata(pb.ModelMetadataRequest(name=NODE))
    assert [(i.name, i.datatype, list(i.shape)) for i in found.inputs] == [("text", "BYTES", [-1])]
    assert "confidence" in [output.name for output in found.outputs]


BAD = {
    "another input": (infer([], inputs=[Tensor(name="x")]), "one input 'text'"),
    "another type": (infer([], inputs=[Tensor(name="text", datatype="FP32")]), "must be BYTES"),
    "another shape": (infer([], inputs=[Tensor(name="text", datatype="BYTES", shape=[2])]), "0 texts"),
    "many dimensions": (
        infer(["a"], inputs=[Tensor(name="text", datatype="BYTES", shape=[2**62] * 5_000)]),
        "has 5000 dimensions; at most 8",  # a worker that multiplies 100,000 is killed: it seems to hang
    ),
    "no text": (infer([""]), "inputs[0].0.text: is empty"),
    "a version": (infer(["a"], model_version="1"), "must be empty"),
    "cut short": (
        infer(
            [],
            inputs=[Tensor(name="text", datatype="BYTES", shape=[1])],
            raw_input_contents=[b"\xff\xff\xff\xff"],
        ),
        "is cut short",
    ),
    "an unknown output": (
        infer(["a"], outputs=[pb.ModelInferRequest.InferRequestedOutputTensor(name="logits")]),
        "the node gives label, output",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_said_with_its_field(stub: Any, case: str) -> None:
    request, why = BAD[case]
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(request)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert why in caught.value.details()
    with pytest.raises(grpc.RpcError, match="NOT_FOUND"):
        stub.ModelReady(pb.ModelReadyRequest(name="nope"))


METHODS = ("ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata", "ModelInfer")
GARBAGE = b"\xff\xfe garbage"


def refusal_of_garbage(channel: grpc.Channel, method: str) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(f"/inference.GRPCInferenceService/{method}")(GARBAGE, timeout=30)
    assert "Exception" not in caught.value.details()
    return str(caught.value.code().name)


@pytest.mark.parametrize("method", METHODS)
def test_what_is_no_message_is_the_caller_s_mistake(
    target: str, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    with grpc.insecure_channel(target) as channel:
        assert refusal_of_garbage(channel, method) == "INVALID_ARGUMENT"
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_keys_hold_here_too(
    models: Path, configure: Callable[..., Config], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, secret = create_key(tmp_path / "keys.json", "acme", verbs=("decide",))
    config = configure(auth={"keys": "keys.json"})
    store = open_store(f"sqlite:///{tmp_path}/traffic.db")
    engine = Engine(config, store, refresh_seconds=0)
    server = CascadeServer(engine, "127.0.0.1:0", gate=open_gate(config))
    with grpc.insecure_channel(f"127.0.0.1:{server.start()}") as channel:
        stub = open_inference_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError, match="UNAUTHENTICATED"):
            stub.ModelInfer(infer(["hello"]))
        # The gate is asked before a message is read.
        for method in METHODS[3:]:
            assert refusal_of_garbage(channel, method) == "UNAUTHENTICATED"
        assert not [record for record in caplog.records if record.levelname == "ERROR"]
        known = [("authorization", f"Bearer {secret}")]
        assert stub.ModelReady(pb.ModelReadyRequest(name=NODE), metadata=known).ready
    server.stop(0)
    engine.close()
    store.close()


TRITON = """
import json, sys
import numpy as np
import tritonclient.grpc as triton
target, node, texts = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
client = triton.InferenceServerClient(target)
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready(node)
assert client.get_model_metadata(node).inputs[0].name == "text"
text = triton.InferInput("text", [len(texts)], "BYTES")
text.set_data_from_numpy(np.array([t.encode() for t in texts], dtype=np.object_))
result = client.infer(node, [text])
print(json.dumps([label.decode() for label in result.as_numpy("label")]))
assert result.as_numpy("confidence").dtype == np.float32
"""


def test_tritons_own_client_calls_a_node_unchanged(target: str, unseen: list[dict[str, Any]]) -> None:
    # In a process of its own: its messages have the same names as ours.
    pytest.importorskip("tritonclient", reason="tritonclient is not installed")
    texts = [record["text"] for record in unseen[:10]]
    done = subprocess.run(
        [sys.executable, "-c", TRITON, target, NODE, json.dumps(texts)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    labels = json.loads(done.stdout)
    assert sum(a == r["label"] for a, r in zip(labels, unseen, strict=False)) >= 9
