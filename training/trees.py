"""Trains the difficulty model and the acceptor (LightGBM) and writes them as ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnxmltools.convert import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType

from training.linear import save

ML_OPSET = helper.make_opsetid("ai.onnx.ml", 1)
"""Of the operator set that holds trees."""

PARAMETERS: dict[str, Any] = {
    "n_estimators": 100,
    "num_leaves": 15,
    "learning_rate": 0.08,
    "min_child_samples": 40,
    "subsample": 0.8,
    "subsample_freq": 1,
    "colsample_bytree": 0.6,
    "reg_lambda": 5.0,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}


def fit_trees(
    rows: NDArray[np.float32], right: NDArray[np.bool_], seed: int, threads: int = 1, **overrides: Any
) -> lightgbm.LGBMClassifier:
    """Fit P(right | row). Rows are float32, as serving sees them, so that no threshold ties flip."""
    model = lightgbm.LGBMClassifier(**(PARAMETERS | overrides), random_state=seed, n_jobs=threads)
    target = right.astype(np.int64)
    if len(np.unique(target)) < 2:  # LightGBM needs both classes: one opposite row, almost without weight
        rows = np.vstack([rows, rows[:1]])
        target = np.append(target, 1 - target[0])
        weight = np.append(np.ones(len(rows) - 1), 1e-3)
        return model.fit(rows, target, sample_weight=weight)
    return model.fit(rows, target)


def p_one(model: lightgbm.LGBMClassifier, rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Give P(1) of each row."""
    return np.asarray(model.booster_.predict(rows, num_threads=1), dtype=np.float64)


def out_of_fold(
    rows: NDArray[np.float32],
    right: NDArray[np.bool_],
    folds: NDArray[np.int64],
    seed: int,
    **overrides: Any,
) -> NDArray[np.float64]:
    """Give P(right) of each row by a model that was fitted on the other folds.

    One after the other: LightGBM keeps its number of threads for the whole process, and crashes where one
    thread changes it while another has sized its buffers by it.
    """
    out = np.empty(len(rows))
    for fold in np.unique(folds):
        inside = folds == fold
        out[inside] = p_one(fit_trees(rows[~inside], right[~inside], seed, **overrides), rows[inside])
    return out


def tree_node(model: lightgbm.LGBMClassifier, rows: str, probabilities: str) -> onnx.NodeProto:
    """Give a fitted classifier as one ONNX node.

    Parameters
    ----------
    rows, probabilities : str
        Names of its input, shape (n, n_features), and of its output, shape (n, 2).
    """
    initial = [("features", FloatTensorType([None, model.n_features_in_]))]
    exported = convert_lightgbm(model, initial_types=initial, zipmap=False, target_opset=15)
    found = next(node for node in exported.graph.node if node.op_type == "TreeEnsembleClassifier")
    node = onnx.NodeProto()
    node.CopyFrom(found)
    node.name = f"trees_{probabilities}"
    node.input[:] = [rows]
    node.output[:] = [f"class_{probabilities}", probabilities]
    return node


def export_trees(model: lightgbm.LGBMClassifier, path: Path) -> None:
    """Write a fitted classifier as ONNX with the one output `probabilities`, shape (n, 2)."""
    graph = helper.make_graph(
        [tree_node(model, "features", "probabilities")],
        "trees",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", model.n_features_in_])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 2])],
    )
    save(graph, path, [ML_OPSET])
