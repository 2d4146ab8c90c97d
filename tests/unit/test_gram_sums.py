"""Sums over n-grams are those of each n-gram by itself, exactly, of one text, of few and of many."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade import gram_sums
from cascade.errors import BundleError
from cascade.features import Featurizer
from cascade.first_pass import FILE, FirstPass
from cascade.gram_sums import MANY, GramSums
from cascade.joined_texts import STEP, join, joinable
from cascade.ngrams import BUCKET_BITS, MAX_BYTES, NO_GRAM, hash_grams
from cascade.text import normalise
from tests.conftest import ROOT

ODD = [
    "", "  ", "\n", "\x1c", "\u3000", "a", "?", "ab", "a b", "a  b", " a b ", "x y z w", "wo?rd", "ABC abc",
    "\x1c\x1f a\tb\n\nc", "Ünïcödé ßtraße", "привет, как дела", "日本語 テキスト", "a\ud800b",
    "\x00\x00a\x00", "~|^`\\;", "x~|y", "a~ b~c ~d", "İstanbul", "\ufb01ne", "\xa0x\xa0", "\xff\xfe", "é",
    "{a: [1, 2]}", "a " * 3000, "A" * MAX_BYTES, "A" * (MAX_BYTES + 1), "é" * MAX_BYTES, "é " * 1500,
    "long text " * 300,
]  # fmt: skip


class Expected:
    """Sums up one n-gram after the other."""

    def __init__(
        self, featurizer: Featurizer, facts: np.ndarray[Any, Any], weights: np.ndarray[Any, Any]
    ) -> None:
        self.column = featurizer.columns_of_buckets(unknown=len(featurizer.idf))
        self.idf = np.append(featurizer.idf, np.float32(0))
        self.values = [
            np.vstack([part, np.zeros_like(part[:1])]).astype(np.float64) for part in (facts, weights)
        ]

    def check(self, sums: GramSums, texts: list[str]) -> None:
        """Compare what is said of texts, alone and together."""
        together = sums.of_texts(texts)
        for i, text in enumerate(texts):
            (grams,) = hash_grams([text])
            columns = self.column[grams.buckets]
            parts = columns[: grams.n_words], columns[grams.n_words :]
            steps = sums.fact_step, sums.weight_step
            facts, weights = (
                np.array([np.rint(values[part] / step).sum(axis=0) for part in parts])
                for values, step in zip(self.values, steps, strict=True)
            )
            np.testing.assert_array_equal(together.facts[i], facts, repr(text))
            np.testing.assert_array_equal(together.weights[i, ::2], weights.astype(np.float32), repr(text))
            np.testing.assert_array_equal(together.counts[i], grams.counts[0])
            assert together.peaks[i] == self.idf[columns].max(initial=0), text
            alone_facts, alone_weights, counts, peak = sums.of_text(text)
            assert alone_facts == together.facts[i].tolist(), text
            assert alone_weights[0, ::2].tobytes() == together.weights[i, ::2].tobytes(), text
            assert np.isfinite(alone_weights).all()
            assert (counts, peak) == (together.counts[i].tolist(), together.peaks[i])


def made(featurizer: Featurizer, seed: int = 0) -> tuple[GramSums, Expected]:
    rng = np.random.default_rng(seed)
    parts = tuple(rng.normal(size=(featurizer.n_columns, k)).astype(np.float32) for k in (3, 5))
    return GramSums(featurizer, *parts), Expected(featurizer, *parts)


@pytest.fixture(scope="module")
def learned(texts: list[str]) -> tuple[GramSums, Expected]:
    fitted = Featurizer.fit(texts)  # rarities drawn, for else a string is never less rare than its parts
    idf = np.random.default_rng(0).random(fitted.n_columns, dtype=np.float32)
    return made(Featurizer(fitted.buckets, idf))


@pytest.fixture(scope="module")
def texts() -> list[str]:
    lines = (ROOT / "examples" / "sample" / "support-intent.unseen.jsonl").read_text().splitlines()
    return [line.split('"text": "')[1].split('", "label"')[0] for line in lines[:300]]


@pytest.mark.parametrize("n", [2, MANY - 1, MANY, len(ODD), 150])
def test_sums_are_those_of_each_n_gram(learned: tuple[GramSums, Expected], texts: list[str], n: int) -> None:
    sums, expected = learned
    mixed = [text for pair in zip(ODD, texts, strict=False) for text in pair] + texts[len(ODD) :]
    for start in range(0, len(mixed) - n + 1, n):
        expected.check(sums, mixed[start : start + n])


TEXT = (
    st.text(max_size=30)
    | st.text("ab cd?1~é\n", max_size=40)
    | st.text(st.characters(codec="ascii"), max_size=40)
    | st.lists(st.sampled_from(["card", "my", "a", "order?", "  ", "I'm", "é"]), max_size=8).map(" ".join)
)


@given(st.lists(TEXT, min_size=MANY, max_size=MANY + 4))
@settings(max_examples=150)
def test_of_whatever_texts(learned: tuple[GramSums, Expected], several: list[str]) -> None:
    sums, expected = learned
    expected.check(sums, several)


def test_strings_that_fall_into_known_ones_buckets_are_added_too() -> None:
    # A sixteenth of all buckets, drawn: nearly all that is known is known by accident, and its parts are not.
    rng = np.random.default_rng(1)
    buckets = rng.choice(1 << BUCKET_BITS, 1 << 16, replace=False).astype(np.int32)
    sums, expected = made(Featurizer(buckets, rng.random(1 << 16, dtype=np.float32)))
    alphabet = list("  aabcdeef12.,?é")
    for _ in range(4):
        expected.check(sums, ["".join(rng.choice(alphabet, 60)) for _ in range(MANY)])


def test_what_is_said_of_many_texts_is_looked_up_and_not_hashed(shipped: Path, texts: list[str]) -> None:
    # That is what makes it fast; the tests above would pass if nothing were listed.
    featurizer = Featurizer.load(shipped / "features.npy")
    sums, _ = made(featurizer)
    found = sums._listed.find(join([joinable(text) for text in texts]).symbols)
    assert (found == 0).mean() < 0.06


def test_of_a_large_table_the_commonest_strings_are_listed(
    texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    featurizer = Featurizer.fit(texts)
    n_listed = []
    for limit in (1 << 22, 1 << 15):
        monkeypatch.setattr(gram_sums, "_LISTED_BYTES", limit)
        sums, expected = made(featurizer)
        n_listed.append(len(sums._strings.values))
        expected.check(sums, texts[:MANY])
    assert n_listed[1] <= (1 << 15) / (4 * 8) + 2 < n_listed[0] / 2


def test_a_text_of_the_heaviest_n_gram_alone_does_not_overflow() -> None:
    longest = "a" * MAX_BYTES
    featurizer = Featurizer.fit([longest, longest])
    weights = np.full((featurizer.n_columns, 1), 1e4, dtype=np.float32)
    sums = GramSums(featurizer, weights, -weights)
    for text in (longest, "a " * (MAX_BYTES // 2)):
        expected = 1e4 * np.array([(featurizer([text]).rows == 0).sum()])
        for facts, weight in (
            sums.of_text(text)[:2],
            (sums.of_texts([text] * MANY).facts[3], sums.of_texts([text] * MANY).weights[3:4]),
        ):
            assert np.sum(np.array(facts)) * sums.fact_step == pytest.approx(expected, rel=1e-6)
            assert weight[0, ::2].sum() * sums.weight_step == pytest.approx(-expected, rel=1e-6)


def test_very_many_very_short_texts_are_several_groups(learned: tuple[GramSums, Expected]) -> None:
    sums, _ = learned
    added = sums.of_texts(["a", "my", "?"] * 10_000)
    alone = [sums.of_text(text)[0] for text in ("a", "my", "?")]
    np.testing.assert_array_equal(added.facts, np.tile(alone, (10_000, 1, 1)))


def test_unknown_n_grams_add_nothing() -> None:
    sums, _ = made(Featurizer.fit(["where is my card"] * 2))
    for size in (1, 2, MANY):
        added = sums.of_texts(["zzq ~ xwv"] * size)
        assert not added.facts.any()
        assert not added.weights.any()
        assert not added.peaks.any()
    assert NO_GRAM not in sums._row_of_bucket.nonzero()[0]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_refused(shipped: Path, bad: float) -> None:
    featurizer = Featurizer.load(shipped / "features.npy")
    hardness = np.load(shipped / "hardness.npy")
    n_labels = np.load(shipped / "labels.npy").shape[1]
    weights = np.zeros((featurizer.n_columns, n_labels), dtype=np.float32)
    weights[5, 2] = bad
    with pytest.raises(BundleError, match="no numbers"):
        FirstPass(shipped / FILE, featurizer, hardness, weights)


@given(st.lists(TEXT, min_size=1, max_size=6))
def test_joined_texts_are_normalised(several: list[str]) -> None:
    raws = [joinable(text) for text in several]
    assert [not raw for raw in raws] == [not normalise(text) for text in several]
    kept = [text for text, raw in zip(several, raws, strict=True) if raw]
    if not kept:
        return
    joined = join([raw for raw in raws if raw])
    assert len(joined.raw) == len(joined.symbols)
    assert not (joined.starts % STEP).any()
    for text, start, length in zip(kept, joined.starts, joined.lengths, strict=True):
        expected = f" {normalise(text)} ".encode("utf-8", "replace")
        assert joined.raw[start : start + length] == expected


def test_many_texts_of_another_script_are_hashed_at_once(
    learned: tuple[GramSums, Expected], monkeypatch: pytest.MonkeyPatch
) -> None:
    sums, expected = learned
    monkeypatch.delattr(gram_sums, "join")  # looking their strings up, in vain, took half as long again
    texts = [f"где мой заказ {i}?" for i in range(MANY)]
    expected.check(sums, [*texts, "我的订单在哪里", "", "\ud800", "abc"])
