"""Trains the `linear` rung and writes it as ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import scipy.sparse as sp
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from cascade.features import TextFeatures

OPSET = 18
IR_VERSION = 10


def to_matrix(features: TextFeatures, n_columns: int) -> sp.csr_matrix:
    """Give features as a sparse matrix of shape (n_texts, n_columns)."""
    return sp.csr_matrix(
        (features.values, (features.rows, features.columns)), shape=(len(features), n_columns)
    )


@dataclass(frozen=True)
class SoftmaxModel:
    """Weights of a softmax classifier.

    Attributes
    ----------
    weights : float32 array of shape (n_columns, n_labels)
    bias : float32 array of shape (n_labels,)
    """

    weights: NDArray[np.float32]
    bias: NDArray[np.float32]

    def logits(self, matrix: sp.csr_matrix | NDArray[np.float32]) -> NDArray[np.float32]:
        """Give unnormalised log-probabilities, shape (n, n_labels)."""
        return np.asarray(matrix @ self.weights + self.bias, dtype=np.float32)

    def probabilities(self, matrix: sp.csr_matrix | NDArray[np.float32]) -> NDArray[np.float32]:
        """Give P(label | row), shape (n, n_labels)."""
        return np.asarray(softmax(self.logits(matrix), axis=1), dtype=np.float32)


def fit_softmax(
    matrix: sp.csr_matrix | NDArray[np.float32], y: NDArray[np.int64], n_labels: int, inverse_penalty: float
) -> SoftmaxModel:
    """Fit multinomial logistic regression.

    Parameters
    ----------
    matrix : sparse or dense array of shape (n, n_columns)
    y : int array of shape (n,)
        Label indices in [0, n_labels). A label without rows gets a probability of zero.
    n_labels : int
    inverse_penalty : float
        scikit-learn's `C`.
    """
    present = np.unique(y)
    weights = np.zeros((matrix.shape[1], n_labels), dtype=np.float32)
    bias = np.full(n_labels, -1e4, dtype=np.float32)
    if len(present) == 1:
        bias[present] = 0.0
        return SoftmaxModel(weights, bias)
    model = LogisticRegression(C=inverse_penalty, max_iter=60, tol=1e-3).fit(matrix, y)
    coef, intercept = model.coef_, model.intercept_
    if len(present) == 2:  # scikit-learn keeps one row for two classes
        coef = np.vstack([-coef[0] / 2, coef[0] / 2])
        intercept = np.array([-intercept[0] / 2, intercept[0] / 2])
    weights[:, present] = coef.T
    bias[present] = intercept
    return SoftmaxModel(weights, bias)


def export(model: SoftmaxModel, path: Path) -> None:
    """Write a classifier over one text's sparse features as ONNX.

    Inputs are the text's part of `columns` (shape (k,)) and `values` (shape (1, k)) of
    `cascade.features.TextFeatures`.
    """
    weights = model.weights.astype(np.float16)
    if not np.isfinite(weights).all():
        raise ValueError("a weight does not fit float16: raise the penalty")
    nodes = [
        helper.make_node("Gather", ["weights", "columns"], ["gathered16"], axis=0),
        helper.make_node("Cast", ["gathered16"], ["gathered"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["values", "gathered"], ["products"]),
        helper.make_node("Add", ["products", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [
            helper.make_tensor_value_info("columns", TensorProto.INT64, ["k"]),
            helper.make_tensor_value_info("values", TensorProto.FLOAT, [1, "k"]),
        ],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [1, model.weights.shape[1]])],
        [
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(model.bias.astype(np.float32), "bias"),
        ],
    )
    save(graph, path)


def export_head(model: SoftmaxModel, path: Path) -> None:
    """Write a classifier over dense rows (`inputs`, shape (batch, n_columns)) as ONNX."""
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["inputs", "weights", "bias"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        ],
        "head",
        [helper.make_tensor_value_info("inputs", TensorProto.FLOAT, ["batch", model.weights.shape[0]])],
        [
            helper.make_tensor_value_info(
                "probabilities", TensorProto.FLOAT, ["batch", model.weights.shape[1]]
            )
        ],
        [
            numpy_helper.from_array(model.weights.astype(np.float32), "weights"),
            numpy_helper.from_array(model.bias.astype(np.float32), "bias"),
        ],
    )
    save(graph, path)


def save(graph: onnx.GraphProto, path: Path, further: Sequence[onnx.OperatorSetIdProto] = ()) -> None:
    """Check a graph and write it with the operator sets and format that serving reads."""
    opsets = [helper.make_opsetid("", OPSET), *further]
    model = helper.make_model(graph, opset_imports=opsets, producer_name="cascade")
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))
