"""Trees as values: read from a classifier's ONNX node, freed of what is known, written to be added up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import NodeProto, helper

from cascade.tree_sums import LEAF, MOST_LEAVES, NODE


@dataclass(frozen=True)
class Split:
    """An inner node of a tree.

    Attributes
    ----------
    column : int
        What is compared.
    at_most : float
        With what; a float32.
    yes, no : Tree
        Where a row goes on whose value is at most that, or larger.
    """

    column: int
    at_most: float
    yes: Tree
    no: Tree


Tree = Split | float
"""A leaf is the value that it adds."""


@dataclass(frozen=True)
class Summand:
    """A tree, and which sums it adds to."""

    tree: Tree
    adds_to: tuple[int, ...]


def read_trees(node: NodeProto) -> list[Tree]:
    """Read the trees of a binary TreeEnsembleClassifier, in the order in which they are added up."""
    of = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    if (
        set(of["nodes_modes"]) - {b"BRANCH_LEQ", b"LEAF"}
        or len(set(of["class_ids"])) > 1
        or "base_values" in of
    ):
        raise ValueError("the trees are not of the kind that a binary LightGBM classifier has")
    at = {key: i for i, key in enumerate(zip(of["nodes_treeids"], of["nodes_nodeids"], strict=True))}
    ids = zip(of["class_treeids"], of["class_nodeids"], strict=True)
    values = dict(zip(ids, of["class_weights"], strict=True))

    def read(tree: int, name: int) -> Tree:
        i = at[tree, name]
        if of["nodes_modes"][i] == b"LEAF":
            return float(values[tree, name])
        return Split(
            of["nodes_featureids"][i],
            of["nodes_values"][i],
            read(tree, of["nodes_truenodeids"][i]),
            read(tree, of["nodes_falsenodeids"][i]),
        )

    return [read(tree, 0) for tree in dict.fromkeys(of["nodes_treeids"])]


def uses(tree: Tree, column: int) -> bool:
    """Say whether a tree compares a column."""
    return isinstance(tree, Split) and (
        tree.column == column or uses(tree.yes, column) or uses(tree.no, column)
    )


def simplify(tree: Tree, known: Mapping[int, float], renamed: Callable[[int], int] = lambda c: c) -> Tree:
    """Give a tree without the comparisons whose outcome is known, the other columns under new numbers."""
    if not isinstance(tree, Split):
        return tree
    if tree.column in known:
        return simplify(tree.yes if known[tree.column] <= tree.at_most else tree.no, known, renamed)
    yes, no = (simplify(part, known, renamed) for part in (tree.yes, tree.no))
    return Split(renamed(tree.column), tree.at_most, yes, no)


def sum_node(summands: Sequence[Summand], n_sums: int, rows: str, sums: str) -> NodeProto:
    """Give trees as one ONNX node, with its input (n, n_columns) and its output (n, n_sums).

    No column is ever NaN, so nothing is said of where such a value would go.
    """
    of: dict[str, Any] = {
        f"nodes_{name}": []
        for name in ("treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids")
    }
    targets: dict[str, Any] = {f"target_{name}": [] for name in ("treeids", "nodeids", "ids", "weights")}
    for number, summand in enumerate(summands):
        _put(summand.tree, number, summand.adds_to, of, targets, 0)
    return helper.make_node(
        "TreeEnsembleRegressor",
        [rows],
        [sums],
        name=f"trees_{sums}",
        domain="ai.onnx.ml",
        n_targets=n_sums,
        post_transform="NONE",
        **of,
        **targets,
    )


def _put(
    tree: Tree,
    number: int,
    adds_to: Sequence[int],
    of: dict[str, list[Any]],
    targets: dict[str, list[Any]],
    name: int,
) -> int:
    """Append a tree's nodes, the first under this name; give the next free name."""
    at = len(of["nodes_treeids"])
    row = (0, "LEAF", 0.0) if not isinstance(tree, Split) else (tree.column, "BRANCH_LEQ", tree.at_most)
    for values, value in zip(of.values(), (number, name, *row, 0, 0), strict=True):
        values.append(value)
    if not isinstance(tree, Split):
        for which in adds_to:
            for values, value in zip(targets.values(), (number, name, which, tree), strict=True):
                values.append(value)
        return name + 1
    of["nodes_truenodeids"][at] = name + 1
    of["nodes_falsenodeids"][at] = after = _put(tree.yes, number, adds_to, of, targets, name + 1)
    return _put(tree.no, number, adds_to, of, targets, after)


def save(summands: Sequence[Summand], path: Path) -> None:
    """Write trees as `cascade.tree_sums.TreeSums` reads them.

    Raises
    ------
    ValueError
        A tree has more leaves than a mask has bits.
    """
    rows: list[tuple[int, int, int, float, int]] = []
    for number, summand in enumerate(summands):
        _list(summand.tree, number, sum(1 << which for which in summand.adds_to), rows, 1)
    np.save(path, np.array(rows, dtype=NODE), allow_pickle=False)


def _list(
    tree: Tree, number: int, adds_to: int, rows: list[tuple[int, int, int, float, int]], bit: int
) -> int:
    """List a tree's nodes, its leaves from this bit on; give the bits of its leaves."""
    if not isinstance(tree, Split):
        if bit >> MOST_LEAVES:
            raise ValueError(f"a tree has more than {MOST_LEAVES} leaves")
        rows.append((number, adds_to, LEAF, tree, bit))
        return bit
    left = _list(tree.yes, number, adds_to, rows, bit)
    rows.append((number, adds_to, tree.column, tree.at_most, left))
    return left | _list(tree.no, number, adds_to, rows, 1 << left.bit_length())
