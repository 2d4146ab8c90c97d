"""Copies of a bundle under another version: as good as it, or with its labels in the wrong order.

The second is the accident that nobody sees: every file is intact, the models give the stored answers to the
golden inputs, the certificate is the one that was earned; only the names of the answers were shuffled on the
way, as when a label list is sorted anew between training and serving.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cascade.manifest import MANIFEST, content_hash


def copy_bundle(source: Path, number: int, wrong: float = 0.0, seed: int = 0) -> str:
    """Copy a bundle beside itself.

    Parameters
    ----------
    source : Path
        The bundle's folder.
    number : int
        Of the copy's version.
    wrong : float
        The share of labels that trade places, in [0, 1].
    seed : int

    Returns
    -------
    str
        The copy's version.
    """
    manifest: dict[str, Any] = json.loads((source / MANIFEST).read_text("utf-8"))
    manifest["settings"] = {**manifest.get("settings", {}), "copy": number}
    labels = manifest["contract"]["labels"]
    manifest["contract"]["labels"] = shuffled(labels, wrong, seed)
    manifest["version"] = f"{number:04d}-{content_hash(manifest)[:8]}"
    target = source.with_name(str(manifest["version"]))
    scratch = source.with_name(f".copy-{number}")
    shutil.copytree(source, scratch)
    (scratch / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    scratch.rename(target)
    return target.name


def shuffled(labels: Sequence[str], share: float, seed: int = 0) -> list[str]:
    """Let a share of labels trade places, each with another one.

    Examples
    --------
    >>> shuffled(["a", "b"], 1.0)
    ['b', 'a']
    """
    chosen = random.Random(seed).sample(range(len(labels)), round(share * len(labels)))
    moved = list(labels)
    for at, to in zip(chosen, chosen[1:] + chosen[:1], strict=True):
        moved[to] = labels[at]
    return moved
