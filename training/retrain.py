"""Retrains one node: traffic in, a certified bundle out, or a refusal that says what is missing.

`cascade retrain NODE` and `python -m training.retrain NODE` are the same command.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.bundle import REFERENCE, OpenEncoder, assemble
from cascade.config import Config
from cascade.contract import Contract
from cascade.errors import RetrainRefused
from cascade.fences import teacher_of
from cascade.golden import golden_answers
from cascade.lineage import write_lineage
from cascade.pointer import point_to
from cascade.redaction import redaction_fingerprint
from cascade.rungs.protocol import Query
from cascade.traffic import TrainingRecord
from cascade.validators import identity, import_validators
from training.asking import ask_chats, open_chats
from training.caveats import caveats, without_right_answer
from training.certificate import Certificate, first_count
from training.certify import certify
from training.curate import NO_LABEL, Curated, CuratedRecord, big_sessions, curate, learned_from
from training.evaluate import Scored
from training.exchangeability import compare_with_training
from training.fit import FitSettings
from training.full_disk import full_disk_told
from training.held_out import write_held_out, write_trained
from training.journal import journal, read_journal
from training.judge_validators import judge_validators, measure_micros, stakes_of
from training.learning_curve import Forecast, forecast
from training.live_sample import live_sample, refuse_too_thin
from training.net_cost import Economy, economy, measure_ms, teacher_price
from training.new_sessions import on_new_sessions
from training.node_report import price_texts, report_of_retraining
from training.node_rungs import fit, local_rungs, rung_entries
from training.own_validators import ask_about
from training.report import REPORT, write_report
from training.slices import slices_of
from training.split import MAX_CALIBRATION, calibration_share, held_out_of, split
from training.teacher import measure_noise, of_this_teacher
from training.tried import Budget, Tried
from training.write_bundle import (
    draft_manifest,
    export_models,
    golden_texts,
    keep_refusal,
    publish_checked,
    scratch_bundle,
)

Progress = Callable[[str], None]

REFUSED = "refused"
"""Folder under `models/<node>/` that holds the report of the last refusal."""

N_TIMED = 60


@dataclass(frozen=True)
class RetrainResult:
    """What a retraining came to.

    Attributes
    ----------
    node : str
    version : str
        The new bundle; empty where the certificate was refused.
    already_there : bool
        Whether the same input had already given this very bundle.
    certificate : Certificate
    report : Path
        `report.md`.
    n_records, n_train, n_held_out : int
        Records after curation, trained on, and held out.
    scored : Scored
        What the ladder says about the held-out records.
    thresholds : list of float
        One a local rung.
    economy : Economy, optional
        What the bundle saves, net; None where the certificate was refused.
    tried : list of Tried
        The variants that were tried.
    statement : dict
        All that the certificate says, as the manifest stores it, refused or not.
    curve : Forecast, optional
        What more records would bring; None where there are too few to say.
    caveats : list of str
        What is to be said with the verdict: see `training.caveats`.
    counted : int array
        Places of the held-out records that the certificate counted, one a group of near copies and sessions.
    records : list of CuratedRecord
        These records.
    """

    node: str
    version: str
    already_there: bool
    certificate: Certificate
    report: Path
    n_records: int
    n_train: int
    n_held_out: int
    scored: Scored = field(repr=False)
    thresholds: list[float]
    economy: Economy | None = None
    tried: list[Tried] = field(default_factory=list)
    statement: dict[str, Any] = field(default_factory=dict, repr=False)
    curve: Forecast | None = None
    caveats: list[str] = field(default_factory=list)
    counted: NDArray[np.int64] | None = field(default=None, repr=False)
    records: list[CuratedRecord] = field(default_factory=list, repr=False)


def retrain(
    name: str,
    config: Config,
    records: Sequence[TrainingRecord],
    open_encoder: OpenEncoder,
    teacher_means: tuple[float, float] | None = None,
    seed: int = 0,
    progress: Progress = lambda _: None,
    activate: bool = True,
    budget: float | None = None,
) -> RetrainResult:
    """Retrain a node.

    Parameters
    ----------
    name : str
        The node.
    config : Config
    records : sequence of TrainingRecord
        The node's traffic.
    open_encoder : callable
        Gives the encoder of a rung's name.
    teacher_means : (usd, milliseconds), optional
        What the teacher cost on average in this traffic, for the report.
    seed : int
        The same records, settings and seed give the same bundle hash.
    progress : callable
        Told the name of each step as it begins.
    activate : bool
        Whether a certified bundle becomes the one the node serves.
    budget : float, optional
        Seconds in which more variants of the rungs may be tried than the short list.

    Raises
    ------
    RetrainRefused
        There is too little usable traffic, or the contract is of a kind that no local rung learns yet.
        Nothing was changed.
    ConfigError
        The ladder has no local rung, or an encoder is missing.
    NoSpace
        A disk is full. Nothing was changed.
    """
    began = time.monotonic()
    node = config.nodes[name]
    rungs = local_rungs(name, config, node)
    validators = import_validators(name, node.validators)
    contract = node.contract.load(config.base)
    if contract is not None and not contract.is_labels:
        raise RetrainRefused(
            f"node {name}: local rungs learn label contracts only; this one is a JSON Schema"
        )
    bar, delta = node.bar.agreement, round(1 - node.bar.confidence, 9)
    teacher = teacher_of(config, name)
    records, of_others = of_this_teacher(records, teacher)
    noise = measure_noise(records)
    if noise is not None and noise.refuses(bar):
        raise RetrainRefused(f"node {name}: {noise.refuses(bar)}. Nothing was changed")
    progress("curating")
    curated = curate(records, contract, seed)
    labels = Contract(labels=curated.labels) if len(curated.labels) >= 2 else None
    _refuse_too_few(name, curated, bar, delta, of_others)
    assert labels is not None
    sample = live_sample(records, curated)
    part = calibration_share(len(sample), bar, delta)
    refuse_too_thin(name, sample, part, 2 * first_count(bar, delta))
    parts = split(curated, part, MAX_CALIBRATION, seed=seed, sample=sample)
    queries = [Query(record.text, record.messages or ()) for record in curated.records]
    open_chat = open_chats(config, node)
    asked, rung_usd = ask_chats(rungs, [queries[i] for i in parts.train], labels, open_chat, progress)
    share = node.out_of_scope.share
    settings = FitSettings(bar=bar, scope=share > 0, seed=seed)
    with full_disk_told(config.models_path / name):
        fitted = fit(curated, parts.train, rungs, open_encoder, settings, progress, asked, Budget(budget))
    train, held_out = parts.train, parts.calibration
    span = parts.held_out_span(curated)
    with scratch_bundle(config.models_path, name) as folder:
        progress("exporting")
        export_models(fitted, folder)
        entries = rung_entries(rungs, open_encoder, open_chat, labels)
        manifest = draft_manifest(name, labels, fitted, entries)
        manifest["redaction"] = redaction_fingerprint(config)
        ladder = assemble(folder, manifest, open_encoder, open_chat)[0]
        progress("certifying")
        seen = ladder.run_all([queries[i] for i in held_out])
        asked_of = partial(ask_about, name, validators, labels=curated.labels, progress=progress)
        own = asked_of([curated.records[i] for i in held_out], seen["answer"].astype(np.int64))
        of_training = asked_of([curated.records[i] for i in train], fitted.answers)
        slicing = slices_of(node, curated, train, held_out)
        proof = certify(
            fitted, seen, curated.y[held_out], rungs, bar, delta, teacher_means, slicing, rung_usd, share,
            node.agreement, own.stops, of_training.any, curated.groups[held_out], seed,
        )  # fmt: skip
        alike = compare_with_training(
            curated.texts, curated.y, curated.groups, train[sample.drawn[train]], held_out,
            node.exchangeability.level, seed,
        )  # fmt: skip
        if alike.failed:
            proof = proof.void(alike.reason)
        statement = proof.to_json() | {
            "teacher": teacher.to_json(),
            "exchangeability": alike.to_json(),
            "live_sample": sample.told(held_out),
            "teacher_noise": None if noise is None else noise.to_json(),
            "without_right_answer": without_right_answer(curated.y[train], proof.scored, proof.thresholds),
        }
        certificate, scored, thresholds = proof.certificate, proof.scored, proof.thresholds
        for entry, threshold, floor, least in zip(
            entries, thresholds, proof.skip_below, proof.limits.at_least, strict=True
        ):
            entry |= {"threshold": threshold, "skip_below": floor, "in_scope_at_least": least}
        sessions = [record.session for record in curated.records]
        new = on_new_sessions(fitted, [sessions[i] for i in train], big_sessions(sessions), seed)
        if new is not None:
            statement["new_sessions"] = new.to_json()
        progress("forecasting")
        # The proof counts groups of a fair sample: the same part of what is held out of more records.
        part_counted = certificate.n_held_out / held_out_of(len(curated.y), bar, delta)
        curve = forecast(
            fitted, proof.settled()[0] if certificate.valid else 0.0, len(curated.y),
            lambda n: max(round(held_out_of(n, bar, delta) * part_counted), 1), bar, delta, seed,
        )  # fmt: skip
        manifest |= {
            "certificate": statement,
            "dataset": {
                "sha256": curated.dataset_hash,
                "train": len(train),
                "held_out": len(held_out),
                "held_out_from": span[0],
                "held_out_groups": certificate.n_held_out,
                "split": parts.how,
                "records": {"of_another_teacher": of_others}
                | {key: int(value) for key, value in asdict(curated.counts).items()},
            },
            "settings": asdict(settings) | {"strictness": list(proof.strictness)},
            "out_of_scope": proof.limits.to_json(),
            "agreement": node.agreement,
            "validators": [identity(validator) for validator in validators],
            "tried": [variant.to_json() for variant in fitted.tried],
            "forecast": None if curve is None else curve.to_json(),
            "metrics": dict(zip(("settled", "agreement"), proof.settled(), strict=True)),
            "measured": [REPORT],
        }
        progress("measuring net cost")
        price = teacher_price(config, name, price_texts(records), curated.labels, teacher_means)
        texts = [queries[i].text for i in held_out]
        micros = measure_micros(
            ladder, contract or Contract(open_labels=True), curated.labels, texts, any(proof.limits.at_least)
        )
        asking = float(rung_usd.sum()) * len(queries)
        economics = None
        if certificate.valid:
            rung_ms = measure_ms(ladder, texts[:N_TIMED])
            scored = replace(scored, rung_ms=rung_ms)
            seconds = time.monotonic() - began
            economics = economy(config, name, scored, thresholds, rung_ms, price, seconds, asking)
            named = dict(zip(manifest["validators"], own.micros, strict=True))
            manifest["economy"] = economics.to_json() | {"check_micros": micros | named}
        judged = judge_validators(
            scored, thresholds, contract or Contract(open_labels=True), curated.labels, own, micros,
            stakes_of(config, name, price[0]), node.agreement,
        )  # fmt: skip
        said_with_it = caveats(manifest, read_journal(config, name))
        write_report(
            folder,
            report_of_retraining(config, name, manifest, scored, thresholds, judged, price[0], said_with_it),
        )
        version, already_there = "", False
        if certificate.valid:
            write_held_out(folder, texts, scored)
            write_trained(folder, (queries[i].text for i in train))
            write_lineage(folder, learned_from(records, curated))
            golden = golden_answers(golden_texts(texts), ladder)
            (folder / "golden.json").write_text(json.dumps(golden, ensure_ascii=False, sort_keys=True) + "\n")
            np.save(folder / REFERENCE, proof.live_scores(), allow_pickle=False)
            progress("publishing")
            version, already_there = publish_checked(
                folder, manifest, config.models_path, name, open_encoder, open_chat
            )
            report = config.models_path / name / version / REPORT
        else:
            report = keep_refusal(folder, config.models_path / name / REFUSED)
    journal(config, name, version, len(curated.y), time.monotonic() - began, asking, span[1])
    if activate and version:
        point_to(config.models_path, name, version)
    return RetrainResult(
        name, version, already_there, certificate, report, len(curated.y), len(train), len(held_out),
        scored, thresholds, economics, fitted.tried, statement, curve, said_with_it, proof.counted,
        [curated.records[i] for i in held_out[proof.counted]],
    )  # fmt: skip


def _refuse_too_few(name: str, curated: Curated, bar: float, delta: float, of_others: int) -> None:
    needed = 2 * first_count(bar, delta)
    bare = int((curated.y == NO_LABEL).sum())
    have = len(curated.y) - bare
    left_out = [f"{of_others:,} answers of another teacher are left out"] * bool(of_others)
    if bare:
        off = curated.counts.off_contract == bare
        why = "that is off the contract" if off else "that no other record has"
        left_out.append(f"{bare:,} records have an answer {why}")
    others = f" ({'; '.join(left_out)})" if left_out else ""
    if not curated.counts.seen and not of_others:
        raise RetrainRefused(
            f"node {name}: there is no traffic to learn from yet. Send its calls through the service, or "
            f"load a log: `cascade import {name} FILE`; at least {needed} records are needed, and 2,000 to "
            "5,000 is a good plan. Nothing was changed"
        )
    if have < needed:
        raise RetrainRefused(
            f"node {name}: {have:,} usable records{others} are too few. A bar of {100 * bar:g} % at "
            f"confidence {100 * (1 - delta):g} % needs at least {needed:,} ({needed - have:,} more), half of "
            "them to prove it on; plan for 2,000 to 5,000. Nothing was changed"
        )
    if len(curated.labels) < 2:
        raise RetrainRefused(
            f"node {name}: all {have:,} usable records have the same answer, {curated.labels[0]!r}; there is "
            "nothing to tell apart. Nothing was changed"
        )


def main() -> None:
    """Run `cascade retrain` with this process's arguments."""
    import sys

    from cascade.cli import app

    app(["retrain", *sys.argv[1:]])


if __name__ == "__main__":
    main()
