"""The features are the same alone, in any batch, and between training and serving."""

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cascade.features import Featurizer
from cascade.ngrams import hash_grams, hash_one
from cascade.surface import surface, surfaces
from cascade.text import normalise

CORPUS = ["where is my card", "my card did not arrive", "cancel my order", "is my order here?", "naïve café"]
FEATURIZER = Featurizer.fit(CORPUS * 2)


@given(st.lists(st.text(max_size=200), min_size=1, max_size=6))
def test_a_text_has_the_same_features_alone_and_in_any_batch(texts: list[str]) -> None:
    together = FEATURIZER(texts)
    for i, text in enumerate(texts):
        alone, inside = FEATURIZER([text]), together.rows == i
        np.testing.assert_array_equal(alone.columns, together.columns[inside])
        np.testing.assert_array_equal(alone.values, together.values[inside])
        np.testing.assert_array_equal(alone.surface[0], together.surface[i])


@given(st.text(max_size=200) | st.text("a é?", max_size=8) | st.just("ab " * 3000))
def test_one_text_alone_has_the_n_grams_that_it_has_in_a_group(text: str) -> None:
    (grams,) = hash_grams([text])
    laid_out, n_words, n_bytes = hash_one(text)
    np.testing.assert_array_equal(laid_out, grams.laid_out)
    assert (n_words, n_bytes) == (grams.of_words, grams.lengths)
    first, *_ = hash_grams([text, "another", text])
    np.testing.assert_array_equal(first.buckets[first.rows == 2], grams.buckets)


@given(
    st.lists(st.text(max_size=60) | st.text("a1?\n é\ud800", max_size=60), min_size=1, max_size=6), st.data()
)
def test_surface_facts_of_many_texts_are_those_of_each_to_the_last_bit(
    texts: list[str], data: st.DataObject
) -> None:
    n = len(texts)
    counts = np.array(data.draw(st.lists(st.integers(0, 20_000), min_size=4 * n, max_size=4 * n))).reshape(
        4, n
    )
    together = surfaces(texts, *counts)
    for i, text in enumerate(texts):
        assert together[i].tolist() == surface(text, *counts[:, i].tolist())


def test_the_vocabulary_survives_a_round_trip_with_its_fingerprint(tmp_path: Path) -> None:
    FEATURIZER.save(tmp_path / "vocabulary.npy")
    again = Featurizer.load(tmp_path / "vocabulary.npy")
    assert again.fingerprint == FEATURIZER.fingerprint
    np.testing.assert_array_equal(again(CORPUS).values, FEATURIZER(CORPUS).values)


def test_another_vocabulary_has_another_fingerprint() -> None:
    assert Featurizer.fit(["one other text"] * 2).fingerprint != FEATURIZER.fingerprint


def test_each_block_of_a_known_text_has_norm_one() -> None:
    features = FEATURIZER(["where is my card"])
    assert np.isclose((features.values**2).sum(), 2.0)


def test_different_words_fall_into_different_buckets() -> None:
    words = [f"word{i}" for i in range(500)]

    def buckets(text: str) -> list[int]:
        return next(hash_grams([text])).buckets.tolist()

    hashed = {tuple(buckets(w)) for w in words}
    assert len(hashed) == len(words)
    # an n-gram is the same wherever it stands
    a, b = set(buckets("zebra card")), set(buckets("the card of a zebra"))
    assert len(a & b) > 10


def test_normalising_folds_width_case_and_spaces() -> None:
    assert normalise("  \uff28ello\n WORLD ") == "hello world"
