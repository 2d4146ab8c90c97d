"""Whether certificates keep their promise, node's and slices': `python -m benchmarks.validity`.

A data set's ladder is trained once and its scores are cached, under a name that changes with the code.
Held-out and test records together are
then the population, whose truth is known: the agreement over all of it. Each of 200 re-splits draws
held-out records from it with replacement, certifies node and slices by the code that `cascade retrain`
runs, and looks whether a bar that was called proven is broken in the population. Slices are the labels
and, in some rows, the length of the text as well, which overlaps with labels. What is judged on training
records stays the same in all of them.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks.code_version import code_version
from benchmarks.quality import BARS, DELTA, RUNGS, score
from benchmarks.table import save, show
from cascade.encoder import find_encoder
from training.certificate import counts_by_slice
from training.embedding import ParallelEncoder
from training.judge_slices import judge
from training.slice_certificate import SlicedCertificate, certify_slices
from training.slices import Demand, Slicing, find_slices, not_fenced, stricter

Arrays = dict[str, NDArray[Any]]
Contexts = list[dict[str, str]]

CACHE = Path("var/validity")

TRAINED = 4
"""Training records for each held-out one, where more are held out than the data set has."""

SCENARIOS: tuple[tuple[str, Literal["not-refuted", "proven"], float | None, bool, int | None], ...] = (
    ("labels", "not-refuted", None, False, None),
    ("labels and lengths", "not-refuted", None, True, None),
    ("labels, 20,000 held out", "not-refuted", None, False, 20_000),
    ("labels, each proven, 20,000 held out", "proven", None, False, 20_000),
)
"""Name, what is asked of slices, their bar (the node's by default), whether lengths are sliced, and how many
records are held out (half of the population by default)."""


def cached(data: Path, name: str, seed: int, encoder: ParallelEncoder | None) -> Arrays:
    """Give a data set's scores, from the cache where they are there."""
    path = CACHE / f"{name.replace(' ', '-')}-{seed}-{code_version()}.npz"
    if not path.exists():
        assert encoder is not None
        arrays = score(data, name, seed, encoder)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
    with np.load(path, allow_pickle=False) as found:
        return {key: found[key] for key in found.files}


def lengths(words: NDArray[np.int64]) -> Contexts:
    """Put each text into one of three classes of length."""
    return [{"length": "short" if n < 7 else "long" if n > 12 else "middle"} for n in words.tolist()]


def truth(
    found: SlicedCertificate,
    levels: NDArray[np.float64],
    right: NDArray[np.bool_],
    ids: list[NDArray[np.int64]],
) -> tuple[float, float, NDArray[np.float64]]:
    """Give settled share, agreement and each slice's agreement over the whole population."""
    asked = stricter(levels, ids, found.strictness)
    allowed = not_fenced(ids, found.fenced)
    at, n = np.array([found.certificate.threshold]), len(found.members.slices)
    settled, wrong = np.zeros(n), np.zeros(n)
    node = np.zeros(2)
    for k, which in enumerate(ids):
        s, w = counts_by_slice(asked, right, at, which, n, allowed)
        settled, wrong = settled + s[:, 0], wrong + w[:, 0]
        if k == 0:
            node[:] = s.sum(), w.sum()
    each = np.divide(settled - wrong, settled, out=np.ones(n), where=settled > 0)
    return float(node[0] / len(levels)), float(1 - node[1] / max(node[0], 1)), each


def run(arrays: Arrays, bar: float, scenario: int, n_splits: int, seed: int) -> dict[str, Any]:
    """Certify on re-splits, and count broken promises."""
    title, require, slice_bar, sliced, size = SCENARIOS[scenario]
    key = f"{bar:.2f}"
    keys = ("length",) if sliced else ()
    train = lengths(arrays["train_words"]) if sliced else []
    everyone = lengths(arrays["words"]) if sliced else []
    names = [str(label) for label in arrays["labels"]]
    slicing = Slicing(find_slices(names, keys, everyone), Demand(require, slice_bar or bar), train)
    seen = np.arange(len(arrays["train_right"]))
    if size:  # a node that holds so many out has trained on more
        seen = np.random.default_rng(seed).integers(0, len(seen), TRAINED * size)
    slicing = replace(slicing, train=[train[i] for i in seen] if sliced else [])
    judged = judge(
        arrays[f"train_levels_{key}"][seen], arrays["train_right"][seen], arrays["train_answer"][seen],
        slicing, bar, DELTA,
    )  # fmt: skip
    levels, right = arrays[f"levels_{key}"], arrays["right"]
    ids = slicing.members.of(arrays["answer"], everyone)
    rng = np.random.default_rng(seed)
    n = len(right)
    size = size or n // 2
    certified = node_broken = slice_broken = 0
    shares, proven, fenced = [], [], []
    for _ in range(n_splits):
        rows = rng.integers(0, n, size)
        mine = [which[rows] for which in ids]
        found = certify_slices(
            stricter(levels[rows], mine, judged.strictness), right[rows], mine, slicing, bar, DELTA, judged
        )
        states = [line.state for line in found.lines]
        if not found.certificate.valid:
            continue
        certified += 1
        share, agreement, each = truth(found, levels, right, ids)
        node_broken += agreement < bar
        slice_broken += any(
            state == "proven" and each[k] < slicing.demand.bar for k, state in enumerate(states)
        )
        shares.append(share)
        proven.append(states.count("proven"))
        fenced.append(states.count("fenced"))
    allowed = n_splits * DELTA + 3 * float(np.sqrt(n_splits * DELTA * (1 - DELTA)))
    return {
        "slices": title, "bar": bar, "held out": size, "re-splits": n_splits, "certified": certified,
        "node broken": node_broken, "a slice broken": slice_broken, "allowed": int(allowed),
        "settled": float(np.mean(shares)) if shares else 0.0,
        "proven": float(np.mean(proven)) if shares else 0.0,
        "fenced": float(np.mean(fenced)) if shares else 0.0,
        "of": len(slicing.members.slices),
        "stricter": int((judged.strictness < 1).sum()),
    }  # fmt: skip


def main(
    data: Annotated[Path | None, typer.Option(help="Folder of the data; by default $CASCADE_DATA.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="banking77, 'clinc150 pooled'.")] = None,
    splits: Annotated[int, typer.Option(help="Random re-splits.")] = 200,
    large: Annotated[bool, typer.Option(help="Also with 20,000 held-out records; takes longer.")] = True,
    seed: int = 0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here as well.")] = None,
) -> None:
    """Count how often proven bars are broken, of nodes and of slices.

    Example: python -m benchmarks.validity --only banking77
    """
    folder = data or Path(os.environ.get("CASCADE_DATA", "../shared/data"))
    models = Path(__file__).resolve().parents[1] / "models"
    encoder = ParallelEncoder(find_encoder("all-MiniLM-L6-v2", models, models))
    figures: dict[str, Any] = {}
    kept = True
    for name in only or ["banking77", "clinc150 pooled"]:
        typer.echo(f"{name}: scores of {', '.join(rung for rung, _ in RUNGS)}", err=True)
        arrays = cached(folder, name, seed, encoder)
        rows = []
        for bar in BARS:
            for scenario in range(len(SCENARIOS)):
                if SCENARIOS[scenario][4] and not large:
                    continue
                rows.append(run(arrays, bar, scenario, splits, seed))
                typer.echo(f"  {rows[-1]}", err=True)
        show(f"{name}: broken promises in {splits} re-splits, confidence {1 - DELTA:.0%}", rows)
        kept &= all(max(row["node broken"], row["a slice broken"]) <= row["allowed"] for row in rows)
        figures[name] = rows
    typer.echo("every promise was kept as often as it must be" if kept else "A PROMISE WAS BROKEN TOO OFTEN")
    save(json_file, figures)
    if not kept:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
