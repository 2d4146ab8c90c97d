"""Label names as records: they help where they say something, and are left out where they do not."""

import numpy as np
import pytest
from numpy.typing import NDArray

from training.label_names import VARIANT, WITHOUT, better_of, readable, worth_trying
from training.opinions import EncoderFit, fit_encoder
from training.tried import Budget

N_LABELS, DIM, EACH = 6, 16, 8


@pytest.mark.parametrize(
    ("label", "words"),
    [("card_arrival", "card arrival"), ("getRefundStatus", "get refund status"), ("__", "__"), ("A1", "a1")],
)
def test_a_name_is_read_as_words(label: str, words: str) -> None:
    assert readable(label) == words


def test_names_are_tried_only_of_few_records_a_label() -> None:
    assert worth_trying(100, ["a", "b", "c", "d"])
    assert not worth_trying(120, ["a", "b", "c", "d"])


def fitted(
    centres: NDArray[np.float64], names: NDArray[np.float64] | None
) -> tuple[EncoderFit, NDArray[np.int64]]:
    rng = np.random.default_rng(0)
    y = np.tile(np.arange(N_LABELS), EACH)
    vectors = unit(centres[y] + 0.9 * rng.normal(size=(len(y), DIM)) / DIM**0.5)
    folds = rng.permutation(len(y)) % 4
    splits = [folds != fold for fold in range(4)]
    flat = np.full((len(y), N_LABELS), 1 / N_LABELS, dtype=np.float32)
    label_vectors = None if names is None else unit(names)
    return fit_encoder(vectors, flat, y, N_LABELS, splits, Budget(), 0.9, 0, label_vectors), y


def unit(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_what_wins_out_of_fold_is_kept_and_both_are_reported() -> None:
    centres = unit(np.random.default_rng(1).normal(size=(N_LABELS, DIM))).astype(np.float64)
    without, y = fitted(centres, None)
    good, _ = fitted(centres, centres)
    bad, _ = fitted(centres, np.roll(centres, 1, axis=0))
    for named, winner in ((good, VARIANT), (bad, WITHOUT)):
        chosen = better_of(without, named, y, 0.9)
        lines = {line.variant: line.kept for line in chosen.tried if line.variant in (VARIANT, WITHOUT)}
        assert lines == {VARIANT: winner == VARIANT, WITHOUT: winner == WITHOUT}
        assert np.array_equal(chosen.probabilities, (named if winner == VARIANT else without).probabilities)
