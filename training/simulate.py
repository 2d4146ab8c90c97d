"""The simulator on a node's log: the replay with the node's prices, and the alternatives it stands beside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.ask import Ask
from cascade.config import Config
from cascade.contract import JsonValue
from cascade.fences import teacher_fence, teacher_of
from cascade.policy.slices import SliceRules
from cascade.policy.walk import rungs_that_agree
from cascade.traffic import Decision, TrafficStore
from cascade.validators import identity, validators_fence
from training.evaluate import Row, Scored, compare
from training.held_out import read_trained, text_hashes
from training.journal import read_journal
from training.log import Log
from training.net_cost import measure_ms, teacher_price
from training.offline import OfflineNode
from training.own_validators import refusals
from training.replay import Charges, Replay, decision_text, replay

Progress = Callable[[str], None]

N_TIMED = 60
MAX_COMPARED = 20_000
"""Decisions that the alternatives are measured on, at most: every rung runs for each of them."""


def replay_node(
    config: Config, node: OfflineNode, log: Log, store: TrafficStore, seed: int, progress: Progress
) -> Replay:
    """Replay a node's log through a bundle, at the prices of the configuration."""
    first = list(islice(log.decisions(store, node.name), N_TIMED))
    texts = [decision_text(decision) for decision in first]
    rung_ms = measure_ms(node.bundle.ladder, texts) if texts else np.zeros(len(node.bundle.policy.rungs))
    price, _ = teacher_price(
        config, node.name, texts, node.bundle.contract.labels, store.teacher_means(node.name)
    )
    entries = read_journal(config, node.name)
    per_retraining = float(np.mean([entry.usd for entry in entries])) if entries else 0.0
    charges = Charges(
        config.costs.cpu_hour, dict(zip((r.name for r in node.bundle.policy.rungs), rung_ms, strict=True)),
        config.costs.audit_share, per_retraining / config.costs.decisions_per_retraining,
    )  # fmt: skip
    found = replay(
        log.decisions(store, node.name), log.truths, node.bundle, node.contract, node.validators, charges,
        price, read_trained(node.folder), seed, progress,
    )  # fmt: skip
    # Only said: what a bundle does is of interest while it is fenced, too, say to see what a change costs.
    teacher, manifest = teacher_of(config, node.name), node.bundle.manifest
    fences = (
        teacher_fence(manifest["certificate"], teacher),
        validators_fence(manifest.get("validators", ()), node.validators),
    )
    others = sum(count for name, count in log.teachers.items() if name != teacher.name)
    return replace(found, fence="; ".join(filter(None, fences)), n_other_teacher=others)


def known_decisions(node: OfflineNode, log: Log, store: TrafficStore) -> list[tuple[Decision, JsonValue]]:
    """Give the newest decisions whose right answer is known and whose text the bundle was not trained on."""
    trained = read_trained(node.folder)
    found = [
        (decision, log.truths[decision.decision_id].output)
        for decision in log.decisions(store, node.name)
        if decision.decision_id in log.truths and (decision.text is not None or decision.messages)
    ]
    if trained is not None and found:
        seen = np.isin(text_hashes(decision_text(decision) for decision, _ in found), trained)
        found = [pair for pair, out in zip(found, seen, strict=True) if not out]
    return found[-MAX_COMPARED:]


def alternatives(
    config: Config, node: OfflineNode, log: Log, store: TrafficStore, progress: Progress = lambda _: None
) -> list[Row]:
    """Measure the ladder beside always-teacher, best fixed rung, random mix and oracle on what is known.

    Each known decision counts once.
    """
    known = known_decisions(node, log, store)
    if not known:
        return []
    return compare(*score(config, node, known, store, progress))


def score(
    config: Config,
    node: OfflineNode,
    known: list[tuple[Decision, JsonValue]],
    store: TrafficStore,
    progress: Progress = lambda _: None,
) -> tuple[Scored, list[float]]:
    """Ask every trained rung about known decisions: what `training.evaluate` measures, and the thresholds."""
    bundle = node.bundle
    texts = [decision_text(decision) for decision, _ in known]
    seen: dict[str, NDArray[Any]] = dict(bundle.ladder.run_all(texts, with_chat=False))
    index = {label: i for i, label in enumerate(bundle.contract.labels)}
    y = np.array([index.get(truth, -1) if isinstance(truth, str) else -1 for _, truth in known])
    price, _ = teacher_price(config, node.name, texts, bundle.contract.labels, store.teacher_means(node.name))
    economy = bundle.manifest.get("economy", {})
    n_rungs = len(bundle.policy.rungs)
    rung_ms = np.array(economy.get("rung_ms", [np.nan] * n_rungs))
    rung_usd = np.array(economy.get("rung_usd", [0.0] * n_rungs))
    worth = bundle.policy.worth_running(seen["p_right"])
    agree = rungs_that_agree(worth, seen["answer"])
    scored = Scored(
        confidence=seen["confidence"].astype(np.float64),
        right=seen["answer"] == y[:, None],
        p_right=seen["p_right"].astype(np.float64),
        p_top=seen["p_top"].astype(np.float64),
        worth=worth,
        y=y,
        answer=seen["answer"],
        rungs=tuple(rung.name for rung in bundle.policy.rungs),
        rung_usd=rung_usd + np.nan_to_num(rung_ms) * config.costs.cpu_hour / 3_600_000,
        rung_ms=rung_ms,
        teacher_usd=price,
        teacher_ms=np.nan,
        admitted=bundle.policy.admits(seen["in_scope"]) & (agree | (not bundle.policy.agreement)),
    )
    allowed, asked = _slices(bundle.policy.slices, scored, known, bundle.contract.labels)
    scored = scored.sliced(allowed, asked)
    thresholds = [rung.threshold for rung in bundle.policy.rungs]
    return _validated(node, scored, known, thresholds, progress), thresholds


def _validated(
    node: OfflineNode,
    scored: Scored,
    known: list[tuple[Decision, JsonValue]],
    thresholds: Sequence[float],
    progress: Progress,
) -> Scored:
    """Take the node's own validators into account: asked, as in serving, about what would settle else."""
    bundle = node.bundle
    assert scored.admitted is not None
    assert scored.allowed is not None
    assert scored.strictness is not None
    enough = scored.confidence >= 1 - (1 - np.asarray(thresholds)) * scored.strictness
    asks = [
        Ask(node.name, decision_text(decision), decision.messages or (), decision.context)
        for decision, _ in known
    ]
    answers = np.where(scored.worth & scored.admitted & enough, scored.answer, -1).astype(np.int64)
    own = refusals(node.validators, asks, answers, bundle.contract.labels, progress)
    certified = bundle.manifest.get("validators", ())
    next_rung, to_teacher = own.by_certificate([identity(each) in certified for each in node.validators])
    return replace(
        scored, admitted=scored.admitted & ~next_rung, allowed=scored.allowed & ~to_teacher, refused=own.stops
    )


def _slices(
    rules: SliceRules, scored: Scored, known: list[tuple[Decision, JsonValue]], labels: Sequence[str]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Say which answers lie in slices that are settled, and what those slices ask: both (n, n_rungs)."""
    allowed = np.ones(scored.answer.shape, dtype=bool)
    asked = np.ones(scored.answer.shape)
    for i, (decision, _) in enumerate(known):
        for r, answer in enumerate(scored.answer[i]):
            label = labels[answer] if answer >= 0 else None
            allowed[i, r] = not rules.why_not(label, decision.context)
            asked[i, r] = rules.asked(label, decision.context)
    return allowed, asked
