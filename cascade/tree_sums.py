"""What decision trees add up to, for many rows at once and without a branch.

onnxruntime follows each tree from its root down. Which way a row goes the processor cannot guess, so that a
tree takes some 25 ns a row. Here each leaf of a tree is a bit. Each column has a table that says, of a value
between two of its thresholds, which leaves of every tree stay within reach; ANDed over the columns, the
lowest bit that is left is the leaf that the row falls into. Values are added up tree after tree in float32,
as onnxruntime does it, so both give the same bits.

References
----------
Lucchese et al., "QuickScorer: A Fast Algorithm to Rank Documents with Additive Ensembles of Regression
Trees", SIGIR 2015.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cascade.errors import BundleError

FILE = "trees.npy"
MOST_LEAVES = 16
"""Of a tree: the bits of a mask."""
NODE = np.dtype([("tree", "<i4"), ("adds_to", "<i4"), ("column", "<i4"), ("value", "<f4"), ("leaves", "<u2")])
"""A node of a tree as `FILE` stores it.

`tree` is its number, `adds_to` has a bit for each sum that the tree adds to. Of a split, `column` says what
is compared, `value` with what, and `leaves` has the bits of those that are out of reach where the column's
value is larger. Of a leaf, `column` is `LEAF`, `value` is what it adds, and `leaves` has its own bit. Leaves
have their bits from left to right, where left is the side of what is not larger."""
LEAF = -1

_ALL = np.uint16(0xFFFF)
_SPREAD, _DOWN = np.uint16(0x09AF), np.uint16(12)
"""A bit times this, and then down by that, is a place of its own for each bit: a de Bruijn sequence."""


class TreeSums:
    """Two groups of trees: those that see requests, and those that see answers as well.

    The first sums are of trees that see a request's columns alone (the difficulty model's, one a rung); the
    last is of those that see the answer's, too (the acceptor's).

    Parameters
    ----------
    nodes : array of shape (n_nodes,), of `NODE`
        The trees of the first group come first.
    n_request : int
        How many columns are the request's; the others are the answer's.
    n_sums : int
        How many sums the first group has.
    """

    def __init__(self, nodes: NDArray[np.void], n_request: int, n_sums: int) -> None:
        trees = nodes["tree"]
        n_trees = int(trees.max(initial=-1)) + 1
        adds_to = np.zeros(n_trees, dtype=np.int64)
        adds_to[trees] = nodes["adds_to"]
        self._n_first = n_first = int((adds_to < 1 << n_sums).sum())
        leaves, splits = (nodes[at] for at in (nodes["column"] == LEAF, nodes["column"] != LEAF))
        values = np.zeros((n_trees, MOST_LEAVES), dtype=np.float32)
        values[leaves["tree"], leaves["leaves"] * _SPREAD >> _DOWN] = leaves["value"]
        self._values = values[:n_first].ravel(), values[n_first:].ravel()
        self._starts = np.arange(n_trees)[:, None] * MOST_LEAVES
        of_sum = [(adds_to[:n_first] >> which & 1).nonzero()[0] for which in range(n_sums)]
        self._of_sum = [None if len(rows) == n_first else rows for rows in of_sum]
        self._columns, self._later = [], []
        for column in np.unique(splits["column"]).tolist():
            of_column = splits[splits["column"] == column]
            if column < n_request:
                self._columns.append((column, *_reach(of_column, n_trees)))
            else:
                thresholds, reach = _reach(of_column, n_trees)
                self._later.append((column - n_request, thresholds, reach[:, n_first:].copy()))
        self._n_trees = n_trees

    @classmethod
    def load(cls, path: Path, n_request: int, n_sums: int) -> TreeSums:
        """Read what `training.tree_sums.save` wrote; see the class for the parameters.

        Raises
        ------
        BundleError
            The file is missing or holds anything else.
        """
        try:
            nodes = np.load(path, allow_pickle=False)
            if nodes.dtype != NODE:
                raise ValueError(f"{nodes.dtype} instead of nodes")
            if not ((nodes["tree"] >= 0) & (nodes["tree"] < nodes.size)).all():
                raise ValueError("a tree's number is larger than the file")  # its sums would take gigabytes
            return cls(nodes, n_request, n_sums)
        except Exception as error:  # numpy raises many kinds: of an empty file, of an archive, of sizes
            raise BundleError(path.name, f"it holds no trees: {error}") from error

    def of_requests(
        self, requests: NDArray[np.float32]
    ) -> tuple[list[NDArray[np.float32]], NDArray[np.uint16]]:
        """Add up the trees that see requests alone.

        Parameters
        ----------
        requests : float32 array of shape (n, n_request)

        Returns
        -------
        sums : list of n_sums float32 arrays of shape (n,)
        within_reach : uint16 array of shape (n, n_answer_trees)
            Of the other trees, for `of_answers`.
        """
        left = _narrow(None, requests, self._columns, self._n_trees)
        values = self._fallen(left[:, : self._n_first], self._values[0])
        sums = [
            np.add.reduce(values if rows is None else values.take(rows, axis=0), axis=0)
            for rows in self._of_sum
        ]
        return sums, left[:, self._n_first :]

    def of_answers(
        self, within_reach: NDArray[np.uint16], answers: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Add up the trees that see answers, too.

        Parameters
        ----------
        within_reach : uint16 array of shape (n, n_answer_trees)
            What `of_requests` gave.
        answers : float32 array of shape (n, n_answer)

        Returns
        -------
        float32 array of shape (n,)
        """
        left = _narrow(within_reach, answers, self._later, within_reach.shape[1])
        total: NDArray[np.float32] = np.add.reduce(self._fallen(left, self._values[1]), axis=0)
        return total

    def _fallen(self, left: NDArray[np.uint16], values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give the value of the leaf that each row falls into, shape (n_trees, n)."""
        lowest = np.negative(left)
        lowest &= left
        lowest *= _SPREAD
        lowest >>= _DOWN
        at = lowest.T.astype(np.intp)
        at += self._starts[: len(at)]
        return values.take(at)


_Column = tuple[int, NDArray[np.float32], NDArray[np.uint16]]


def _reach(splits: NDArray[np.void], n_trees: int) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
    """Give a column's thresholds, and the leaves within reach of what is larger than so many of them."""
    thresholds, rank = np.unique(splits["value"], return_inverse=True)
    reach = np.full((len(thresholds) + 1, n_trees), _ALL)
    np.bitwise_and.at(reach, (rank + 1, splits["tree"]), ~splits["leaves"])
    return thresholds, np.bitwise_and.accumulate(reach, axis=0)


def _narrow(
    left: NDArray[np.uint16] | None, rows: NDArray[np.float32], columns: Sequence[_Column], n_trees: int
) -> NDArray[np.uint16]:
    for column, thresholds, reach in columns:
        within = reach.take(thresholds.searchsorted(rows[:, column]), axis=0)
        if left is not None:
            within &= left
        left = within
    return np.full((len(rows), n_trees), _ALL) if left is None else left
