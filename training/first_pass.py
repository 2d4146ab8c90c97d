"""Writes the first pass as one ONNX graph: difficulty, the linear model, the acceptor on its answer.

For the linear rung the graph computes what `cascade.acceptor.answer_features` computes for any.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from cascade.acceptor import ANSWER_NAMES, LabelRecord
from cascade.difficulty import N_SUMS
from cascade.ngrams import N_BLOCKS
from training.linear import save
from training.trees import ML_OPSET, tree_node

_TOP = 3
_ABSENT = len(ANSWER_NAMES) - ANSWER_NAMES.index("earlier_p_top")
"""Columns that only rungs above the linear one have."""


class _Graph:
    """Nodes and constants under way; each step gives the name of what it computes."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self._constants: dict[str, NDArray[np.generic]] = {}

    def constant(self, value: object, dtype: type[np.generic] = np.float32) -> str:
        name = f"constant_{len(self._constants)}"
        self._constants[name] = np.array(value, dtype=dtype)
        return name

    def step(self, operator: str, *inputs: str, to: str = "", **attributes: Any) -> str:
        name = to or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def whole(self, *values: int) -> str:
        return self.constant(values, np.int64)

    def columns(self, of: str, start: int, end: int) -> str:
        return self.step("Slice", of, self.whole(start), self.whole(end), self.whole(1))

    @property
    def initializers(self) -> list[TensorProto]:
        return [numpy_helper.from_array(value, name) for name, value in self._constants.items()]


def export(
    difficulty: lightgbm.LGBMClassifier,
    acceptor: lightgbm.LGBMClassifier,
    bias: NDArray[np.float32],
    record: LabelRecord,
    linear_at: int | None,
    n_rungs: int,
    path: Path,
) -> None:
    """Write `first_pass.onnx`.

    Its inputs are `rows` of shape (n * n_rungs, n_request_features + 1), the request's features with a rung's
    index; `sums` of shape (n, N_BLOCKS, n_sums) and `scales` of shape (n, N_BLOCKS), see
    `cascade.first_pass.FirstPass`. Its outputs are `p_right` and `linear` of `cascade.first_pass.FirstSeen`,
    what the acceptor's trees say of the linear rung's answer, and that answer's probability.

    Parameters
    ----------
    difficulty, acceptor : LGBMClassifier
    bias : float32 array of shape (n_labels,)
        The linear model's.
    record : LabelRecord
    linear_at : int, optional
        The linear rung's place in the ladder; None where there is no such rung.
    n_rungs : int
    path : Path
    """
    g, n_labels, n_facts = _Graph(), len(bias), N_SUMS + n_rungs
    scaled = g.step(
        "Mul",
        g.step("Slice", "sums", g.whole(n_facts), g.whole(n_facts + n_labels), g.whole(2)),
        g.step("Unsqueeze", "scales", g.whole(2)),
    )
    logits = g.step("Add", g.step("ReduceSum", scaled, g.whole(1), keepdims=0), g.constant(bias))
    linear = g.step("Softmax", logits, to="linear", axis=1)
    g.nodes.append(tree_node(difficulty, "rows", "difficulty"))
    right = g.step("Gather", "difficulty", g.constant(1, np.int64), axis=1)
    p_right = g.step("Reshape", right, g.whole(-1, n_rungs), to="p_right")
    if linear_at is None:
        nothing = g.step("Mul", g.step("ReduceSum", linear, g.whole(1), keepdims=0), g.constant(0))
        g.step("Identity", nothing, to="accepted")
        g.step("Identity", nothing, to="p_top")
    else:
        _accept(g, linear, logits, p_right, acceptor, record, linear_at, n_rungs)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        g.nodes,
        "first_pass",
        [
            value("rows", TensorProto.FLOAT, ["m", difficulty.n_features_in_]),
            value("sums", TensorProto.FLOAT, ["n", N_BLOCKS, n_facts + n_labels]),
            value("scales", TensorProto.FLOAT, ["n", N_BLOCKS]),
        ],
        [
            value("p_right", TensorProto.FLOAT, ["n", n_rungs]),
            value("linear", TensorProto.FLOAT, ["n", n_labels]),
            value("accepted", TensorProto.FLOAT, ["n"]),
            value("p_top", TensorProto.FLOAT, ["n"]),
        ],
        g.initializers,
    )
    save(graph, path, [ML_OPSET])


def _accept(
    g: _Graph,
    linear: str,
    logits: str,
    p_right: str,
    acceptor: lightgbm.LGBMClassifier,
    record: LabelRecord,
    linear_at: int,
    n_rungs: int,
) -> None:
    n_labels = len(record.share)
    n_top = min(_TOP, n_labels)
    g.nodes.append(helper.make_node("TopK", [linear, g.whole(n_top)], ["top", "top_labels"], axis=1))
    first, label = g.columns("top", 0, 1), g.columns("top_labels", 0, 1)
    top, margin = "top", first
    if n_top > 1:
        margin = g.step("Sub", first, g.columns("top", 1, 2))
    if n_top < _TOP:
        top = g.step("Pad", top, g.whole(0, 0, 0, _TOP - n_top), g.constant(-1))
    # Not Log: its kernel rounds by the place in the batch.
    logarithm = g.step("LogSoftmax", logits, axis=1)
    entropy = g.step("Neg", g.step("ReduceSum", g.step("Mul", linear, logarithm), g.whole(1), keepdims=1))
    share = g.step("Gather", g.constant(record.share), label)
    precision = g.step("Gather", g.constant(record.precision[linear_at]), label)
    # The rows of this rung among those of all: the request's features and the rung's index.
    asked = g.step(
        "Slice", "rows", g.whole(linear_at), g.whole(np.iinfo(np.int64).max), g.whole(0), g.whole(n_rungs)
    )
    before = g.columns(p_right, linear_at, linear_at + 1)
    seen = g.step("Concat", asked, before, top, margin, entropy, share, precision, axis=1)
    g.step("Pad", seen, g.whole(0, 0, 0, _ABSENT), g.constant(-1), to="answer")
    g.nodes.append(tree_node(acceptor, "answer", "acceptance"))
    g.step("Gather", "acceptance", g.constant(1, np.int64), to="accepted", axis=1)
    g.step("Squeeze", first, g.whole(1), to="p_top")
