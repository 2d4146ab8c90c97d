"""Which records a bundle learned from: a file of hashes in the bundle, so that it goes where the bundle goes.

A hash instead of the id keeps the file small and says nothing to who does not know the id.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cascade.errors import BundleError
from cascade.manifest import MANIFEST
from cascade.pointer import serving_version

FILE = "lineage.npy"


def hashes(ids: Iterable[str]) -> NDArray[np.uint64]:
    """Give the sorted, distinct hashes of record ids, 64 bits each."""
    digests = [hashlib.blake2b(id_.encode("utf-8", "replace"), digest_size=8).digest() for id_ in ids]
    return np.unique(np.frombuffer(b"".join(digests), dtype="<u8")).astype(np.uint64)


def write_lineage(folder: Path, ids: Iterable[str]) -> None:
    """Write the lineage of the bundle in a folder."""
    np.save(folder / FILE, hashes(ids), allow_pickle=False)


def bundles_that_learned(models: Path, ids: Sequence[str]) -> tuple[list[dict[str, object]], list[str]]:
    """Find the bundles that learned from any of some records.

    Returns
    -------
    found : list of dict
        `node`, `version`, `serving` and the number of the `records` it learned from.
    unknown : list of str
        `node/version` of bundles from before lineage was recorded: they may have.

    Raises
    ------
    BundleError
        A lineage cannot be read.
    """
    asked = hashes(ids)
    found: list[dict[str, object]] = []
    unknown: list[str] = []
    for manifest in sorted(models.glob(f"*/*/{MANIFEST}")):
        folder = manifest.parent
        node, version = folder.parent.name, folder.name
        if version.startswith("."):
            continue
        try:
            used = np.load(folder / FILE, allow_pickle=False)
        except FileNotFoundError:
            unknown.append(f"{node}/{version}")
            continue
        except Exception as error:  # numpy raises many kinds
            raise BundleError(FILE, f"the lineage of {node}/{version} cannot be read: {error}") from error
        records = int(np.isin(asked, used).sum())
        if records:
            serving = serving_version(models, node) == version
            found.append({"node": node, "version": version, "serving": serving, "records": records})
    return found, unknown
