"""The first pass says what the parts say that it joins, and the same of a text alone and in any batch."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.acceptor import Acceptor, LabelRecord
from cascade.bundle import load_array
from cascade.difficulty import request_features
from cascade.errors import BundleError
from cascade.features import Featurizer
from cascade.first_pass import FILE, FirstPass
from cascade.rungs.onnx_weights import linear_weights
from cascade.rungs.protocol import Answers
from tests.conftest import NODE, ROOT


def open_first_pass(folder: Path) -> FirstPass:
    found = linear_weights(folder / "linear.onnx")
    assert found is not None
    featurizer = Featurizer.load(folder / "features.npy")
    return FirstPass(folder / FILE, featurizer, load_array(folder / "hardness.npy"), found[0], 0.75)


@pytest.fixture(scope="module")
def first(shipped: Path) -> FirstPass:
    return open_first_pass(shipped)


@pytest.fixture
def texts(unseen: list[dict[str, Any]]) -> list[str]:
    return ["", "?", "a", "zq", "wo?rd", *(record["text"] for record in unseen[:150]), "a " * 3000]


def test_its_request_features_are_those_that_training_computes(
    first: FirstPass, shipped: Path, texts: list[str]
) -> None:
    featurizer = Featurizer.load(shipped / "features.npy")
    hardness = load_array(shipped / "hardness.npy")
    expected = request_features(featurizer(texts), featurizer.idf, hardness)
    np.testing.assert_allclose(first(texts).request, expected, rtol=1e-4, atol=1e-5)


def test_its_linear_model_is_the_file_that_onnxruntime_runs(
    first: FirstPass, shipped: Path, texts: list[str]
) -> None:
    features = Featurizer.load(shipped / "features.npy")(texts)
    session = onnxruntime.InferenceSession(str(shipped / "linear.onnx"), providers=["CPUExecutionProvider"])
    ours = first(texts).linear
    for i in range(len(texts)):
        inside = features.rows == i
        feed = {"columns": features.columns[inside], "values": features.values[None, inside]}
        assert np.abs(session.run(None, feed)[0] - ours[i]).max() < 1e-4
    assert ours.sum(axis=1) == pytest.approx(1.0, abs=1e-5)


def test_its_confidence_is_the_acceptors(first: FirstPass, shipped: Path, texts: list[str]) -> None:
    labels = load_array(shipped / "labels.npy")
    acceptor = Acceptor(
        shipped / "acceptor.onnx", LabelRecord(labels[0], labels[1:]), [0.75] * len(labels[1:])
    )
    seen = first(texts)
    answers = Answers([], seen.linear, linear=seen.linear)
    expected = acceptor.confidence(seen.request, 0, seen.p_right[:, 0], answers)
    np.testing.assert_allclose(seen.confidence, expected, atol=1e-4)


def test_a_texts_bits_do_not_depend_on_its_batch(first: FirstPass, texts: list[str]) -> None:
    alone = [first([text]) for text in texts]
    rng = np.random.default_rng(0)
    orders = [rng.permutation(len(texts))[:size].tolist() for size in (len(texts), 2, 7, 33)]
    without_words = [[0, 1, 0], [9, 1, 1], [1, 9, 0, 10, 1]]
    for order in (*orders, *without_words):
        together = first([texts[i] for i in order])
        for name in ("request", "p_right", "linear", "confidence"):
            parts = [getattr(alone[i], name)[0] for i in order]
            assert getattr(together, name).tobytes() == np.array(parts).tobytes(), name


@given(st.lists(st.text(max_size=60), min_size=1, max_size=5))
@settings(deadline=None, max_examples=60)
def test_whatever_is_asked_gets_finite_numbers_in_range(texts: list[str]) -> None:
    version = (ROOT / "models" / NODE / "serving").read_text().strip()
    seen = open_first_pass(ROOT / "models" / NODE / version)(texts)
    assert np.isfinite(seen.request).all()
    for p in (seen.p_right, seen.linear, seen.confidence):
        assert ((p >= 0) & (p <= 1)).all()
        assert len(p) == len(texts)


def test_parts_of_different_bundles_are_refused(shipped: Path) -> None:
    featurizer = Featurizer.load(shipped / "features.npy")
    hardness = load_array(shipped / "hardness.npy")
    found = linear_weights(shipped / "linear.onnx")
    assert found is not None
    for hard, weights in (
        (hardness[:, :1], found[0]),
        (hardness, found[0][:, 1:]),
        (hardness[1:], found[0]),
        (hardness, found[0][1:]),
    ):
        with pytest.raises(BundleError, match=FILE):
            FirstPass(shipped / FILE, featurizer, hard, weights)


def test_no_text_is_a_mistake_of_the_caller(first: FirstPass) -> None:
    with pytest.raises(ValueError, match="no texts"):
        first([])


def test_the_file_holds_both_tree_models(shipped: Path) -> None:
    raw = (shipped / FILE).read_bytes()
    assert raw.count(b"TreeEnsembleClassifier") == 2
    assert json.loads((shipped / "manifest.json").read_text())["files"][FILE]
