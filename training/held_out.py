"""What a bundle remembers of the records it was made of: no text, only hashes, answers and opinions.

`held_out.npy` holds what the ladder said about each record that it was certified on, so that a report can be
made at any time. `trained.npy` holds hashes of the texts that models were fitted on, so that nothing is later
judged on what it has learned by heart. A record is found again in the traffic by its hash; once erased there,
it is gone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.errors import BundleError
from cascade.text import normalise
from training.evaluate import Scored

HELD_OUT, TRAINED = "held_out.npy", "trained.npy"

Hashes = NDArray[np.uint64]


def text_hashes(texts: Iterable[str]) -> Hashes:
    """Give a 64-bit hash of each text, normalised as the features see it."""
    return np.array(
        [
            int.from_bytes(
                hashlib.blake2b(normalise(text).encode("utf-8", "replace"), digest_size=8).digest()
            )
            for text in texts
        ],
        dtype=np.uint64,
    )


@dataclass(frozen=True, eq=False)
class HeldOut:
    """The records a bundle was certified on.

    Attributes
    ----------
    texts : uint64 array of shape (n,)
        Hash of each text.
    scored : Scored
        What the ladder said about them.
    """

    texts: Hashes
    scored: Scored


_PER_RUNG = (
    ("answer", "<i4"), ("confidence", "<f4"), ("p_right", "<f4"), ("p_top", "<f4"), ("worth", "?"),
    ("admitted", "?"), ("allowed", "?"), ("strictness", "<f4"), ("in_scope", "?"),
)  # fmt: skip


def write_held_out(folder: Path, texts: Sequence[str], scored: Scored) -> None:
    """Write `held_out.npy`.

    Parameters
    ----------
    texts : sequence of n str
        In the order of `scored`.
    """
    n, n_rungs = scored.right.shape
    fields: list[Any] = [("text", "<u8"), ("y", "<i4")]
    fields += [(name, kind, (n_rungs,)) for name, kind in _PER_RUNG]
    if scored.refused is not None and scored.refused.size:
        fields.append(("refused", "?", scored.refused.shape[1:]))
    table = np.zeros(n, dtype=fields)
    table["text"], table["y"] = text_hashes(texts), scored.y
    for name, _ in _PER_RUNG:
        column = getattr(scored, name)
        table[name] = 1 if column is None else column  # what is absent lets every answer settle
    if scored.refused is not None and scored.refused.size:
        table["refused"] = scored.refused
    np.save(folder / HELD_OUT, table, allow_pickle=False)


def write_trained(folder: Path, texts: Iterable[str]) -> None:
    """Write `trained.npy`: the hashes of the training records' texts, sorted."""
    np.save(folder / TRAINED, np.unique(text_hashes(texts)), allow_pickle=False)


def read_held_out(folder: Path, manifest: dict[str, Any]) -> HeldOut | None:
    """Read `held_out.npy`; None where the bundle was written before there was one.

    Raises
    ------
    BundleError
        The file is not what `write_held_out` writes.
    """
    path = folder / HELD_OUT
    if not path.exists():
        return None
    try:
        table = np.load(path, allow_pickle=False)
        rungs = tuple(entry["name"] for entry in manifest["rungs"])
        answer = table["answer"].astype(np.int64)
        if answer.shape[1] != len(rungs):
            raise ValueError("its shape does not fit the manifest")
        economy = manifest.get("economy", {})
        y = table["y"].astype(np.int64)
        there = table.dtype.names or ()
        scored = Scored(
            confidence=table["confidence"].astype(np.float64),
            right=answer == y[:, None],
            p_right=table["p_right"].astype(np.float64),
            p_top=table["p_top"].astype(np.float64),
            worth=table["worth"],
            y=y,
            answer=answer,
            rungs=rungs,
            rung_usd=np.array(economy.get("rung_usd", [0.0] * len(rungs))),
            rung_ms=np.array(economy.get("rung_ms", [np.nan] * len(rungs))),
            teacher_usd=float(economy.get("prices", {}).get("teacher_call", np.nan)),
            teacher_ms=np.nan,
            allowed=table["allowed"],
            strictness=table["strictness"].astype(np.float64),
            admitted=table["admitted"],
            in_scope=table["in_scope"] if "in_scope" in there else None,
            refused=table["refused"] if "refused" in there else None,
        )
        return HeldOut(table["text"], scored)
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise BundleError(HELD_OUT, f"not a table of held-out records: {error}") from error


def read_trained(folder: Path) -> Hashes | None:
    """Read `trained.npy`; None where the bundle was written before there was one."""
    path = folder / TRAINED
    if not path.exists():
        return None
    try:
        found = np.load(path, allow_pickle=False)
        if found.dtype != np.uint64 or found.ndim != 1:
            raise ValueError("not a list of hashes")
    except (OSError, ValueError) as error:
        raise BundleError(TRAINED, f"it cannot be read: {error}") from error
    hashes: Hashes = found
    return hashes
