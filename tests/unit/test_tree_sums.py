"""Trees added up by masks of bits give the bits that onnxruntime gives, and what LightGBM says."""

from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper

from cascade.errors import BundleError
from cascade.tree_sums import FILE, LEAF, MOST_LEAVES, NODE, TreeSums
from training.linear import save as save_graph
from training.tree_sums import Split, Summand, Tree, read_trees, save, simplify, sum_node, uses
from training.trees import ML_OPSET, fit_trees, p_one, tree_node

N_REQUEST, N_COLUMNS, N_SUMS = 3, 5, 2
THRESHOLDS = [-1.0, 0.0, 0.1, 0.25, 2.0]


def grow(rng: np.random.Generator, n_leaves: int, n_columns: int) -> Tree:
    if n_leaves == 1:
        return float(np.float32(rng.normal()))
    left = int(rng.integers(1, n_leaves))
    threshold = float(np.float32(rng.choice(THRESHOLDS)))
    parts = grow(rng, left, n_columns), grow(rng, n_leaves - left, n_columns)
    return Split(int(rng.integers(n_columns)), threshold, *parts)


def forest(rng: np.random.Generator, n_trees: int) -> list[Summand]:
    """Trees that see the request, each for one sum or for both, and then trees that see the answer, too."""
    sizes = rng.integers(1, MOST_LEAVES + 1, n_trees)
    adds_to = [(0, 1), (0,), (1,)]
    first = [Summand(grow(rng, int(size), N_REQUEST), adds_to[rng.integers(3)]) for size in sizes]
    return first + [Summand(grow(rng, int(size), N_COLUMNS), (N_SUMS,)) for size in sizes[::-1]]


def by_onnxruntime(summands: list[Summand], rows: NDArray[np.float32], path: Path) -> NDArray[np.float32]:
    graph = helper.make_graph(
        [sum_node(summands, N_SUMS + 1, "rows", "sums")],
        "trees",
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["n", rows.shape[1]])],
        [helper.make_tensor_value_info("sums", TensorProto.FLOAT, ["n", N_SUMS + 1])],
    )
    save_graph(graph, path, [ML_OPSET])
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"rows": rows})[0])


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(2, 40))
@settings(max_examples=60)
def test_sums_have_the_bits_that_onnxruntimes_have(
    tmp_path_factory: pytest.TempPathFactory, seed: int, n_trees: int, n: int
) -> None:
    rng, folder = np.random.default_rng(seed), tmp_path_factory.mktemp("trees")
    summands = forest(rng, n_trees)
    rows = rng.normal(size=(n, N_COLUMNS)).astype(np.float32)
    at_threshold = rng.random(rows.shape) < 0.4
    rows[at_threshold] = rng.choice(np.float32(THRESHOLDS), at_threshold.sum())
    rows[0], rows[1] = np.inf, -np.inf
    save(summands, folder / FILE)
    sums = TreeSums.load(folder / FILE, N_REQUEST, N_SUMS)
    of_requests, within_reach = sums.of_requests(rows[:, :N_REQUEST])
    ours = np.stack([*of_requests, sums.of_answers(within_reach, rows[:, N_REQUEST:])], axis=1)
    assert ours.tobytes() == by_onnxruntime(summands, rows, folder / "trees.onnx").tobytes()


@pytest.fixture(scope="module")
def model() -> tuple[lightgbm.LGBMClassifier, NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(800, N_COLUMNS)).astype(np.float32)
    rows[:, 4] = rng.integers(0, 2, 800)
    right = rows[:, 0] + rows[:, 1] * rows[:, 4] + rng.normal(size=800) > 0
    return fit_trees(rows, right, seed=0, n_estimators=20), rows


def test_trees_that_were_read_say_what_lightgbm_says(
    model: tuple[lightgbm.LGBMClassifier, NDArray[np.float32]], tmp_path: Path
) -> None:
    fitted, rows = model
    summands = [Summand(tree, (0,)) for tree in read_trees(tree_node(fitted, "rows", "p"))]
    save(summands, tmp_path / FILE)
    (raw,), _ = TreeSums.load(tmp_path / FILE, N_COLUMNS, 1).of_requests(rows)
    np.testing.assert_allclose(1 / (1 + np.exp(-raw)), p_one(fitted, rows), atol=1e-6)


def test_what_is_known_needs_no_comparison(
    model: tuple[lightgbm.LGBMClassifier, NDArray[np.float32]], tmp_path: Path
) -> None:
    fitted, rows = model
    trees = read_trees(tree_node(fitted, "rows", "p"))
    assert any(uses(tree, 4) for tree in trees)
    for value in (0.0, 1.0):
        # column 4 is known; the others come one place later
        fewer = [simplify(tree, {4: value}, lambda column: column + 1) for tree in trees]
        assert not any(uses(tree, column) for tree in fewer for column in (0, 5))
        save([Summand(tree, (0,)) for tree in fewer], tmp_path / FILE)
        known = rows[rows[:, 4] == value]
        moved = np.hstack([np.zeros_like(known[:, :1]), known[:, :4]])
        (raw,), _ = TreeSums.load(tmp_path / FILE, 5, 1).of_requests(moved)
        np.testing.assert_allclose(1 / (1 + np.exp(-raw)), p_one(fitted, known), atol=1e-6)


def test_a_tree_with_more_leaves_than_bits_is_refused(tmp_path: Path) -> None:
    tree = grow(np.random.default_rng(0), MOST_LEAVES + 1, N_REQUEST)
    with pytest.raises(ValueError, match="leaves"):
        save([Summand(tree, (0,))], tmp_path / FILE)


def test_trees_of_another_kind_are_refused(
    model: tuple[lightgbm.LGBMClassifier, NDArray[np.float32]],
) -> None:
    node = tree_node(model[0], "rows", "p")
    modes = next(attribute for attribute in node.attribute if attribute.name == "nodes_modes")
    modes.strings[0] = b"BRANCH_LT"
    with pytest.raises(ValueError, match="kind"):
        read_trees(node)


@pytest.mark.parametrize(
    "content",
    [
        None, b"garbage", b"", b"PK\x03\x04", np.zeros(3),
        np.array([(2**31 - 1, 1, LEAF, 0, 1)], dtype=NODE), np.array([(-1, 1, LEAF, 0, 1)] * 2, dtype=NODE),
    ],
)  # fmt: skip
def test_a_file_without_trees_is_refused_by_name(
    content: bytes | NDArray[Any] | None, tmp_path: Path
) -> None:
    if isinstance(content, bytes):
        (tmp_path / FILE).write_bytes(content)
    elif content is not None:
        np.save(tmp_path / FILE, content)
    with pytest.raises(BundleError, match=FILE):
        TreeSums.load(tmp_path / FILE, N_REQUEST, N_SUMS)
