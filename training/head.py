"""Writes the `encoder` rung's head as ONNX: softmax regression, kernel machine, neighbours, fused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from training.clouds import Clouds
from training.fusion import FLOOR_LINEAR, FLOOR_NEIGHBOURS, KERNEL_SCALE, Fusion
from training.linear import SoftmaxModel, save
from training.neighbours import KernelModel, Neighbours

F32 = TensorProto.FLOAT


class _Graph:
    """Nodes and constants of a graph under construction."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def scalar(self, name: str, value: float) -> str:
        return self.constant(name, np.array(value, dtype=np.float32))

    def half(self, name: str, value: NDArray[np.float32]) -> str:
        """Store a matrix in half precision; onnxruntime widens it once, at load."""
        self.constant(name + "16", np.ascontiguousarray(value.astype(np.float16)))
        return self.node("Cast", [name + "16"], name, to=F32)


def export(
    model: SoftmaxModel,
    kernel: KernelModel | None,
    neighbours: Neighbours,
    clouds: Clouds,
    fusion: Fusion,
    path: Path,
) -> None:
    """Write the head.

    Inputs are `embedding`, shape (1, dim), and `linear`, shape (1, n_labels); outputs are fused
    `probabilities` and `neighbours`, shape (1, n_labels), `nearest`, shape (1,), and `scope`, shape
    (1, len(cascade.scope.HEAD_NAMES)). Matrices are stored in half precision.
    """
    g = _Graph()
    dim, n_labels = model.weights.shape[0], neighbours.n_labels
    g.constant("axis", np.array([1], dtype=np.int64))
    weights = g.half("weights", model.weights)
    bias = g.constant("bias", model.bias.astype(np.float32))
    raw = g.node("Gemm", ["embedding", weights, bias], "raw_logits")
    logits = g.node("Max", [raw, g.scalar("floor_logits", -50.0)], "logits")
    vectors = g.half("vectors", neighbours.vectors.T)
    cosine = g.node("MatMul", ["embedding", vectors], "cosine")
    g.node("ReduceMax", [cosine, "axis"], "nearest", keepdims=0)
    _votes(g, neighbours, fusion)
    floored = g.node(
        "Add", ["neighbours", g.scalar("floor_neighbours", FLOOR_NEIGHBOURS)], "neighbours_floored"
    )
    g.node("Log", [floored], "log_neighbours")
    floored = g.node("Add", ["linear", g.scalar("floor_linear", FLOOR_LINEAR)], "linear_floored")
    g.node("Log", [floored], "log_linear")
    parts = {"embedding": logits, "linear": "log_linear", "neighbours": "log_neighbours"}
    if kernel is not None:
        parts["kernel"] = _kernel(g, kernel)
    weighed = [
        g.node("Mul", [part, g.scalar(f"w_{name}", fusion.weights[name])], f"weighed_{name}")
        for name, part in parts.items()
        if fusion.weights[name]
    ]
    g.node("Sum", weighed, "fused")
    g.node("Softmax", ["fused"], "probabilities", axis=1)
    _scope(g, clouds, min(5, len(neighbours.y)))
    graph = helper.make_graph(
        g.nodes, "head",
        [
            helper.make_tensor_value_info("embedding", F32, [1, dim]),
            helper.make_tensor_value_info("linear", F32, [1, n_labels]),
        ],
        [
            helper.make_tensor_value_info("probabilities", F32, [1, n_labels]),
            helper.make_tensor_value_info("neighbours", F32, [1, n_labels]),
            helper.make_tensor_value_info("nearest", F32, [1]),
            helper.make_tensor_value_info("scope", F32, [1, 6]),
        ],
        g.constants,
    )  # fmt: skip
    save(graph, path)


def _votes(g: _Graph, neighbours: Neighbours, fusion: Fusion) -> None:
    """Add `neighbours`: each label's share of the votes."""
    y = g.constant("y", neighbours.y.astype(np.int64))
    count = g.constant("n_labels", np.array(neighbours.n_labels, dtype=np.int64))
    off_on = g.constant("off_on", np.array([0, 1], dtype=np.float32))
    scaled = g.node("Mul", ["cosine", g.scalar("sharpness", fusion.sharpness)], "scaled")
    votes = g.node("Softmax", [scaled], "votes", axis=1)
    onehot = g.node("OneHot", [y, count, off_on], "onehot", axis=-1)
    g.node("MatMul", [votes, onehot], "neighbours")


def _kernel(g: _Graph, kernel: KernelModel) -> str:
    """Add the kernel machine's scaled scores."""
    less = g.node("Sub", ["cosine", g.scalar("one", 1.0)], "cosine_less_one")
    sharp = g.node("Mul", [less, g.scalar("kernel_sharpness", kernel.sharpness)], "kernel_exponent")
    similar = g.node("Exp", [sharp], "kernel_similarity")
    scores = g.node("MatMul", [similar, g.half("duals", kernel.duals)], "kernel_scores")
    return g.node("Mul", [scores, g.scalar("kernel_scale", KERNEL_SCALE)], "kernel_logits")


def _scope(g: _Graph, clouds: Clouds, k: int) -> None:
    """Add `scope`: the columns of `training.clouds.head_features`."""
    energy = g.node("ReduceLogSumExp", ["logits", "axis"], "energy", keepdims=1)
    largest = g.node("ReduceMax", ["logits", "axis"], "largest_logit", keepdims=1)
    g.nodes.append(
        helper.make_node(
            "TopK", ["cosine", g.constant("k", np.array([k], dtype=np.int64))], ["close", "close_at"], axis=1
        )
    )
    first = g.node("ReduceMax", ["close", "axis"], "closest", keepdims=1)
    mean = g.node("ReduceMean", ["close", "axis"], "close_mean", keepdims=1)
    inside = g.node("MatMul", ["embedding", g.half("within", clouds.within)], "inside")
    cross = g.node("MatMul", [inside, g.half("centres", clouds.centres.T)], "cross")
    twice = g.node("Mul", [cross, g.scalar("two", 2.0)], "twice_cross")
    norms = g.constant("centre_norms", (clouds.centres**2).sum(axis=1)[None].astype(np.float32))
    squares = g.node("Sub", [norms, twice], "squares")
    least = g.node("ReduceMin", [squares, "axis"], "least_square", keepdims=1)
    own = g.node("ReduceSumSquare", [inside, "axis"], "own_square", keepdims=1)
    nearest = g.node("Add", [own, least], "cloud_distance")
    outside = g.node("MatMul", ["embedding", g.half("background", clouds.background)], "outside")
    apart = g.node("Sub", [outside, g.constant("middle", clouds.middle)], "apart")
    far = g.node("ReduceSumSquare", [apart, "axis"], "background_distance", keepdims=1)
    dim = g.scalar("dim", float(clouds.within.shape[0]))
    negative = g.node("Neg", [g.node("Div", [nearest, dim], "cloud_scaled")], "mahalanobis")
    gap = g.node("Sub", [far, nearest], "distance_gap")
    relative = g.node("Div", [gap, dim], "relative_mahalanobis")
    g.node("Concat", [energy, largest, first, mean, negative, relative], "scope", axis=1)
