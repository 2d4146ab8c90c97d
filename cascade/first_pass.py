"""What is computed of every request before a local rung is asked, in as few steps as can be.

Request features, the difficulty model, the linear model and the acceptor's opinion of its answer all start
from the same n-grams, and all that they need of them are sums: each n-gram adds its row of one table (that it
is known, its rarity, its hardness for each rung, its weighted row of the linear model) to its text's sums
(`cascade.gram_sums`). From there on it is one ONNX graph, with both LightGBM models in it, because a call of
onnxruntime or numpy costs more than the arithmetic of one text. Of many texts the trees are most of that
arithmetic, and are added up outside of the graph, to the same bits (`cascade.tree_sums`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cascade.acceptor import blend_odds
from cascade.difficulty import N_SUMS, request_row, request_rows
from cascade.errors import BundleError
from cascade.features import Featurizer
from cascade.gram_sums import GramSums
from cascade.onnx_session import open_session
from cascade.scope import log_odds
from cascade.surface import SURFACE_NAMES
from cascade.tree_sums import FILE as TREES
from cascade.tree_sums import TreeSums

FILE = "first_pass.onnx"
MANY_FILE = "first_pass_many.onnx"
MANY = 24
"""From so many texts on, trees are added up outside of the graph: of fewer, the calls of numpy cost more."""


@dataclass(slots=True)
class FirstSeen:
    """What the first pass says of n requests.

    Attributes
    ----------
    request : float32 array of shape (n, n_request_features)
        What the difficulty model and the acceptor see of each request.
    p_right : float32 array of shape (n, n_rungs)
        The difficulty model's P(rung is right | request).
    linear : float32 array of shape (n, n_labels)
        The linear model's P(label | text).
    confidence : float32 array of shape (n,)
        The acceptor's P(right) of the linear rung's answer; without meaning where no rung is linear.
    """

    request: NDArray[np.float32]
    p_right: NDArray[np.float32]
    linear: NDArray[np.float32]
    confidence: NDArray[np.float32]

    def __getitem__(self, at: slice | list[int]) -> FirstSeen:
        return FirstSeen(self.request[at], self.p_right[at], self.linear[at], self.confidence[at])


class FirstPass:
    """Texts in; out comes what is known of them before any rung is asked.

    A text's numbers do not depend on its batch.

    Parameters
    ----------
    path : Path
        `first_pass.onnx`, which `training.first_pass.export` wrote, with what it wrote beside it.
    featurizer : Featurizer
    hardness : float32 array of shape (n_columns, n_rungs)
        Hardness of each n-gram for each rung, see `cascade.difficulty`.
    weights : float32 array of shape (n_columns, n_labels)
        The linear model's.
    trees_weight : float
        The linear rung's, see `cascade.acceptor.blend`.

    Raises
    ------
    BundleError
        The parts do not fit together, or the file is none that onnxruntime reads.
    """

    def __init__(
        self,
        path: Path,
        featurizer: Featurizer,
        hardness: NDArray[np.float32],
        weights: NDArray[np.float32],
        trees_weight: float = 1.0,
    ) -> None:
        self._session = open_session(path)
        self._trees_weight = trees_weight
        n, (n_hard, self.n_rungs) = featurizer.n_columns, hardness.shape
        self._n_facts = N_SUMS + self.n_rungs
        widths = {entry.name: entry.shape[-1] for entry in self._session.get_inputs()}
        self._outputs = [entry.name for entry in self._session.get_outputs()]
        self._n_request = len(SURFACE_NAMES) + 2 + self.n_rungs
        self._row_a_rung = "rows" in widths  # a bundle of schema 1
        fits = widths.get("rows", widths.get("request", 0) + 1) == self._n_request + 1
        n_sums = weights.shape[1] + self._row_a_rung * self._n_facts
        if n_hard != n or len(weights) != n or widths.get("sums") != n_sums or not fits:
            raise BundleError(path.name, "it does not fit the bundle's vocabulary, rungs and labels")
        if not self._row_a_rung:
            self._many = open_session(path.with_name(MANY_FILE))
            self._trees = TreeSums.load(path.with_name(TREES), self._n_request, self.n_rungs)
        idf = featurizer.idf[:, None]
        facts = np.hstack([np.ones_like(idf), idf, idf * idf, idf * idf * hardness])
        try:
            self._sums = GramSums(featurizer, facts, idf * weights)
        except ValueError as error:
            raise BundleError(path.name, f"of the bundle's weights and hardness, {error}") from error

    def __call__(self, texts: Sequence[str]) -> FirstSeen:
        """Look at a batch of texts."""
        if not texts:
            raise ValueError("there are no texts")
        if len(texts) == 1:
            facts, weights, counts, peak = self._sums.of_text(texts[0])
            row, scale = request_row(texts[0], facts, counts, peak, self._sums.fact_step)
            step = self._sums.weight_step
            both = np.array([row + [each * step for each in scale]], dtype=np.float32)
            request, scales = both[:, : len(row)], both[:, len(row) :]
        else:
            added = self._sums.of_texts(texts)
            weights = added.weights
            rows, of_many = request_rows(texts, added.facts, added.counts, added.peaks, self._sums.fact_step)
            request = rows.astype(np.float32)
            scales = (of_many * self._sums.weight_step).astype(np.float32)
        if self._row_a_rung:
            return self._see_row_a_rung(request, weights, scales)
        feed = {"sums": weights, "scales": scales[:, None, :]}
        if len(texts) < MANY:
            feed["request"] = request
            linear, seen, *accepted = self._session.run(self._outputs, feed)
            seen = seen[:, self._n_request :]
        else:
            raw, within_reach = self._trees.of_requests(request)
            feed["raw"] = np.stack(raw, axis=1)
            linear, seen = self._many.run(self._outputs[:2], feed)
            accepted = [self._trees.of_answers(within_reach, seen)]
        p_right = seen[:, : self.n_rungs]
        if seen.shape[1] == self.n_rungs:  # there is no linear rung
            return FirstSeen(request, p_right, linear, np.zeros(len(texts), dtype=np.float32))
        odds, top = accepted[0].ravel().tolist(), seen[:, self.n_rungs].tolist()
        return FirstSeen(request, p_right, linear, self._confidence(odds, top))

    def _confidence(self, odds: Sequence[float], top: Sequence[float]) -> NDArray[np.float32]:
        return np.array(blend_odds(odds, top, self._trees_weight), dtype=np.float32)

    def _see_row_a_rung(
        self, request: NDArray[np.float32], weights: NDArray[np.float32], scales: NDArray[np.float32]
    ) -> FirstSeen:
        """Likewise, by the graph of schema 1, which asks about each rung in a row of its own."""
        rows = np.empty((len(request), self.n_rungs, self._n_request + 1), dtype=np.float32)
        rows[:, :, :-1] = request[:, None, :]
        rows[:, :, -1] = np.arange(self.n_rungs)
        sums = np.zeros((*weights.shape[:2], self._n_facts + weights.shape[2]), dtype=np.float32)
        sums[:, :, self._n_facts :] = weights  # it has no use for the facts
        feed = {"rows": rows.reshape(-1, rows.shape[2]), "sums": sums, "scales": scales}
        outputs = ["p_right", "linear", "accepted", "p_top"]
        p_right, linear, accepted, p_top = self._session.run(outputs, feed)
        confidence = self._confidence(log_odds(accepted).tolist(), p_top.tolist())
        return FirstSeen(request, p_right, linear, confidence)
