"""Servers of the peers' own kind around one model: the featurizer and weights of the linear rung.

Each text below is a program that runs in the peer's environment and reads `cascade` from this checkout, so
that the peers do the same work for a text as the linear rung, without difficulty, acceptor, contract and log.
"""

from __future__ import annotations

MODEL = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
from cascade.features import Featurizer
from benchmarks.linear_model import LinearModel

class Model:
    def __init__(self):
        folder = Path({bundle!r})
        self.featurizer = Featurizer.load(folder / "features.npy")
        self.linear = LinearModel(folder / "linear.onnx", {labels!r})

    def __call__(self, texts):
        scores = self.linear.probabilities(self.featurizer(texts))
        return [self.linear.labels[i] for i in scores.argmax(axis=1)]
"""
"""Written as `peer_model.py` beside each of the programs."""

MLSERVER = """
from mlserver import MLModel
from mlserver.codecs import StringCodec
from mlserver.types import InferenceResponse
from peer_model import Model

class Linear(MLModel):
    async def load(self):
        self.model = Model()
        return True

    async def predict(self, payload):
        labels = self.model(StringCodec.decode_input(payload.inputs[0]))
        return InferenceResponse(model_name=self.name, outputs=[StringCodec.encode_output("label", labels)])
"""

KSERVE = """
import sys
import kserve
from kserve import InferOutput, InferResponse
from peer_model import Model

class Linear(kserve.Model):
    def __init__(self):
        super().__init__("linear")
        self.model = Model()
        self.ready = True

    def predict(self, payload, headers=None, response_headers=None):
        labels = self.model([each.decode() for each in payload.inputs[0].data])
        output = InferOutput("label", [len(labels)], "BYTES", data=[label.encode() for label in labels])
        return InferResponse(payload.id, "linear", [output])

server = kserve.ModelServer(
    http_port=int(sys.argv[2]), grpc_port=int(sys.argv[1]), workers=1, enable_latency_logging=False
)
server.start([Linear()])
"""

BENTOML = """
from warnings import filterwarnings
filterwarnings("ignore")
import bentoml
import bentoml.legacy
from bentoml.io import Text
from peer_model import Model

model = Model()
svc = bentoml.legacy.Service("linear")

@svc.api(input=Text(), output=Text())
def label(text):
    return model([text])[0]
"""

PYTRITON = """
import sys
import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig
from peer_model import Model

model = Model()

@batch
def infer(text):
    labels = model([each.decode() for each in text[:, 0]])
    return [np.array([[label.encode()] for label in labels])]

ports = [int(port) for port in sys.argv[1:4]]
config = TritonConfig(
    grpc_port=ports[0], http_port=ports[1], metrics_port=ports[2], grpc_address="127.0.0.1",
    http_address="127.0.0.1", allow_gpu_metrics=False,
)
with Triton(config=config) as triton:
    triton.bind(
        model_name="linear", infer_func=infer,
        inputs=[Tensor(name="text", dtype=bytes, shape=(1,))],
        outputs=[Tensor(name="label", dtype=bytes, shape=(1,))],
        config=ModelConfig(max_batch_size=32, batcher=DynamicBatcher()),
    )
    triton.serve()
"""

TRITON_PYTHON_BACKEND = """
import sys
sys.path[:0] = {paths!r}
import numpy as np
import triton_python_backend_utils as pb_utils
from peer_model import Model

class TritonPythonModel:
    def initialize(self, args):
        self.model = Model()

    def execute(self, requests):
        texts = [pb_utils.get_input_tensor_by_name(r, "text").as_numpy()[0, 0].decode() for r in requests]
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("label", np.array([[label.encode()]], dtype=object))])
            for label in self.model(texts)
        ]
"""

TRITON_CONFIG = """
name: "linear"
backend: "python"
max_batch_size: 32
dynamic_batching {}
input [{ name: "text" data_type: TYPE_STRING dims: [ 1 ] }]
output [{ name: "label" data_type: TYPE_STRING dims: [ 1 ] }]
instance_group [{ kind: KIND_CPU count: 1 }]
"""

SITECUSTOMIZE = """
import multiprocessing.resource_tracker as tracker
import threading

if not hasattr(threading.RLock(), "_recursion_count"):
    tracker._resource_tracker._lock = threading._PyRLock()
"""
"""For pytriton: the interpreter inside Triton's Python backend is an early 3.11, whose locks lack what the
standard library of a later 3.11 asks of them when a process is started."""
