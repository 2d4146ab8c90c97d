"""The slices of a node: which there are, and which of them each answer lies in.

A slice is all answers with one label, or all requests with one value of a configured context key.
`training.slice_certificate` proves things about slices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cascade.config import NodeConfig
from cascade.errors import RetrainRefused
from cascade.policy.slices import LABEL
from training.certificate import counts_by_slice
from training.curate import Curated

Contexts = Sequence[Mapping[str, str]]

MAX_VALUES = 1000
"""Values of one context key; a key with more is an id, not a slice."""


@dataclass(frozen=True)
class Members:
    """The slices, and which of them each answer lies in.

    Attributes
    ----------
    slices : tuple of (dimension, value)
        All slices; those of one dimension stand together.
    dimensions : tuple of str
        `label`, then the sliced context keys.
    """

    slices: tuple[tuple[str, str], ...]
    dimensions: tuple[str, ...]

    @property
    def disjoint(self) -> bool:
        """Whether no answer lies in two slices."""
        return len(self.dimensions) == 1

    def of(self, answer: NDArray[np.int64], contexts: Contexts = ()) -> list[NDArray[np.int64]]:
        """Give, for each dimension, the slice of each answer.

        Parameters
        ----------
        answer : int array of shape (n, n_rungs)
            Index of the label that each rung answers.
        contexts : sequence of n mappings
            The requests' contexts; needed where context keys are sliced.

        Returns
        -------
        list of int arrays of shape (n, n_rungs), one a dimension
            -1 for a value that is no slice.
        """
        found = [np.where(answer < 0, -1, answer).astype(np.int64)]  # no answer lies in no slice
        at = {name: i for i, name in enumerate(self.slices)}
        for key in self.dimensions[1:]:
            column = np.array([at.get((key, c.get(key, "")), -1) for c in contexts], dtype=np.int64)
            found.append(np.broadcast_to(column[:, None], answer.shape).copy())
        return found


def find_slices(labels: Sequence[str], keys: Sequence[str] = (), contexts: Contexts = ()) -> Members:
    """List the slices of a node: its labels, and the values of context keys that its traffic holds.

    Raises
    ------
    RetrainRefused
        A key holds more than `MAX_VALUES` values.
    """
    slices = [(LABEL, label) for label in labels]
    for key in keys:
        values = sorted({context.get(key, "") for context in contexts})
        if len(values) > MAX_VALUES:
            raise RetrainRefused(
                f"slices.context: {key!r} has {len(values):,} values in this traffic, "
                f"more than {MAX_VALUES:,}; it is an id, not a slice: name a key with fewer values"
            )
        slices += [(key, value) for value in values]
    return Members(tuple(slices), (LABEL, *keys))


@dataclass(frozen=True)
class Demand:
    """What is asked of slices.

    Attributes
    ----------
    require : {"not-refuted", "proven"}
    bar : float
        The agreement asked of one slice.
    """

    require: Literal["not-refuted", "proven"]
    bar: float


@dataclass(frozen=True)
class Slicing:
    """Which slices a node has, and what is asked of each.

    Attributes
    ----------
    members : Members
    demand : Demand
    train, held_out : sequence of mappings
        Contexts of the records; empty where no context key is sliced.
    """

    members: Members
    demand: Demand
    train: Contexts = ()
    held_out: Contexts = ()


def label_slices(n_labels: int, bar: float) -> Slicing:
    """Slice by label only, with the node's bar: what a node without a `slices` section has."""
    return Slicing(find_slices([str(i) for i in range(n_labels)]), Demand("not-refuted", bar))


def slices_of(
    node: NodeConfig, curated: Curated, train: NDArray[np.int64], held_out: NDArray[np.int64]
) -> Slicing:
    """Give a node's slices, from its configuration and its traffic.

    Raises
    ------
    RetrainRefused
        A sliced context key has too many values.
    """
    keys = node.slices.context
    contexts = [record.context for record in curated.records] if keys else []
    return Slicing(
        find_slices(curated.labels, keys, contexts),
        Demand(node.slices.require, node.slices.bar or node.bar.agreement),
        [contexts[i] for i in train] if keys else [],
        [contexts[i] for i in held_out] if keys else [],
    )


def not_fenced(ids: Sequence[NDArray[np.int64]], fenced: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Say which answers lie in no fenced slice; a value that is no slice is not settled either."""
    closed = np.append(fenced, True)
    allowed: NDArray[np.bool_] = ~np.logical_or.reduce([closed[i] for i in ids])
    return allowed


def stricter(
    levels: NDArray[np.float64], ids: Sequence[NDArray[np.int64]], strictness: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Map levels to those from which on answers settle, where slices ask for more: as `to_levels` does.

    An answer in several slices answers to the strictest.
    """
    if (strictness == 1).all():
        return levels
    asked: NDArray[np.float64] = 1 - (1 - levels) / strictness_of(ids, strictness)
    return asked


def strictness_of(ids: Sequence[NDArray[np.int64]], strictness: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give each answer's strictness, shape (n, n_rungs)."""
    open_end = np.append(strictness, 1.0)
    found: NDArray[np.float64] = np.minimum.reduce([open_end[i] for i in ids])
    return found


def settled_by_slice(
    levels: NDArray[np.float64],
    right: NDArray[np.bool_],
    ids: Sequence[NDArray[np.int64]],
    n_slices: int,
    allowed: NDArray[np.bool_] | None,
    at: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count settled and wrong records of each slice at each level, over all dimensions."""
    settled = np.zeros((n_slices, len(at)), dtype=np.int64)
    wrong = np.zeros_like(settled)
    for which in ids:
        # the last row takes the values that are no slice
        s, w = counts_by_slice(levels, right, at, np.where(which < 0, n_slices, which), n_slices + 1, allowed)
        settled += s[:-1]
        wrong += w[:-1]
    return settled, wrong
