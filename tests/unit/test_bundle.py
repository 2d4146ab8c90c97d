"""A bundle is loaded whole or not at all."""

import io
import json
import math
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cascade.bundle import Bundle, load_bundle
from cascade.encoder import Encoder
from cascade.errors import BundleError
from cascade.flags import open_flags
from cascade.manifest import MANIFEST, content_hash, sha256
from cascade.pointer import POINTER
from cascade.rollout.state import NodeRollout
from cascade.server.node import build_nodes, refresh
from cascade.tree_sums import FILE as TREES
from cascade.tree_sums import LEAF
from tests.conftest import NODE, ROOT

ENCODER = ROOT / "models" / "encoders" / "all-MiniLM-L6-v2"
FILES = (
    "acceptor.onnx", "first_pass.onnx", "first_pass_many.onnx", "features.npy", "golden.json", "hardness.npy",
    "head.onnx", "labels.npy", "linear.onnx", "trees.npy",
)  # fmt: skip


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    return Encoder(ENCODER)


@pytest.fixture
def folder(models: Path, shipped: Path) -> Path:
    return models / NODE / shipped.name


@pytest.fixture
def load(encoder: Encoder) -> Callable[[Path], Bundle]:
    return lambda folder: load_bundle(folder, lambda _: (encoder, encoder), NODE)


def reseal(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a manifest and make its hashes right again, as a forger would."""
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"] = {
        name: sha256(folder / name) for name in manifest["files"] if (folder / name).exists()
    }
    change(manifest)
    manifest["version"] = f"0001-{content_hash(manifest)[:8]}"
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_the_shipped_bundle_loads_and_is_certified(folder: Path, load: Callable[[Path], Bundle]) -> None:
    bundle = load(folder)
    assert bundle.policy.certified
    assert bundle.version == folder.name


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_is_refused_with_the_files_name(
    name: str, folder: Path, load: Callable[[Path], Bundle]
) -> None:
    raw = bytearray((folder / name).read_bytes())
    raw[len(raw) // 2] ^= 1
    (folder / name).write_bytes(raw)
    with pytest.raises(BundleError, match=name):
        load(folder)


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_a_missing_file_is_refused_with_its_name(
    name: str, folder: Path, load: Callable[[Path], Bundle]
) -> None:
    (folder / name).unlink()
    with pytest.raises(BundleError, match=name):
        load(folder)


def test_a_changed_manifest_is_refused(folder: Path, load: Callable[[Path], Bundle]) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["rungs"][0]["threshold"] = 0.0
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=MANIFEST):
        load(folder)


def test_a_pickle_is_refused_whatever_it_is_called(folder: Path, load: Callable[[Path], Bundle]) -> None:
    (folder / "model.pkl").write_bytes(pickle.dumps([1]))
    with pytest.raises(BundleError, match=r"model\.pkl"):
        load(folder)
    (folder / "model.pkl").unlink()
    (folder / "labels.npy").write_bytes(pickle.dumps([1]))
    reseal(folder, lambda _: None)
    with pytest.raises(BundleError, match=r"labels\.npy"):
        load(folder)


def npy(header: str) -> bytes:
    """Give an array's file whose header is that text."""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()


def an_archive() -> bytes:
    file = io.BytesIO()
    np.savez(file, np.zeros(1))
    return file.getvalue()


NO_ARRAY = {
    "garbage in the header": npy("{'descr': (\n"),  # numpy raises tokenize.TokenError
    "another type": npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n") + pickle.dumps([1]),
    "more than any memory": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (999999999999999,), }\n"),
    "nothing": b"",
    "an archive": an_archive(),
}


@pytest.mark.parametrize("raw", NO_ARRAY.values(), ids=NO_ARRAY)
@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".npy")])
def test_a_file_that_holds_no_array_is_refused_with_its_name_though_its_hash_is_right(
    name: str, raw: bytes, folder: Path, load: Callable[[Path], Bundle]
) -> None:
    (folder / name).write_bytes(raw)
    reseal(folder, lambda _: None)
    with pytest.raises(BundleError, match=name):
        load(folder)


def test_a_newer_schema_is_refused(folder: Path, load: Callable[[Path], Bundle]) -> None:
    reseal(folder, lambda manifest: manifest.update(schema=99))
    with pytest.raises(BundleError, match="newer"):
        load(folder)


def test_features_of_another_code_path_are_refused(folder: Path, load: Callable[[Path], Bundle]) -> None:
    reseal(folder, lambda manifest: manifest.update(features="0" * 64))
    with pytest.raises(BundleError, match=r"features\.npy"):
        load(folder)


def test_another_encoder_is_refused(folder: Path, load: Callable[[Path], Bundle]) -> None:
    reseal(folder, lambda manifest: manifest["rungs"][1].update(encoder="0" * 64))
    with pytest.raises(BundleError, match="another encoder"):
        load(folder)


@pytest.mark.parametrize("answered", [lambda p: 1 - p, lambda _: math.nan], ids=["other", "no number"])
def test_models_that_answer_golden_inputs_otherwise_are_refused(
    folder: Path, load: Callable[[Path], Bundle], answered: Callable[[float], float]
) -> None:
    golden = json.loads((folder / "golden.json").read_text())
    golden["p_top"] = [[answered(p) for p in row] for row in golden["p_top"]]
    (folder / "golden.json").write_text(json.dumps(golden))
    reseal(folder, lambda _: None)
    with pytest.raises(BundleError, match="golden"):
        load(folder)


def otherwise(nodes: NDArray[np.void]) -> None:
    nodes["value"][nodes["column"] == LEAF] *= -1


def elsewhere(nodes: NDArray[np.void]) -> None:
    nodes["column"][nodes["column"] != LEAF] = 999


@pytest.mark.parametrize(("change", "name"), [(otherwise, r"trees\.npy"), (elsewhere, r"first_pass_many")])
def test_trees_that_say_otherwise_of_many_texts_than_of_few_are_refused(
    change: Callable[[NDArray[np.void]], None], name: str, folder: Path, load: Callable[[Path], Bundle]
) -> None:
    nodes = np.load(folder / TREES)
    change(nodes)
    np.save(folder / TREES, nodes)
    reseal(folder, lambda _: None)
    with pytest.raises(BundleError, match=name):
        load(folder)


def test_what_is_served_keeps_serving_when_the_next_bundle_is_refused(
    folder: Path, models: Path, configure: Callable[..., Any], encoder: Encoder
) -> None:
    flags = open_flags(models / "no-flags.json", [NODE], seconds=0)
    node = build_nodes(configure(), flags, lambda _: (encoder, encoder))[NODE]
    assert refresh(node, models, NodeRollout(NODE))
    serving = node.bundle
    broken = models / NODE / "0002-deadbeef"
    broken.mkdir()
    (broken / MANIFEST).write_text("{")
    (models / NODE / POINTER).write_text("0002-deadbeef\n")
    assert not refresh(node, models, NodeRollout(NODE))
    assert node.bundle is serving
    assert MANIFEST in node.problem
    node.teacher.close()
    flags.close()
