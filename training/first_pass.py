"""Writes the first pass as ONNX graphs: difficulty, the linear model, the acceptor on its answer.

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
from cascade.first_pass import FILE, MANY_FILE
from cascade.ngrams import N_BLOCKS
from cascade.tree_sums import FILE as TREES
from training.linear import save
from training.tree_sums import Summand, read_trees, simplify, sum_node, uses
from training.tree_sums import save as save_trees
from training.trees import ML_OPSET, tree_node

_TOP = ("p_top", "p_second", "p_third")
_OF_LABELS = ("margin", "entropy", "label_share", "label_precision")
_ABSENT = ANSWER_NAMES[ANSWER_NAMES.index("earlier_p_top") :]
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
    folder: Path,
) -> None:
    """Write what `cascade.first_pass.FirstPass` runs: two graphs, and the trees for the second.

    Inputs of both are `sums` of shape (n, N_BLOCKS, n_labels), of the linear model's weights over the n-grams
    of each block, and `scales` of shape (n, 1, N_BLOCKS). Both give `linear`, P(label | text).

    The graph for few texts has the trees in it. It takes `request` of shape (n, n_request_features) and gives
    `seen`: the request, the difficulty model's P(rung is right) and, where there is a linear rung, what the
    acceptor sees of its answer, the largest probability first. Then `accepted` of shape (n, 1) is what the
    acceptor's trees add up to. The graph for many texts takes `raw` of shape (n, n_rungs), what the
    difficulty model's trees add up to, and gives `seen` without the request.

    Parameters
    ----------
    difficulty, acceptor : LGBMClassifier
    bias : float32 array of shape (n_labels,)
        The linear model's.
    record : LabelRecord
    linear_at : int, optional
        The linear rung's place in the ladder; None where there is no such rung.
    n_rungs : int
    folder : Path
    """
    n_request, n_labels = difficulty.n_features_in_ - 1, len(bias)
    of_answer = () if linear_at is None else (*_TOP[:n_labels], *_OF_LABELS)
    first = _difficulty_trees(difficulty, n_request, n_rungs)
    second = _acceptor_trees(acceptor, n_request, n_rungs, linear_at, of_answer)
    save_trees([*first, *second], folder / TREES)

    few, many = _Graph(), _Graph()
    few.nodes.append(sum_node(first, n_rungs, "request", "raw"))
    _score(few, ("request",), bias, record, linear_at)
    _score(many, (), bias, record, linear_at)
    if linear_at is not None:
        few.nodes.append(sum_node([Summand(each.tree, (0,)) for each in second], 1, "seen", "accepted"))

    value = helper.make_tensor_value_info
    sums = value("sums", TensorProto.FLOAT, ["n", N_BLOCKS, n_labels])
    scales = value("scales", TensorProto.FLOAT, ["n", 1, N_BLOCKS])
    linear = value("linear", TensorProto.FLOAT, ["n", n_labels])
    accepted = [] if linear_at is None else [value("accepted", TensorProto.FLOAT, ["n", 1])]
    width = n_rungs + len(of_answer)
    for file, g, given, n_given, n_seen, gives in (
        (FILE, few, "request", n_request, n_request + width, accepted),
        (MANY_FILE, many, "raw", n_rungs, width, []),
    ):
        inputs = [value(given, TensorProto.FLOAT, ["n", n_given]), sums, scales]
        outputs = [linear, value("seen", TensorProto.FLOAT, ["n", n_seen]), *gives]
        graph = helper.make_graph(g.nodes, "first_pass", inputs, outputs, g.initializers)
        save(graph, folder / file, [ML_OPSET])


def _difficulty_trees(difficulty: lightgbm.LGBMClassifier, n_request: int, n_rungs: int) -> list[Summand]:
    """Give the difficulty model's trees with a sum a rung: few of them ask which rung it is."""
    summands = []
    for tree in read_trees(tree_node(difficulty, "rows", "p")):
        if uses(tree, n_request):
            for r in range(n_rungs):
                summands.append(Summand(simplify(tree, {n_request: r}), (r,)))
        else:
            summands.append(Summand(tree, tuple(range(n_rungs))))
    return summands


def _acceptor_trees(
    acceptor: lightgbm.LGBMClassifier,
    n_request: int,
    n_rungs: int,
    linear_at: int | None,
    of_answer: tuple[str, ...],
) -> list[Summand]:
    """Give the acceptor's trees as they are for the linear rung's answers, over the columns of `seen`.

    Behind the request and the difficulty model's columns, those have the names `of_answer`.
    """
    if linear_at is None:
        return []
    column = {name: n_request + at for at, name in enumerate(ANSWER_NAMES)}
    known = {column[name]: -1.0 for name in (*_ABSENT, *_TOP) if name not in of_answer}
    known[column["rung"]] = float(linear_at)
    new = {column[name]: n_request + n_rungs + at for at, name in enumerate(of_answer)}
    new[column["p_right_before"]] = n_request + linear_at
    trees = read_trees(tree_node(acceptor, "rows", "p"))
    return [Summand(simplify(tree, known, lambda c: new.get(c, c)), (n_rungs,)) for tree in trees]


def _score(
    g: _Graph,
    before: tuple[str, ...],
    bias: NDArray[np.float32],
    record: LabelRecord,
    linear_at: int | None,
) -> None:
    """Add the linear model, and what is seen of its answer, in few nodes: each takes a microsecond."""
    logits = g.step("Squeeze", g.step("MatMul", "scales", "sums"), g.whole(1))
    logits = g.step("Add", logits, g.constant(bias))
    linear, p_right = g.step("Softmax", logits, to="linear", axis=1), g.step("Sigmoid", "raw")
    of_answer: tuple[str, ...] = ()
    if linear_at is not None:
        n_top = min(len(_TOP), len(bias))
        g.nodes.append(helper.make_node("TopK", [linear, g.whole(n_top)], ["top", "top_labels"], axis=1))
        with_margin = np.eye(n_top, n_top + 1)
        with_margin[:2, n_top] = (1, -1)[:n_top]
        top = g.step("MatMul", "top", g.constant(with_margin))
        # Not Log: its kernel rounds by the place in the batch.
        logarithm = g.step("LogSoftmax", logits, axis=1)
        entropy = g.step("Neg", g.step("ReduceSum", g.step("Mul", linear, logarithm), g.whole(1), keepdims=1))
        of_label = np.stack([record.share, record.precision[linear_at]], axis=1)
        label = g.step("Gather", "top_labels", g.constant(0, np.int64), axis=1)
        of_answer = (top, entropy, g.step("Gather", g.constant(of_label), label))
    g.step("Concat", *before, p_right, *of_answer, to="seen", axis=1)
