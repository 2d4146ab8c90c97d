"""Gathers what is known about a node: proof, validators' record, money, confusions, what to label next."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.ask import Ask
from cascade.config import Config
from cascade.standing import Standing, standing
from cascade.traffic import TrafficStore, TrainingRecord
from cascade.validators import identity, name_of
from training.caveats import caveats
from training.evaluate import Row, Scored, compare, settle, wrong_pairs
from training.held_out import HeldOut, read_held_out, read_trained, text_hashes
from training.journal import Retraining, read_journal
from training.judge_validators import N_TIMED, judge_validators, measure_micros, stakes_of
from training.label_next import MAX_POOL, Candidate, ToLabel, choose, text_vectors
from training.ledger import Ledger, audits_of, open_ledger, unresolved_audits
from training.log import Window, last_week
from training.net_cost import teacher_price
from training.node_rungs import encoders_of
from training.offline import OfflineNode
from training.own_validators import Refusals, refusals
from training.replay import decision_text
from training.rollout_place import PulledBack, pulled_back, rollout_place
from training.rung_alone import RungAlone, rung_alone
from training.validator_record import ValidatorRecord

Progress = Callable[[str], None]

N_LABEL_NEXT = 50
N_EXAMPLES = 3


@dataclass(frozen=True)
class Confusion:
    """What was settled wrong: the teacher's label, the answer, how often, and a few texts of it."""

    truth: str
    answer: str
    count: int
    examples: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class NodeReport:
    """What is known about a node and one of its bundles.

    Attributes
    ----------
    node, version : str
    manifest : dict
    thresholds : list of float
    held_out : HeldOut, optional
        None where the bundle does not keep it.
    rows : list of Row
        The ladder and its alternatives on the held-out records.
    validators : list of ValidatorRecord
    confusions : list of Confusion
    traffic : dict of str to int
    standing : Standing
        Whether a fence keeps it from settling now, and the test of live traffic.
    retrainings : list of Retraining
    to_label : list of ToLabel, optional
        None where the report is written by the retraining and kept in the bundle: no texts are in that.
    ledger : Ledger, optional
        Of the last seven days of decisions; None likewise, when there are none of this bundle.
    caveats : sequence of str
        What is to be said with the verdict: see `training.caveats`.
    place : sequence of str
        Who gets its answers now; empty in the report that is kept in the bundle.
    pulled_back : PulledBack, optional
        Who pulled it back, and why; None where nobody did.
    teacher_call : (usd, source), optional
        What an answer of the teacher costs now, as `teacher_price` gives it; None for what the retraining
        took it at.
    wrong_answer : float, optional
        Dollars of harm, where the configuration prices it.
    teacher : str
        The rung's name in the configuration.
    """

    node: str
    version: str
    manifest: Mapping[str, Any]
    thresholds: list[float]
    held_out: HeldOut | None
    rows: list[Row]
    validators: list[ValidatorRecord]
    confusions: list[Confusion]
    traffic: dict[str, int]
    standing: Standing
    retrainings: list[Retraining]
    to_label: list[ToLabel] | None = None
    ledger: Ledger | None = None
    place: Sequence[str] = ()
    pulled_back: PulledBack | None = None
    teacher_call: tuple[float, str] | None = None
    wrong_answer: float | None = None
    teacher: str = "frontier"
    caveats: Sequence[str] = ()

    @property
    def saved(self) -> bool:
        """Whether this is the report that a retraining keeps in its bundle."""
        return self.ledger is None

    @property
    def better_alone(self) -> RungAlone | None:
        """The rung that settles as much as the whole ladder and is right more often; None where none is."""
        if self.held_out is None or not self.manifest["certificate"]["valid"]:
            return None
        groups = (self.manifest.get("dataset") or {}).get("held_out_groups")
        if groups is None:  # of before near copies were told apart: nothing sure can be said
            return None
        return rung_alone(self.held_out.scored, self.thresholds, groups)

    def to_json(self) -> dict[str, Any]:
        """Give everything as JSON values."""
        alone = self.better_alone
        keys = (
            "certificate",
            "metrics",
            "economy",
            "out_of_scope",
            "tried",
            "forecast",
            "dataset",
            "settings",
        )
        return {
            "node": self.node,
            "version": self.version,
            "traffic": self.traffic,
            "place": list(self.place),
            "caveats": list(self.caveats),
            "pulled_back": None if self.pulled_back is None else vars(self.pulled_back),
            "standing": self.standing.to_json(),
            **{key: self.manifest.get(key) for key in keys},
            "better_alone": None if alone is None else alone.to_json(),
            "alternatives": [vars(row) for row in self.rows],
            "validators": [record.to_json() for record in self.validators],
            "confusions": [vars(confusion) for confusion in self.confusions],
            "label_next": [vars(record) for record in self.to_label or ()],
            "ledger": None if self.ledger is None else self.ledger.to_json(),
            "retrainings": [vars(entry) for entry in self.retrainings],
        }


def gather(
    config: Config, node: OfflineNode, store: TrafficStore, progress: Progress = lambda _: None
) -> NodeReport:
    """Gather a node's report. Nothing outside the machine is asked."""
    manifest = node.bundle.manifest
    thresholds = [rung.threshold for rung in node.bundle.policy.rungs]
    progress("reading traffic")
    known = store.training_records(node.name)
    held_out = read_held_out(node.folder, manifest)
    teacher_call = teacher_price(
        config, node.name, price_texts(known), node.bundle.contract.labels, store.teacher_means(node.name)
    )
    price = teacher_call[0]
    rows: list[Row] = []
    judged: list[ValidatorRecord] = []
    confusions: list[Confusion] = []
    if held_out is not None:
        held_out = replace(held_out, scored=priced(held_out.scored, config, price))
        progress("judging validators")
        texts = _texts(held_out, known)
        rows = compare(held_out.scored, thresholds)
        judged = _judged(config, node, held_out, texts, price)
        confusions = confusions_of(held_out.scored, thresholds, node.bundle.contract.labels, texts)
    progress("choosing what to label next")
    to_label = label_next(config, node, store, known)
    progress("adding up costs")
    since, until = last_week(store, node.name)
    journal = read_journal(config, node.name)
    ledger = open_ledger(
        store.decisions(node.name, since, until), Window(since, until), audits_of(store, node.name, since),
        journal, config.costs.cpu_hour, price, config.nodes[node.name].ladder[-1],
    )  # fmt: skip
    ledger = replace(ledger, unresolved=unresolved_audits(store, node.name, since))
    return NodeReport(
        node.name, node.bundle.version, manifest, thresholds, held_out, rows, judged, confusions,
        store.counts(node.name), standing(config, node.name, node.folder, manifest, store), journal, to_label,
        ledger, rollout_place(config, node.name, node.bundle.version, store),
        pulled_back(config, node.name, node.bundle.version, store), teacher_call, config.costs.wrong_answer,
        config.nodes[node.name].ladder[-1], caveats(manifest, _before(journal, node.bundle.version)),
    )  # fmt: skip


def report_of_retraining(
    config: Config,
    name: str,
    manifest: Mapping[str, Any],
    scored: Scored,
    thresholds: list[float],
    judged: list[ValidatorRecord],
    teacher_call: float,
    said_with_it: Sequence[str] = (),
) -> NodeReport:
    """Give what a retraining itself knows: the report that is kept in the bundle, or with the refusal.

    Parameters
    ----------
    manifest : mapping
        As far as it is written.
    scored : Scored
        Of the held-out records.
    judged : list of ValidatorRecord
    teacher_call : float
        Dollars for one answer of the teacher.
    said_with_it : sequence of str
        The caveats.
    """
    scored = priced(scored, config, teacher_call)
    labels = manifest["contract"]["labels"]
    return NodeReport(
        name, "", manifest, thresholds, HeldOut(np.zeros(0, dtype=np.uint64), scored),
        compare(scored, thresholds), judged, confusions_of(scored, thresholds, labels, {}), {},
        Standing((), None), [], wrong_answer=config.costs.wrong_answer,
        teacher=config.nodes[name].ladder[-1], caveats=said_with_it,
    )  # fmt: skip


def _before(journal: Sequence[Retraining], version: str) -> Sequence[Retraining]:
    """Give the retrainings before the one that first gave a bundle; none where that is not known."""
    at = next((i for i, entry in enumerate(journal) if entry.version == version), 0)
    return journal[:at]


def price_texts(known: Sequence[TrainingRecord]) -> list[str]:
    """Give the newest texts of the traffic, by whose length the teacher's price may be worked out."""
    return [record.text for record in known[-200:]]


def priced(scored: Scored, config: Config, teacher: float) -> Scored:
    """Give the same records with the prices of today: the rungs' time counts as money."""
    local = np.nan_to_num(scored.rung_ms) * config.costs.cpu_hour / 3_600_000
    return replace(scored, rung_usd=np.nan_to_num(scored.rung_usd) + local, teacher_usd=teacher)


def _judged(
    config: Config,
    node: OfflineNode,
    held_out: HeldOut,
    texts: Mapping[int, TrainingRecord],
    teacher_call: float,
) -> list[ValidatorRecord]:
    """Judge a node's validators, with the times that the retraining measured where it did.

    What validators said then is in the bundle. Those that it was not certified with are asked now, about
    records whose text the traffic still holds; there they see the context that was logged.
    """
    bundle, labels, scored = node.bundle, node.bundle.contract.labels, held_out.scored
    scope = any(rung.in_scope_at_least > 0 for rung in bundle.policy.rungs)
    measured: dict[str, float] = (bundle.manifest.get("economy") or {}).get("check_micros") or {}
    micros = measured
    if not measured:
        some = [texts[i].text for i in list(texts)[:N_TIMED]]
        micros = measure_micros(bundle.ladder, node.contract, labels, some, scope)
    asks = [
        Ask(node.name, record.text, record.messages or (), record.context)
        if (record := texts.get(i)) is not None
        else None
        for i in range(len(scored.y))
    ]
    certified = list(bundle.manifest.get("validators", ()))
    parts = []
    for validator in node.validators:
        known_as = identity(validator)
        if scored.refused is not None and known_as in certified:
            stops = scored.refused[:, :, certified.index(known_as), None]
            name = name_of(validator)
            parts.append(Refusals((name,), stops, (measured.get(known_as, 0.0),)))
        else:
            parts.append(refusals([validator], asks, scored.answer, labels))
    own = Refusals(
        tuple(name for part in parts for name in part.names),
        np.concatenate([np.zeros((*scored.answer.shape, 0), dtype=bool), *(p.stops for p in parts)], axis=2),
        tuple(us for part in parts for us in part.micros),
    )
    return judge_validators(
        scored, [rung.threshold for rung in bundle.policy.rungs], node.contract, labels, own, micros,
        stakes_of(config, node.name, teacher_call), bundle.policy.agreement,
    )  # fmt: skip


def label_next(
    config: Config, node: OfflineNode, store: TrafficStore, known: Sequence[TrainingRecord]
) -> list[ToLabel]:
    """Choose what of a node's newest traffic is worth most to label: see `training.label_next`."""
    judged = {record.id for record in known if record.source == "outcome"}
    answers = {record.id: record.output for record in known}
    # A label that is reported on what only a local rung answered teaches nothing: see `training_records`.
    taught = (d for d in store.decisions(node.name) if d.decision_id in answers)
    newest = deque(taught, MAX_POOL)
    pool = [
        Candidate(d.decision_id, decision_text(d), answers[d.decision_id])
        for d in newest
        if d.decision_id not in judged
    ]
    room = MAX_POOL - len(pool)
    imported = [r for r in known if r.source == "import"][-room:] if room > 0 else []
    pool += [Candidate(record.id, record.text, record.output) for record in imported]
    hashes = text_hashes(candidate.text for candidate in pool)
    trained = read_trained(node.folder)
    fresh = np.ones(len(pool), dtype=bool) if trained is None else ~np.isin(hashes, trained)
    first = np.zeros(len(pool), dtype=bool)
    first[np.unique(hashes, return_index=True)[1]] = True
    pool = [candidate for candidate, keep in zip(pool, fresh & first, strict=True) if keep]
    if not pool:
        return []
    texts = [candidate.text for candidate in pool]
    seen: dict[str, NDArray[Any]] = dict(node.bundle.ladder.run_all(texts, with_chat=False))
    worth = node.bundle.policy.worth_running(seen["p_right"]) & (seen["answer"] >= 0)
    kinds = {entry["name"]: entry["kind"] for entry in node.bundle.manifest["rungs"]}
    encoder = next((name for name, kind in kinds.items() if kind == "encoder"), None)
    vectors = text_vectors(texts) if encoder is None else encoders_of(config)(encoder)[0](texts)
    thresholds = [rung.threshold for rung in node.bundle.policy.rungs]
    return choose(pool, seen, worth, thresholds, node.bundle.contract.labels, vectors, N_LABEL_NEXT)


def _texts(held_out: HeldOut, known: Sequence[TrainingRecord]) -> dict[int, TrainingRecord]:
    """Find the held-out records that the traffic still holds, by the hash of their text."""
    by_hash = dict(zip(text_hashes(record.text for record in known).tolist(), known, strict=True))
    found = {i: by_hash.get(text) for i, text in enumerate(held_out.texts.tolist())}
    return {i: record for i, record in found.items() if record is not None}


def confusions_of(
    scored: Scored, thresholds: Sequence[float], labels: Sequence[str], texts: Mapping[int, TrainingRecord]
) -> list[Confusion]:
    """Count what was settled wrong, with examples from the texts that are given."""
    first, _ = settle(scored, thresholds)
    local = np.flatnonzero(first < scored.right.shape[1])
    examples: dict[tuple[str, str], list[str]] = {}
    for i in local:
        answer = scored.answer[i, first[i]]
        if not scored.right[i, first[i]] and i in texts:
            truth = labels[scored.y[i]] if scored.y[i] >= 0 else "(unseen label)"
            examples.setdefault((truth, labels[answer]), []).append(texts[int(i)].text)
    return [
        Confusion(truth, answer, count, tuple(examples.get((truth, answer), [])[:N_EXAMPLES]))
        for truth, answer, count in wrong_pairs(scored, thresholds, labels)
    ]
