"""Trains the difficulty model and the acceptor (LightGBM) and writes them as ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import onnx
from numpy.typing import NDArray
from onnxmltools.convert import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType

from training.linear import IR_VERSION

PARAMETERS: dict[str, Any] = {
    "n_estimators": 200,
    "num_leaves": 15,
    "learning_rate": 0.04,
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
    rows: NDArray[np.float32], right: NDArray[np.bool_], seed: int, threads: int = 2, **overrides: Any
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
    return np.asarray(model.booster_.predict(rows), dtype=np.float64)


def out_of_fold(
    rows: NDArray[np.float32], right: NDArray[np.bool_], folds: NDArray[np.int64], seed: int
) -> NDArray[np.float64]:
    """Give P(right) of each row by a model that was fitted on the other folds."""
    out = np.empty(len(rows))
    for fold in np.unique(folds):
        inside = folds == fold
        out[inside] = p_one(fit_trees(rows[~inside], right[~inside], seed), rows[inside])
    return out


def export_trees(model: lightgbm.LGBMClassifier, path: Path) -> None:
    """Write a fitted classifier as ONNX with the one output `probabilities`, shape (n, 2)."""
    initial = [("features", FloatTensorType([None, model.n_features_in_]))]
    exported = convert_lightgbm(model, initial_types=initial, zipmap=False, target_opset=15)
    outputs = [o for o in exported.graph.output if o.name == "probabilities"]
    del exported.graph.output[:]
    exported.graph.output.extend(outputs)
    exported.ir_version = min(exported.ir_version, IR_VERSION)
    exported.producer_version = ""
    onnx.checker.check_model(exported)
    path.write_bytes(exported.SerializeToString(deterministic=True))
