"""Whether the forecast of what more records bring comes true: `python -m benchmarks.forecast`.

Nested random subsets of BANKING77's training records are retrained by the code of `cascade retrain`. What
each says that the next 1,000 records would bring stands beside what retraining with them brought.
Both are certified shares of held-out records, which is what the forecast speaks about; beside them stands
the share of the official test that the thresholds settle, which has less luck in it.
Each retraining's figures are kept in `var/forecast`, under a name that changes with the code.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.code_version import code_version
from benchmarks.embedding_cache import CachedEncoder
from benchmarks.quality import DELTA, RUNGS, prepare
from benchmarks.table import save, show
from cascade.bundle import assemble
from cascade.contract import Contract
from cascade.encoder import find_encoder
from cascade.traffic import TrainingRecord
from training.certify import certify
from training.curate import curate
from training.embedding import ParallelEncoder
from training.fit import FitSettings
from training.learning_curve import LEVEL, NEXT, forecast
from training.node_rungs import fit, rung_entries
from training.split import MAX_CALIBRATION, calibration_share, held_out_of, split
from training.write_bundle import draft_manifest, export_models

KEPT = Path("var/forecast")
BAR = 0.95


def retrained(
    records: Sequence[TrainingRecord], test: Sequence[str], seed: int, embed: Any
) -> dict[str, Any]:
    """Retrain on records, and give what was certified and what was forecast."""
    curated = curate(records, None, seed)
    n = len(curated.y)
    parts = split(curated, calibration_share(n, BAR, DELTA), MAX_CALIBRATION, seed=seed)
    fitted = fit(curated, parts.train, RUNGS, lambda _: (embed, embed), FitSettings(seed=seed, scope=False))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        export_models(fitted, folder)
        entries = rung_entries(RUNGS, lambda _: (embed, embed))
        manifest = draft_manifest("forecast", Contract(labels=curated.labels), fitted, entries)
        ladder = assemble(folder, manifest, lambda _: (embed, embed))[0]
        seen = ladder.run_all([curated.records[i].text for i in parts.calibration])
        asked = ladder.run_all(test)
    proof = certify(
        fitted, seen, curated.y[parts.calibration], RUNGS, BAR, DELTA,
        groups=curated.groups[parts.calibration], seed=seed,
    )  # fmt: skip
    certificate = proof.certificate
    settled = certificate.n_settled / max(certificate.n_held_out, 1)
    floors = np.array(proof.skip_below, dtype=np.float32)
    worth = np.logical_or.accumulate(asked["p_right"].astype(np.float32) >= floors, axis=1)
    on_test = (worth & (asked["confidence"].astype(np.float64) >= np.array(proof.thresholds))).any(axis=1)
    curve = forecast(fitted, settled, n, lambda m: held_out_of(m, BAR, DELTA), BAR, DELTA, seed)
    return {
        "records": n, "held out": certificate.n_held_out, "settled": settled,
        "of the test": float(on_test.mean()),
        "forecast": None if curve is None else curve.to_json(),
    }  # fmt: skip


def main(
    data: Annotated[Path | None, typer.Option(help="Folder of the data; by default $CASCADE_DATA.")] = None,
    records: Annotated[
        list[int] | None, typer.Option(help="Records to forecast from; may be repeated.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Random orders of the records.")] = 3,
    cache: Annotated[Path, typer.Option(help="Folder that remembers embeddings between runs.")] = Path(
        "var/embeddings"
    ),
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here as well.")] = None,
) -> None:
    """Compare forecasts on real data with what came true.

    Example: python -m benchmarks.forecast --records 1000 --records 2000
    """
    folder = data or Path(os.environ.get("CASCADE_DATA", "../shared/data"))
    models = Path(__file__).resolve().parents[1] / "models"
    embed = CachedEncoder(ParallelEncoder(find_encoder("all-MiniLM-L6-v2", models, models)), cache)
    pool, test = prepare(folder, "banking77", 0)
    texts = [record.text for record in test]
    rows: list[dict[str, Any]] = []
    for n in records or (1000, 2000, 4000):
        for seed in range(seeds):
            order = np.random.default_rng(seed).permutation(len(pool))
            found = []
            for size in (n, n + NEXT):
                kept = KEPT / f"{size}-{seed}-{code_version()}.json"
                if not kept.exists():
                    began = time.monotonic()
                    typer.echo(f"banking77, {size} records, seed {seed}", err=True)
                    figures = retrained([pool[i] for i in order[:size]], texts, seed, embed)
                    kept.parent.mkdir(parents=True, exist_ok=True)
                    kept.write_text(json.dumps(figures) + "\n")
                    typer.echo(f"  {time.monotonic() - began:.0f} s", err=True)
                found.append(json.loads(kept.read_text()))
            rows.append(_row(n, seed, found[0], found[1]))
    show(f"banking77, bar {BAR:.0%}: what {NEXT:,} more records bring, forecast and true", rows)
    told = [row for row in rows if row["forecast"] is not None]
    if told:
        error = np.array([row["forecast"] - row["true"] for row in told])
        inside = sum(row["low"] <= row["true"] <= row["high"] for row in told)
        typer.echo(
            f"{len(told)} forecasts: mean error {error.mean():+.1%}, mean absolute error "
            f"{np.abs(error).mean():.1%}; {inside} of {len(told)} truths within the {LEVEL:.0%} interval; "
            f"'as now' would be off by {np.mean([abs(r['now'] - r['true']) for r in told]):.1%}"
        )
    save(json_file, {"rows": rows})


def _row(n: int, seed: int, before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    told = before["forecast"] or {}
    return {
        "records": n, "seed": seed, "now": before["settled"], "forecast": told.get("settled_next"),
        "low": told.get("low"), "high": told.get("high"), "true": after["settled"],
        "test now": before["of the test"], "test then": after["of the test"],
    }  # fmt: skip


if __name__ == "__main__":
    typer.run(main)
