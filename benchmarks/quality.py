"""How much is settled locally, and how right it is: `python -m benchmarks.quality`.

The teacher is the data's label. Each data set is trained and certified by the code that `cascade retrain`
runs, exported, loaded as the service loads it, and asked the test texts.
"""

from __future__ import annotations

import gzip
import json
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks.embedding_cache import CachedEncoder
from benchmarks.table import save, show
from cascade.bundle import assemble
from cascade.contract import Contract
from cascade.encoder import find_encoder
from cascade.traffic import TrainingRecord
from training.certify import Proof, certify
from training.curate import curate
from training.embedding import ParallelEncoder
from training.evaluate import Row, Scored, ablation, compare, resplit_validity, settle
from training.fit import FitSettings
from training.net_cost import measure_ms
from training.node_rungs import fit, rung_entries
from training.split import MAX_CALIBRATION, calibration_share, split
from training.thresholds import no_looser, to_levels
from training.write_bundle import draft_manifest, export_models

RUNGS = [("linear", "linear"), ("encoder", "encoder")]
BARS = (0.95, 0.98)
DELTA = 0.05
TEACHER_USD, TEACHER_MS = 1.2e-4, 400.0
"""What the simulated frontier costs: about 40 prompt and 6 answer tokens at $2.5 and $10 per million."""

TARGETS = {
    ("banking77", 0.95): 0.95, ("banking77", 0.98): 0.84, ("clinc150 pooled", 0.98): 0.90,
    ("clinc150 official", 0.95): 0.65,
}  # fmt: skip
SUBSET_TARGETS = {1000: 0.65, 2000: 0.80}

DATA = ("banking77", "clinc150 pooled", "clinc150 official", "clinc150 official, no oos label")
OUT_OF_SCOPE = {"clinc150 official": 0.2, "clinc150 official, no oos label": 0.2}
"""The share of out-of-scope requests that a node's configuration says it is to be prepared for."""

N_SEEDS = 5


CALIBRATED: dict[Literal["resample", "holdout"], float] = {"resample": 0.5, "holdout": 0.2}
"""Share of the cached scores that a re-split certifies on. A fifth in `holdout`, as in retraining: then the
sampling noise of the other part, which stands for the truth, is the smaller one."""


def read(data: Path, name: str, parts: Sequence[str]) -> list[TrainingRecord]:
    """Read parts of a data set as labelled traffic."""
    records = []
    for part in parts:
        raw = gzip.decompress((data / name / f"{part}.jsonl.gz").read_bytes())
        for line in raw.splitlines():
            row = json.loads(line)
            records.append(TrainingRecord(row["id"], row["text"], None, row["label"], "import", None, None))
    return records


def prepare(data: Path, name: str, seed: int) -> tuple[list[TrainingRecord], list[TrainingRecord]]:
    """Give training and test records of one of `DATA`."""
    if name == "banking77":
        return read(data, "banking77", ["train"]), read(data, "banking77", ["test"])
    if name.startswith("clinc150 official"):
        train = read(data, "clinc150", ["train", "valid"])
        if name.endswith("no oos label"):
            train = [record for record in train if record.output != "oos"]
        return train, read(data, "clinc150", ["test"])
    pool = read(data, "clinc150", ["train", "valid", "test"])
    order = np.random.default_rng(seed).permutation(len(pool))
    cut = len(pool) * 3 // 4
    return [pool[i] for i in order[:cut]], [pool[i] for i in order[cut:]]


def run_one(
    train: list[TrainingRecord],
    test: list[TrainingRecord],
    name: str,
    seed: int,
    encoder: ParallelEncoder,
    embed: Any,
    n_splits: int,
    bars: Sequence[float] = BARS,
    trace: bool = True,
) -> dict[str, Any]:
    """Train on one data set and measure the bars on its test records.

    Parameters
    ----------
    encoder : ParallelEncoder
        What latency is measured with.
    embed : callable
        The same encoder, or one that remembers.
    """
    share = OUT_OF_SCOPE.get(name, 0.0)

    def step(text: str) -> None:
        if trace:
            typer.echo(f"  {name}: {text} ({time.monotonic() - began:.0f} s)", err=True)

    began = time.monotonic()
    curated = curate(train, None, seed)
    parts = split(curated, calibration_share(len(curated.y), BARS[0], DELTA), MAX_CALIBRATION, seed=seed)
    settings = FitSettings(scope=share > 0, seed=seed)
    fitted = fit(curated, parts.train, RUNGS, lambda _: (embed, embed), settings, step)
    index = {label: i for i, label in enumerate(curated.labels)}
    truth = np.array([index.get(record.output, -1) for record in test])
    held_out = curated.y[parts.calibration]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        export_models(fitted, folder)
        entries = rung_entries(RUNGS, lambda _: (encoder, encoder))
        manifest = draft_manifest(name, Contract(labels=curated.labels), fitted, entries)
        ladder = assemble(folder, manifest, lambda _: (embed, embed))[0]
        step("asking held-out and test records")
        seen = ladder.run_all([curated.records[i].text for i in parts.calibration])
        asked = ladder.run_all([record.text for record in test])
        timed = assemble(folder, manifest, lambda _: (encoder, encoder))[0]
        rung_ms = measure_ms(timed, [record.text for record in test[:100]])
    seconds = time.monotonic() - began
    out: dict[str, Any] = {
        "records": len(curated.y), "trained_on": len(parts.train), "held_out": len(held_out),
        "test": len(test), "seconds": round(seconds, 1), "bars": {},
    }  # fmt: skip
    for bar in bars:
        means = (TEACHER_USD, TEACHER_MS)
        proof = certify(
            fitted, seen, held_out, RUNGS, bar, DELTA, means, out_of_scope=share,
            groups=curated.groups[parts.calibration], seed=seed,
        )  # fmt: skip
        proof = replace(proof, scored=replace(proof.scored, rung_ms=rung_ms))
        on_test = _on_test(fitted, asked, truth, proof, bar)
        rows = compare(on_test, proof.thresholds)
        ablated = ablation(on_test, proof.scored, bar, DELTA, proof.strictness)
        pooled = np.vstack([_levels(proof.scored, proof), _levels(on_test, proof)])
        right = np.vstack([proof.scored.right, on_test.right])
        begins = (proof.starts.chains, proof.starts.least)
        validity = {
            way: resplit_validity(pooled, right, bar, DELTA, n_splits, CALIBRATED[way], seed, way, *begins)
            for way in (CALIBRATED if n_splits else ())
        }
        out["bars"][bar] = {
            "certificate": proof.certificate.to_json(),
            "thresholds": proof.thresholds,
            "out_of_scope": proof.limits.to_json() | _out_of_scope(on_test, proof, test),
            "rows": [_figures(row) for row in rows],
            "ablation": [_figures(row) for row in ablated],
            "validity": {way: found.__dict__ for way, found in validity.items()},
            "target": TARGETS.get((name, bar)),
        }
    return out


def score(data: Path, name: str, seed: int, encoder: ParallelEncoder) -> dict[str, NDArray[Any]]:
    """Train on one data set, and give what certification needs to know of its records.

    Returns
    -------
    dict of arrays
        Of held-out and test records together `right`, `answer` and `words`, and `levels_<bar>` for each
        bar; of the training records the same, out of fold, with `train_` before the name; and `labels`.
    """
    train, test = prepare(data, name, seed)
    curated = curate(train, None, seed)
    parts = split(curated, calibration_share(len(curated.y), BARS[0], DELTA), MAX_CALIBRATION, seed=seed)
    fitted = fit(curated, parts.train, RUNGS, lambda _: (encoder, encoder), FitSettings(seed=seed))
    index = {label: i for i, label in enumerate(curated.labels)}
    truth = np.array([index.get(record.output, -1) for record in test])
    texts = [curated.records[i].text for i in parts.calibration]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        export_models(fitted, folder)
        entries = rung_entries(RUNGS, lambda _: (encoder, encoder))
        manifest = draft_manifest(name, Contract(labels=curated.labels), fitted, entries)
        ladder = assemble(folder, manifest, lambda _: (encoder, encoder))[0]
        seen, asked = ladder.run_all(texts), ladder.run_all([record.text for record in test])

    def words(of: Sequence[str]) -> NDArray[np.int64]:
        return np.array([len(text.split()) for text in of])

    out: dict[str, NDArray[Any]] = {
        "labels": np.array(curated.labels),
        "words": words([*texts, *[record.text for record in test]]),
        "train_words": words([curated.records[i].text for i in parts.train]),
        "answer": np.concatenate([seen["answer"], asked["answer"]]),
        "train_right": fitted.opinions.right,
        "train_answer": np.stack([s.argmax(axis=1) for s in fitted.opinions.scores], axis=1),
    }
    for bar in BARS:
        proof = certify(
            fitted, seen, curated.y[parts.calibration], RUNGS, bar, DELTA,
            groups=curated.groups[parts.calibration], seed=seed,
        )  # fmt: skip
        on_test = _on_test(fitted, asked, truth, proof, bar)
        out["right"] = np.vstack([proof.scored.right, on_test.right])
        out[f"levels_{bar:.2f}"] = np.vstack([_levels(proof.scored, proof), _levels(on_test, proof)])
        out[f"train_levels_{bar:.2f}"] = to_levels(fitted.confidence, proof.strictness)
    return out


def _levels(scored: Scored, proof: Proof) -> NDArray[np.float64]:
    """Give the level from which on each rung settles each record, as certification sees it."""
    ran = scored.worth if scored.admitted is None else scored.worth & scored.admitted
    levels = to_levels(np.where(ran, scored.confidence, -np.inf), proof.strictness)
    return no_looser(levels, proof.limits.level)


def _on_test(fitted: Any, asked: Any, truth: Any, proof: Proof, bar: float) -> Scored:
    """Score test records with the floors that certification chose."""
    floors = np.array(proof.skip_below, dtype=np.float32)
    return replace(
        proof.scored,
        confidence=asked["confidence"].astype(np.float64),
        right=asked["answer"] == truth[:, None],
        p_right=asked["p_right"].astype(np.float64),
        p_top=asked["p_top"].astype(np.float64),
        worth=np.logical_or.accumulate(asked["p_right"] >= floors, axis=1),
        admitted=asked["in_scope"].astype(np.float32) >= np.array(proof.limits.at_least, dtype=np.float32),
        y=truth,
        answer=asked["answer"],
        allowed=proof.sliced.allowed(asked["answer"]),
        strictness=proof.sliced.asked(asked["answer"]),
    )


def _out_of_scope(on_test: Scored, proof: Proof, test: Sequence[TrainingRecord]) -> dict[str, Any]:
    """Say what became of the test records that no label fits, where there are any."""
    outside = np.array([record.output == "oos" for record in test])
    if not outside.any():
        return {}
    first, _ = settle(on_test, proof.thresholds)
    n_rungs = on_test.right.shape[1]
    local = first < n_rungs
    wrong = local & ~on_test.right[np.arange(len(first)), np.minimum(first, n_rungs - 1)]
    return {
        "test_records": int(outside.sum()),
        "settled": float(local[outside].mean()),
        "settled_wrong": float(wrong[outside].mean()),
        "in_scope_settled": float(local[~outside].mean()),
        "in_scope_agreement": float(1 - wrong[~outside].sum() / max(local[~outside].sum(), 1)),
    }


def run_subsets(
    data: Path, encoder: ParallelEncoder, embed: Any, n: int, bar: float = 0.95
) -> dict[str, Any]:
    """Train on nested random subsets of BANKING77's training records; a refusal settles nothing."""
    pool, test = prepare(data, "banking77", 0)
    rows = []
    for seed in range(N_SEEDS):
        order = np.random.default_rng(seed).permutation(len(pool))[:n]
        found = run_one([pool[i] for i in order], test, f"banking77, {n}", seed, encoder, embed, 0, [bar])
        at = found["bars"][bar]
        ladder = at["rows"][0]
        rows.append({
            "seed": seed, "certified": at["certificate"]["valid"], "held out": found["held_out"],
            "settled": ladder["settled"], "agreement": ladder["agreement"],
            "best fixed rung": at["rows"][2]["agreement"], "oracle settled": at["rows"][4]["settled"],
        })  # fmt: skip
    return {"rows": rows, "settled": float(np.mean([row["settled"] for row in rows]))}


def _figures(row: Row) -> dict[str, Any]:
    return {"": row.name} | {key: value for key, value in vars(row).items() if key != "name"}


def main(
    data: Annotated[Path | None, typer.Option(help="Folder of the data; by default $CASCADE_DATA.")] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="One of the data sets, or 'subsets'; may be repeated.")
    ] = None,
    seed: int = 0,
    splits: Annotated[int, typer.Option(help="Random re-splits for validity.")] = 200,
    cache: Annotated[
        Path | None, typer.Option(help="Folder that remembers embeddings between runs; times then lack them.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here as well.")] = None,
) -> None:
    """Measure settled share, agreement, baselines, ablation and validity."""
    folder = data or Path(os.environ.get("CASCADE_DATA", "../shared/data"))
    models = Path(__file__).resolve().parents[1] / "models"
    encoder = ParallelEncoder(find_encoder("all-MiniLM-L6-v2", models, models))
    note = "" if cache is None else ", embeddings remembered"
    embed = encoder if cache is None else CachedEncoder(encoder, cache)
    figures: dict[str, Any] = {}
    for name in only or [*DATA, "subsets"]:
        if name == "subsets":
            for n, target in SUBSET_TARGETS.items():
                found = figures[f"banking77, {n} records"] = run_subsets(folder, encoder, embed, n)
                show(f"banking77, {n} of its training records, bar 95%, {N_SEEDS} seeds", found["rows"])
                typer.echo(f"mean settled {found['settled']:.1%}; target: >= {target:.0%} at >= 95%")
            continue
        found = figures[name] = run_one(*prepare(folder, name, seed), name, seed, encoder, embed, splits)
        for bar, at in found["bars"].items():
            certificate = at["certificate"]
            typer.echo(f"\n{name}, bar {bar:.0%} at confidence {1 - DELTA:.0%}: {certificate['reason']}")
            show(f"{name}, {found['test']} test records, bar {bar:.0%}", at["rows"])
            show("what each part adds", at["ablation"])
            for way, v in at["validity"].items():
                typer.echo(
                    f"validity ({way}): bar broken in {v['broken']} of {v['n_splits']} re-splits "
                    f"({v['certified']} certified); at most {v['allowed'] * v['n_splits']:.0f} allowed"
                )
            scope = at["out_of_scope"]
            if "test_records" in scope:
                typer.echo(
                    f"prepared for {scope['share']:.0%} out of scope; of {scope['test_records']} such test "
                    f"records {scope['settled']:.1%} settled, {scope['settled_wrong']:.1%} wrong; in scope "
                    f"{scope['in_scope_settled']:.1%} at {scope['in_scope_agreement']:.1%}"
                )
            if at["target"] is not None:
                typer.echo(f"target: settled >= {at['target']:.0%} at an agreement >= {bar:.0%}")
        typer.echo(f"{name}: curated, trained, exported and asked in {found['seconds']} s{note}")
    save(json_file, figures)


if __name__ == "__main__":
    typer.run(main)
