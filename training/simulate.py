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
from training.net_cost import measure_ms, teacher_line, teacher_price
from training.offline import OfflineNode
from training.own_validators import refusals
from training.replay import Charges, Floats, Replay, decision_text, parts, replay, strata_weights, stratum

Progress = Callable[[str], None]

N_TIMED = 60
MAX_COMPARED = 20_000
"""Decisions that the alternatives are measured on, at most: every rung runs for each of them."""


def replay_node(
    config: Config,
    node: OfflineNode,
    log: Log,
    store: TrafficStore,
    means: tuple[float, float] | None,
    seed: int,
    progress: Progress,
) -> Replay:
    """Replay a node's log through a bundle, at the prices of the configuration.

    Parameters
    ----------
    means : (usd, milliseconds), optional
        Of the teacher's answers in all of the node's traffic: what they cost where the log does not tell.
    """
    first = list(islice(log.decisions(store, node.name), N_TIMED))
    texts = [decision_text(decision) for decision in first]
    rung_ms = measure_ms(node.bundle.ladder, texts) if texts else np.zeros(len(node.bundle.policy.rungs))
    price, per_byte, source = teacher_line(config, node.name, node.bundle.contract.labels, means)
    entries = read_journal(config, node.name)
    per_retraining = float(np.mean([entry.usd for entry in entries])) if entries else 0.0
    charges = Charges(
        config.costs.cpu_hour, dict(zip((r.name for r in node.bundle.policy.rungs), rung_ms, strict=True)),
        config.costs.audit_share, per_retraining / config.costs.decisions_per_retraining,
    )  # fmt: skip
    found = replay(
        log.decisions(store, node.name), log.truths, node.bundle, node.contract, node.validators, charges,
        price, read_trained(node.folder), seed, progress, per_byte,
    )  # fmt: skip
    # Only said: what a bundle does is of interest while it is fenced, too, say to see what a change costs.
    teacher, manifest = teacher_of(config, node.name), node.bundle.manifest
    fences = (
        teacher_fence(manifest["certificate"], teacher),
        validators_fence(manifest.get("validators", ()), node.validators),
    )
    others = sum(count for name, count in log.teachers.items() if name != teacher.name)
    return replace(
        found, fence="; ".join(filter(None, fences)), n_other_teacher=others,
        price_from=found.price_from or source,
    )  # fmt: skip


def known_decisions(
    node: OfflineNode, log: Log, store: TrafficStore
) -> tuple[list[tuple[Decision, JsonValue]], Floats]:
    """Give the newest decisions whose right answer is known, less the texts that the bundle was trained on.

    Returns
    -------
    known : list of (Decision, JSON value)
        With their right answers.
    weight : float array of shape (n,)
        What each stands for: as in `training.replay`, those of the teacher and those of local rungs together
        count as much as in the log, each by one over the chance that it became known.
    """
    trained = read_trained(node.folder)
    known: list[tuple[Decision, JsonValue]] = []
    chance: list[float] = []
    of_stratum = [0, 0, 0]  # the last is nobody's
    for part in parts(log.decisions(store, node.name)):
        usable = [d for d in part if d.text is not None or d.messages]
        if trained is not None and usable:
            seen = np.isin(text_hashes(decision_text(decision) for decision in usable), trained)
            usable = [decision for decision, out in zip(usable, seen, strict=True) if not out]
        for decision in usable:
            of_stratum[stratum(decision)] += 1
            truth = log.truths.get(decision.decision_id)
            if truth is not None:
                known.append((decision, truth.output))
                chance.append(truth.weight)
    known, each = known[-MAX_COMPARED:], np.array(chance[-MAX_COMPARED:], dtype=np.float64)
    whose = np.array([stratum(decision) for decision, _ in known], dtype=np.int64)
    return known, strata_weights(each, ((whose == which, of_stratum[which]) for which in (0, 1)))


def alternatives(
    config: Config,
    node: OfflineNode,
    log: Log,
    store: TrafficStore,
    means: tuple[float, float] | None,
    progress: Progress = lambda _: None,
) -> list[Row]:
    """Measure the ladder beside always-teacher, best fixed rung, random mix and oracle on what is known.

    Known decisions count as in the replay, and the teacher's price is that of `replay_node`.
    """
    known, weight = known_decisions(node, log, store)
    if not weight.any():
        return []
    scored, thresholds = score(config, node, known, means, progress)
    return compare(scored, thresholds, None if np.allclose(weight, weight[0]) else weight)


def score(
    config: Config,
    node: OfflineNode,
    known: list[tuple[Decision, JsonValue]],
    means: tuple[float, float] | None,
    progress: Progress = lambda _: None,
) -> tuple[Scored, list[float]]:
    """Ask every trained rung about known decisions: what `training.evaluate` measures, and the thresholds."""
    bundle = node.bundle
    texts = [decision_text(decision) for decision, _ in known]
    seen: dict[str, NDArray[Any]] = dict(bundle.ladder.run_all(texts, with_chat=False))
    index = {label: i for i, label in enumerate(bundle.contract.labels)}
    y = np.array([index.get(truth, -1) if isinstance(truth, str) else -1 for _, truth in known])
    price, _ = teacher_price(config, node.name, texts, bundle.contract.labels, means)
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
