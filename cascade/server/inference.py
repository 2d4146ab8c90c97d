"""The Open Inference Protocol v2: KServe and Triton clients call a node as they call a model.

Handlers take and give bytes, as those of `cascade.server.service` do: the gate is asked before a message is
read, and what cannot be parsed is the caller's INVALID_ARGUMENT.

A node takes one input, `text`, and gives `label` (for label contracts), `output` (JSON), `confidence` (NaN
for the teacher), `rung` and `decision_id`. Texts of one request are decided together, and either all have a
decision or the request has an error.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import grpc
from google.protobuf.message import Message

from cascade.ask import Ask, Decided
from cascade.config.server import LimitsConfig
from cascade.contract import Contract
from cascade.errors import CascadeError, InvalidInput
from cascade.inference import open_inference_pb2 as pb
from cascade.server.call import Call
from cascade.server.deciding import Deciding
from cascade.server.entrance import Entrance
from cascade.server.gate import Caller, Gate, Shedder
from cascade.server.gone import Gone
from cascade.server.intake import parse
from cascade.server.requests import Asks, deadline_of
from cascade.server.status import abort
from cascade.v1 import decision_pb2

SERVICE = "inference.GRPCInferenceService"
INPUT = "text"
_MOST_DIMENSIONS = 8
OUTPUTS = {"label": "BYTES", "output": "BYTES", "confidence": "FP32", "rung": "BYTES", "decision_id": "BYTES"}


class InferenceServicer:
    """Answers the protocol's six methods.

    Parameters
    ----------
    engine : Deciding
    limits : LimitsConfig
    gate : Gate
    shedder : Shedder
    """

    def __init__(self, engine: Deciding, limits: LimitsConfig, gate: Gate, shedder: Shedder) -> None:
        self._engine, self._limits, self._gate, self._shedder = engine, limits, gate, shedder
        self._asks = Asks(limits, engine.contract)

    def server_live(self, raw: bytes, context: Call) -> bytes:
        """Say that the server runs."""
        return self._free(pb.ServerLiveRequest, raw, context, pb.ServerLiveResponse(live=True))

    def server_ready(self, raw: bytes, context: Call) -> bytes:
        """Say whether requests are taken."""
        ready = pb.ServerReadyResponse(ready=self._engine.ready())
        return self._free(pb.ServerReadyRequest, raw, context, ready)

    def server_metadata(self, raw: bytes, context: Call) -> bytes:
        """Say what server this is."""
        said = pb.ServerMetadataResponse(name="cascade", version=version("cascade-ladder"))
        return self._free(pb.ServerMetadataRequest, raw, context, said)

    def model_ready(self, raw: bytes, context: Call) -> bytes:
        """Say whether a node takes requests."""
        try:
            self._of_node(pb.ModelReadyRequest, raw, context)
            return _bytes(pb.ModelReadyResponse(ready=self._engine.ready()))
        except Exception as error:
            abort(context, error)

    def model_metadata(self, raw: bytes, context: Call) -> bytes:
        """Give a node's inputs and outputs."""
        try:
            node, contract = self._of_node(pb.ModelMetadataRequest, raw, context)
            tensor = pb.ModelMetadataResponse.TensorMetadata
            return _bytes(
                pb.ModelMetadataResponse(
                    name=node,
                    platform="cascade",
                    inputs=[tensor(name=INPUT, datatype="BYTES", shape=[-1])],
                    outputs=[
                        tensor(name=name, datatype=OUTPUTS[name], shape=[-1]) for name in outputs_of(contract)
                    ],
                )
            )
        except Exception as error:
            abort(context, error)

    def model_infer(self, raw: bytes, context: Call) -> bytes:
        """Decide the texts of a request."""
        try:
            self._shedder.admit_holding()
            caller = self._gate.enter(context, "decide")
            request = parse(pb.ModelInferRequest, raw)
            with Gone(context) as gone:
                return _bytes(self._infer(request, caller, deadline_of(context), gone))
        except Exception as error:
            abort(context, error)

    def _free(self, kind: type[Message], raw: bytes, context: Call, answer: Message) -> bytes:
        """Give an answer that needs no key, to whoever sent a message."""
        try:
            parse(kind, raw)
            return _bytes(answer)
        except Exception as error:
            abort(context, error)

    def _of_node(self, kind: Any, raw: bytes, context: Call) -> tuple[str, Contract | None]:
        """Read which node a caller asks about, who may know of it."""
        caller = self._gate.enter(context, "decide")
        request = parse(kind, raw)
        caller.check_node(request.name)
        return request.name, self._contract(request.name, request.version, "version")

    def _infer(self, request: Any, caller: Caller, deadline: float | None, gone: Gone) -> Message:
        contract = self._contract(request.model_name, request.model_version, "model_version")
        texts, shape = self._texts(request)
        wanted = wanted_outputs(request, contract)
        asks: list[Ask] = []
        context = _context(request)  # once: there may be 300,000 parameters, and 1,024 texts
        for index, text in enumerate(texts):
            asked = decision_pb2.DecideRequest(
                node=request.model_name, text=text, context=context,
                request_id=request.id if len(texts) == 1 else "",
            )  # fmt: skip
            try:
                ask = self._asks.ask(asked, deadline, caller.tenant, gone)
            except InvalidInput as error:
                raise error.within(f"inputs[0].{index}.") from None
            caller.check_node(ask.node)
            asks.append(ask)
        tenant = asks[0].context.get("tenant", "")
        self._shedder.admit_tenant(tenant, len(asks))
        self._gate.count(tenant, len(asks))
        decided = self._engine.decide_many(asks)
        failed = next((outcome for outcome in decided if isinstance(outcome, CascadeError)), None)
        if failed is not None:
            raise failed
        answers = [outcome for outcome in decided if isinstance(outcome, Decided)]
        return _response(request, answers, wanted, shape)

    def _contract(self, node: str, asked: str, field: str) -> Contract | None:
        if asked:
            raise InvalidInput(field, "must be empty: the node's rollout decides which bundle serves")
        return self._engine.contract(node)

    def _texts(self, request: Any) -> tuple[list[str], list[int]]:
        """Give the texts of a request, and their shape."""
        if len(request.inputs) != 1 or request.inputs[0].name != INPUT:
            names = ", ".join(repr(found.name[:40]) for found in request.inputs[:5]) or "none"
            raise InvalidInput("inputs", f"must be the one input {INPUT!r}; found {names}")
        found = request.inputs[0]
        if found.datatype != "BYTES":
            raise InvalidInput("inputs[0].datatype", f"must be BYTES, not {found.datatype[:20]!r}")
        raw = request.raw_input_contents
        if len(raw) > 1 or (raw and found.contents.bytes_contents):
            raise InvalidInput("raw_input_contents", "must hold the one input, and then its contents none")
        elements = unpack(raw[0]) if raw else list(found.contents.bytes_contents)
        shape = list(found.shape)
        if len(shape) > _MOST_DIMENSIONS:  # the product of 100,000 takes half a minute, and all threads wait
            raise InvalidInput("inputs[0].shape", f"has {len(shape)} dimensions; at most {_MOST_DIMENSIONS}")
        if math.prod(shape) != len(elements) or not shape:
            raise InvalidInput("inputs[0].shape", f"is {shape}, and there are {len(elements)} texts")
        if not 1 <= len(elements) <= self._limits.max_batch:
            raise InvalidInput(
                "inputs[0]", f"has {len(elements)} texts; it may have 1 to {self._limits.max_batch}"
            )
        try:
            return [element.decode("utf-8") for element in elements], shape
        except UnicodeDecodeError:
            raise InvalidInput("inputs[0]", "holds a text that is not UTF-8") from None


def outputs_of(contract: Contract | None) -> list[str]:
    """Name the outputs of a node with that contract."""
    return [name for name in OUTPUTS if name != "label" or contract is None or contract.is_labels]


def wanted_outputs(request: Any, contract: Contract | None) -> list[str]:
    """Name the outputs that a request wants. Raises InvalidInput."""
    known = outputs_of(contract)
    for index, output in enumerate(request.outputs):
        if output.name not in known:
            raise InvalidInput(
                f"outputs[{index}].name",
                f"{output.name[:40]!r} is no output; the node gives {', '.join(known)}",
            )
    return [output.name for output in request.outputs] or known


def unpack(raw: bytes) -> list[bytes]:
    """Take a raw tensor of type BYTES apart: each element stands after its length.

    Raises
    ------
    InvalidInput
        A length points past the end.

    Examples
    --------
    >>> unpack(pack([b"a", b"bc"]))
    [b'a', b'bc']
    """
    elements, at = [], 0
    while at < len(raw):
        start = at + 4
        size = int.from_bytes(raw[at:start], "little")
        if start + size > len(raw):
            raise InvalidInput("raw_input_contents[0]", "is cut short")
        elements.append(raw[start : start + size])
        at = start + size
    return elements


def pack(elements: Sequence[bytes]) -> bytes:
    """Make elements a raw tensor of type BYTES."""
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


def _context(request: Any) -> dict[str, str]:
    context = {}
    for name, value in request.parameters.items():
        if value.WhichOneof("parameter_choice") == "string_param":
            context[name] = value.string_param
    return context


def _response(request: Any, decided: Sequence[Decided], wanted: list[str], shape: list[int]) -> Message:
    columns: dict[str, bytes] = {}
    for name in wanted:
        if name == "confidence":
            values = [math.nan if d.confidence is None else d.confidence for d in decided]
            columns[name] = struct.pack(f"<{len(values)}f", *values)
        elif name == "output":
            columns[name] = pack([json.dumps(d.output, ensure_ascii=False).encode() for d in decided])
        else:
            texts = [d.output if name == "label" else getattr(d, name) for d in decided]
            columns[name] = pack([str(text).encode() for text in texts])
    versions = {d.bundle_version for d in decided}
    tensor = pb.ModelInferResponse.InferOutputTensor
    return pb.ModelInferResponse(
        model_name=request.model_name,
        model_version=versions.pop() if len(versions) == 1 else "",
        id=request.id,
        outputs=[tensor(name=name, datatype=OUTPUTS[name], shape=shape) for name in columns],
        raw_output_contents=list(columns.values()),
    )


def _bytes(message: Message) -> bytes:
    written: bytes = message.SerializeToString()
    return written


def add_to_server(servicer: InferenceServicer, server: grpc.aio.Server, entrance: Entrance) -> None:
    """Register the six methods, raw bytes in and out."""
    methods = {
        "ServerLive": servicer.server_live,
        "ServerReady": servicer.server_ready,
        "ServerMetadata": servicer.server_metadata,
        "ModelReady": servicer.model_ready,
        "ModelMetadata": servicer.model_metadata,
        "ModelInfer": servicer.model_infer,
    }
    handlers = {
        # Whoever asks whether the server lives is answered under any load.
        name: entrance.unary(name, method) if name == "ModelInfer" else entrance.at_once(name, method)
        for name, method in methods.items()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
