"""The first pass says what the parts say that it joins, and the same of a text alone and in any batch."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.acceptor import ANSWER_NAMES, Acceptor, LabelRecord
from cascade.bundle import load_array
from cascade.difficulty import feature_names, request_features, with_rung
from cascade.errors import BundleError
from cascade.features import Featurizer
from cascade.first_pass import FILE, FirstPass
from cascade.rungs.onnx_weights import linear_weights
from cascade.rungs.protocol import Answers
from tests.conftest import NODE, ROOT
from training.first_pass import export
from training.trees import export_trees, fit_trees, p_one


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
@settings(max_examples=60)
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


def test_a_bundle_of_schema_1_says_what_its_graph_says(
    first: FirstPass, shipped: Path, texts: list[str], tmp_path: Path
) -> None:
    # first_pass_1.onnx has a few small trees, the labels and rungs of the shipped bundle, and is as Cascade
    # wrote it until 2026-11-29: a row a rung, and no trees beside it.
    for name in ("features.npy", "hardness.npy", "linear.onnx"):
        shutil.copy(shipped / name, tmp_path)
    shutil.copy(Path(__file__).with_name("first_pass_1.onnx"), tmp_path / FILE)
    old, new = open_first_pass(tmp_path)(texts), first(texts)
    np.testing.assert_array_equal(old.request, new.request)
    np.testing.assert_allclose(old.linear, new.linear, atol=1e-6)
    session = onnxruntime.InferenceSession(str(tmp_path / FILE), providers=["CPUExecutionProvider"])
    sums = np.zeros((1, 3, session.get_inputs()[1].shape[2]), dtype=np.float32)
    for i, row in enumerate(new.request):
        rows = np.array([[*row, 0], [*row, 1]], dtype=np.float32)
        feed = {"rows": rows, "sums": sums, "scales": np.ones((1, 3), dtype=np.float32)}
        np.testing.assert_array_equal(old.p_right[i], session.run(["p_right"], feed)[0][0])
    assert old.confidence.std() > 0.01
    alone = [old_alone.confidence[0] for old_alone in map(open_first_pass(tmp_path), ([t] for t in texts))]
    np.testing.assert_array_equal(old.confidence, alone)


@pytest.mark.parametrize(
    ("linear_at", "n_rungs", "n_labels"), [(0, 1, 1), (0, 1, 2), (1, 3, 4), (None, 2, 3)]
)
def test_ladders_of_every_shape_say_the_same_of_few_and_of_many(
    linear_at: int | None, n_rungs: int, n_labels: int, tmp_path: Path
) -> None:
    rng = np.random.default_rng(n_labels)
    texts = [" ".join(rng.choice(["card", "order", "late", "parcel?", "12"], 4)) for _ in range(60)]
    featurizer = Featurizer.fit(texts)
    hardness = rng.random((featurizer.n_columns, n_rungs)).astype(np.float32)
    weights = rng.normal(size=(featurizer.n_columns, n_labels)).astype(np.float32)
    record = LabelRecord(*(rng.random(shape).astype(np.float32) for shape in (n_labels, (n_rungs, n_labels))))
    n_request = len(feature_names([""] * n_rungs))
    rows = rng.random((400, n_request + 1)).astype(np.float32)
    rows[:, -1] = rng.integers(0, n_rungs, 400)
    answers = rng.random((400, n_request + len(ANSWER_NAMES))).astype(np.float32)
    difficulty, acceptance = (
        fit_trees(seen, seen.mean(axis=1) > np.median(seen.mean(axis=1)), 0) for seen in (rows, answers)
    )
    export(difficulty, acceptance, np.zeros(n_labels, dtype=np.float32), record, linear_at, n_rungs, tmp_path)
    export_trees(acceptance, tmp_path / "acceptor.onnx")
    first = FirstPass(tmp_path / FILE, featurizer, hardness, weights, 0.5)
    many, few = first(texts), [first([text]) for text in texts]
    for name in ("request", "p_right", "linear", "confidence"):
        assert getattr(many, name).tobytes() == b"".join(getattr(each, name).tobytes() for each in few), name
    for r in range(n_rungs):
        expected = p_one(difficulty, with_rung(many.request, r))
        np.testing.assert_allclose(many.p_right[:, r], expected, atol=1e-6)
    if linear_at is None:
        assert not many.confidence.any()
        return
    acceptor = Acceptor(tmp_path / "acceptor.onnx", record, [0.5] * n_rungs)
    answered = Answers([], many.linear, linear=many.linear)
    expected = acceptor.confidence(many.request, linear_at, many.p_right[:, linear_at], answered)
    assert np.quantile(np.abs(many.confidence - expected), 0.9) < 1e-4  # entropy is rounded another way there


def test_few_and_many_texts_go_two_ways(first: FirstPass, texts: list[str]) -> None:
    # What they say is compared by the test of batches above; here, that it compares the two.
    called: list[int] = []
    sums = first._trees.of_requests
    first._trees.of_requests = lambda requests: (called.append(len(requests)), sums(requests))[1]  # type: ignore[method-assign]
    try:
        for size in (1, 7, 33, len(texts)):
            first(texts[:size])
    finally:
        del first._trees.of_requests  # type: ignore[method-assign]
    assert called == [33, len(texts)]
