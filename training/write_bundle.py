"""Writes bundles: into a scratch directory first, checked by loading, then moved into place by one rename."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cascade.bundle import OpenEncoder, load_bundle
from cascade.contract import Contract
from cascade.manifest import MANIFEST, SCHEMA, content_hash, sha256, verify_files
from cascade.rungs.local_chat import OpenChat
from training import first_pass, head, linear
from training.fit import FittedLadder
from training.full_disk import full_disk_told
from training.trees import export_trees

N_GOLDEN = 16


@contextmanager
def scratch_bundle(models: Path, node: str) -> Iterator[Path]:
    """Give an empty directory beside the node's bundles, removed again whatever happens.

    Its name starts with a dot, so that nothing takes it for a bundle after a crash.

    Raises
    ------
    NoSpace
        The disk is full: what was written is removed again.
    """
    with full_disk_told(models / node):
        (models / node).mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".new-", dir=models / node))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def export_models(fitted: FittedLadder, folder: Path) -> None:
    """Write all models of a fitted ladder."""
    linear.export(fitted.linear.model, folder / "linear.onnx")
    encoder, judges = fitted.encoder, fitted.judges
    if encoder is not None:
        head.export(
            encoder.head, encoder.kernel, encoder.neighbours, encoder.clouds, encoder.fusion,
            folder / "head.onnx",
        )  # fmt: skip
    kinds = fitted.kinds
    linear_at = kinds.index("linear") if "linear" in kinds else None
    first_pass.export(
        judges.difficulty, judges.acceptor, fitted.linear.model.bias, judges.record,
        linear_at, len(kinds), folder,
    )  # fmt: skip
    export_trees(judges.acceptor, folder / "acceptor.onnx")
    fitted.featurizer.save(folder / "features.npy")
    np.save(folder / "hardness.npy", judges.hardness.astype(np.float16), allow_pickle=False)
    labels = np.vstack([judges.record.share, judges.record.precision]).astype(np.float32)
    np.save(folder / "labels.npy", labels, allow_pickle=False)


def draft_manifest(
    node: str, contract: Contract, fitted: FittedLadder, rungs: list[dict[str, Any]]
) -> dict[str, Any]:
    """Give the part of a manifest that is known before calibration: enough to assemble the ladder."""
    return {
        "schema": SCHEMA,
        "node": node,
        "contract": contract.to_json(),
        "features": fitted.featurizer.fingerprint,
        "rungs": rungs,
        "acceptor": {"trees_weight": list(fitted.judges.trees_weight)},
        "scope": None
        if fitted.scope is None
        else {
            "rungs": fitted.scope.detector.to_json(),
            "auroc": [round(a, 4) for a in fitted.scope.auroc],
        },
        "certificate": {"valid": False},
    }


def seal(folder: Path, manifest: dict[str, Any], number: int) -> dict[str, Any]:
    """Hash every file, name the version after the content, and write the manifest."""
    files = {path.name: sha256(path) for path in sorted(folder.iterdir()) if path.name != MANIFEST}
    sealed = {key: value for key, value in manifest.items() if key != "version"} | {"files": files}
    sealed["version"] = f"{number:04d}-{content_hash(sealed)[:8]}"
    (folder / MANIFEST).write_text(json.dumps(sealed, indent=1, sort_keys=True) + "\n")
    return sealed


def publish(folder: Path, models: Path, node: str, version: str) -> Path:
    """Move a sealed bundle into place in one rename, on disk before it is visible."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    folder.chmod(0o755)
    target = models / node / version
    os.rename(folder, target)
    _sync_directory(target.parent)
    return target


def versions(models: Path, node: str) -> list[str]:
    """Name a node's bundles, oldest first."""
    folder = models / node
    if not folder.is_dir():
        return []
    return sorted(
        p.name for p in folder.iterdir() if re.fullmatch(r"\d{4,}-[0-9a-f]{8}", p.name) and p.is_dir()
    )


def golden_texts(texts: list[str]) -> list[str]:
    """Pick held-out texts of all lengths, and two that no one has seen."""
    by_length = sorted(texts, key=lambda text: (len(text), text))
    at = np.linspace(0, len(by_length) - 1, N_GOLDEN).astype(int)
    return [*dict.fromkeys(by_length[i] for i in at), "?", "zzz qqq 123"]


def publish_checked(
    folder: Path,
    manifest: dict[str, Any],
    models: Path,
    name: str,
    open_encoder: OpenEncoder,
    open_chat: OpenChat,
) -> tuple[str, bool]:
    """Seal a bundle, load it as serving will, and move it into place; what is there already stays.

    Returns
    -------
    version : str
    already_there : bool
        Whether the node has this very bundle.
    """
    there = versions(models, name)
    number = int(there[-1].split("-")[0]) + 1 if there else 1
    sealed = seal(folder, manifest, number)
    for version in there:
        if version.split("-")[1] == sealed["version"].split("-")[1]:
            return version, True
    verify_files(folder, sealed)
    load_bundle(folder, open_encoder, name, open_chat)
    publish(folder, models, name, sealed["version"])
    return sealed["version"], False


def keep_refusal(folder: Path, target: Path) -> Path:
    """Keep only the report of a refused run."""
    for path in folder.iterdir():
        if path.suffix not in {".md", ".png"}:
            path.unlink()
    if target.exists():
        shutil.rmtree(target)
    os.rename(folder, target)
    target.chmod(0o755)
    return target / "report.md"


def _sync_directory(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
